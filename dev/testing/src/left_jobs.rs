//! Jobs that a test leaves queued or running. It must name their kinds, or it fails.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sqlx::{Connection, PgConnection};
use tokio::time::sleep;

/// How long workers may take to run the jobs that are due when their test ends. Many tests share few cores.
const PATIENCE: Duration = Duration::from_secs(30);

/// The jobs that may be left in the database of a test. Each worker of the test holds a weak pointer to it.
#[derive(Debug)]
pub(crate) struct LeftJobs {
    database_url: String,
    /// Kinds; None while jobs are not checked.
    allowed: Mutex<Option<BTreeSet<String>>>,
}

impl LeftJobs {
    pub(crate) fn unchecked(database_url: String) -> Self {
        Self { database_url, allowed: Mutex::default() }
    }

    pub(crate) fn check(&self) {
        self.allowed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default();
    }

    pub(crate) fn allow(&self, kind: &str) {
        let mut allowed = self.allowed.lock().unwrap_or_else(PoisonError::into_inner);
        allowed.get_or_insert_default().insert(kind.to_owned());
    }

    /// Waits until a worker has run the jobs that are due soon, except those that may be left.
    pub(crate) fn wait_for_worker(&self) {
        let Some(allowed) = self.allowed() else { return };
        block_on(async {
            let mut connection = PgConnection::connect(&self.database_url).await?;
            wait(&mut connection, &allowed).await?;
            connection.close().await
        });
    }

    /// Describes the jobs that are left but may not be.
    pub(crate) fn complaint(self: &Arc<Self>) -> Option<String> {
        let allowed = self.allowed()?;
        let left = block_on(async {
            let mut connection = PgConnection::connect(&self.database_url).await?;
            if Arc::weak_count(self) > 0 {
                wait(&mut connection, &allowed).await?;
            }
            let left = left(&mut connection, &allowed, false).await?;
            connection.close().await?;
            Ok(left)
        });
        (!left.is_empty()).then(|| format!("the test leaves jobs queued or running, and does not allow it: {left:?}"))
    }

    /// The kinds that may be left; None if all may, as after the test has failed.
    fn allowed(&self) -> Option<Vec<String>> {
        if std::thread::panicking() {
            return None;
        }
        let allowed = self.allowed.lock().unwrap_or_else(PoisonError::into_inner);
        Some(allowed.as_ref()?.iter().cloned().collect())
    }
}

async fn wait(connection: &mut PgConnection, allowed: &[String]) -> sqlx::Result<()> {
    let started = Instant::now();
    while !left(connection, allowed, true).await?.is_empty() && started.elapsed() < PATIENCE {
        sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

/// How many jobs of each kind are queued or running.
async fn left(
    connection: &mut PgConnection,
    allowed: &[String],
    only_soon: bool,
) -> sqlx::Result<BTreeMap<String, i64>> {
    let left: Vec<(String, i64)> = sqlx::query_as(
        "SELECT kind, count(*) FROM jobs
         WHERE status IN ('queued', 'running') AND kind <> ALL ($1) AND (run_at <= now() + interval '5 seconds' OR NOT $2)
         GROUP BY kind",
    )
    .bind(allowed)
    .bind(only_soon)
    .fetch_all(connection)
    .await?;
    Ok(left.into_iter().collect())
}

/// Waits for `work` on another thread, because a `drop` cannot wait on the runtime of the test.
fn block_on<T: Send>(work: impl Future<Output = sqlx::Result<T>> + Send) -> T {
    let outcome = std::thread::scope(|scope| {
        let work = || tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work);
        scope.spawn(work).join().expect("reading jobs does not panic")
    });
    outcome.expect("the jobs of the test can be read")
}
