//! Jobs that a test leaves queued or running: it says which, or it fails.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sqlx::{Connection, PgConnection};
use tokio::time::sleep;

/// How long workers may take to run what is due when their test ends. Generous, since many tests
/// share few cores.
const PATIENCE: Duration = Duration::from_secs(30);

/// Which jobs may be left in the database of a test. Each of its workers has a weak pointer to this.
#[derive(Debug)]
pub(crate) struct LeftJobs {
    database_url: String,
    /// Kinds; None while nobody has asked for the check.
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

    /// Waits while a worker runs the jobs that are due soon, except those that may be left.
    pub(crate) fn wait_for_worker(&self) {
        let Some(allowed) = self.allowed() else { return };
        block_on(async {
            let mut connection = PgConnection::connect(&self.database_url).await?;
            wait(&mut connection, &allowed).await?;
            connection.close().await
        });
    }

    /// A sentence about the jobs that are left and should not be.
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

    /// The kinds that may be left; None if all of them may, as when the test has failed already.
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

/// Waits for `work` on a thread of its own: a value that is dropped cannot wait on the test's runtime.
fn block_on<T: Send>(work: impl Future<Output = sqlx::Result<T>> + Send) -> T {
    let outcome = std::thread::scope(|scope| {
        let work = || tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work);
        scope.spawn(work).join().expect("reading jobs does not panic")
    });
    outcome.expect("the jobs of the test can be read")
}
