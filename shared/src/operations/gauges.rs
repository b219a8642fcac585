//! Gauges of the whole cluster: work that waits, workspaces, schedules, workers and the database.
//!
//! Every process has the same ones, so it does not matter which is scraped. A process reads them only while
//! somebody asks for them, and a page shows the last known values: it never waits for the database. How often a
//! part is read depends on how long that takes, so that reading costs little however much work waits.

mod page;
mod read;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::PgConnection;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout};

pub use read::{DUE_WEBHOOKS, FAILED_JOBS, LAST_SUCCESSES, OPEN_EMAILS, OPEN_JOBS};

use crate::error::{Error, ErrorClass, Result};
use crate::platform::db::Pool;
use crate::queue::{Paused, QUEUES};
use read::{Database, Emails, Jobs, Schedules, Webhooks, Workers, Workspaces};

/// Nothing is read after nobody has asked for so long.
const IDLE: Duration = Duration::from_secs(60);
/// How long the first page after an idle time waits for new values.
const FIRST: Duration = Duration::from_millis(80);
/// A part is read again after this time, or after so many times the time that reading it took, at most a minute. So
/// each part takes half a percent of a core.
const EVERY: Duration = Duration::from_secs(10);
const SHARE: u32 = 200;
const AT_LEAST_EVERY: Duration = Duration::from_secs(60);
/// The same for a part whose statement took too long, so that it is not missed for long.
const SHARE_OF_ERRORS: u32 = 20;
/// How long the server may take for a statement, and this process for connecting and for reading a part.
const STATEMENT_TIMEOUT: &str = "2s";
const PATIENCE: Duration = Duration::from_secs(3);

/// The gauges of the cluster, as this process last read them.
#[derive(Debug)]
pub struct Gauges {
    pool: Pool,
    sample: Mutex<Sample>,
    /// When somebody last asked.
    asked: Mutex<Option<Instant>>,
    wake: Notify,
    /// How often all parts that were due have been read.
    rounds: watch::Sender<u64>,
}

/// The parts, which are read one by one, so that one that fails leaves the others alone.
#[derive(Debug, Default)]
struct Sample {
    workers: Part<Workers>,
    jobs: Part<Jobs>,
    emails: Part<Emails>,
    webhooks: Part<Webhooks>,
    schedules: Part<Schedules>,
    workspaces: Part<Workspaces>,
    database: Part<Database>,
}

/// A part with its last value.
#[derive(Debug)]
struct Part<T> {
    value: Option<Arc<T>>,
    /// When the value was read, and how long that took.
    read_at: Option<Instant>,
    took: Duration,
    /// Whether the last reading succeeded; `None` before the first.
    succeeded: Option<bool>,
    due_at: Option<Instant>,
}

impl<T> Default for Part<T> {
    fn default() -> Self {
        Self { value: None, read_at: None, took: Duration::ZERO, succeeded: None, due_at: None }
    }
}

impl<T> Part<T> {
    fn is_due(&self) -> bool {
        self.due_at.is_none_or(|due| due <= Instant::now())
    }

    fn record(&mut self, began: Instant, result: Result<T>) {
        let took = began.elapsed();
        self.succeeded = Some(result.is_ok());
        let pause = match result {
            Ok(value) => {
                (self.value, self.read_at, self.took) = (Some(Arc::new(value)), Some(began), took);
                took * SHARE
            }
            Err(error) if error.class() == ErrorClass::Connection => EVERY,
            Err(error) => {
                tracing::debug!(%error, "gauges of the cluster cannot be read");
                took * SHARE_OF_ERRORS
            }
        };
        self.due_at = Some(Instant::now() + pause.clamp(EVERY, AT_LEAST_EVERY));
    }
}

impl Sample {
    /// The queues of this version, and those of workers of another one.
    fn queues(&self) -> Vec<String> {
        let others =
            self.workers.value.iter().flat_map(|workers| &workers.all).flat_map(|worker| worker.queues.clone());
        let queues: BTreeSet<String> = QUEUES.iter().map(|queue| (*queue).to_owned()).chain(others).collect();
        queues.into_iter().collect()
    }

    /// What nobody claims.
    fn paused(&self) -> Option<&Paused> {
        self.workers.value.as_ref().map(|workers| &workers.paused)
    }

    fn next_due(&self) -> Instant {
        let due = [
            self.workers.due_at,
            self.jobs.due_at,
            self.emails.due_at,
            self.webhooks.due_at,
            self.schedules.due_at,
            self.workspaces.due_at,
            self.database.due_at,
        ];
        due.into_iter().flatten().min().unwrap_or_else(Instant::now)
    }
}

/// Reads a part that is due over the connection of this round, and records the result.
macro_rules! read {
    ($gauges:ident, $connection:ident, $part:ident, $read:expr) => {
        if $gauges.sample().$part.is_due() {
            let began = Instant::now();
            let result = $connection.read($read).await;
            $gauges.sample().$part.record(began, result);
        }
    };
}

impl Gauges {
    /// Gauges that are read over a connection of their own, since those of the pool may all be in use.
    #[must_use]
    pub fn new(pool: Pool) -> Self {
        let (rounds, _) = watch::channel(0);
        Self { pool, sample: Mutex::default(), asked: Mutex::default(), wake: Notify::new(), rounds }
    }

    /// The page with the last known values.
    pub async fn page(&self) -> String {
        let mut rounds = self.rounds.subscribe();
        if self.ask() {
            let _ = timeout(FIRST, rounds.changed()).await;
        }
        page::render(&self.sample())
    }

    /// Reads the gauges for as long as somebody asks for them. Never returns.
    pub async fn keep(&self) {
        let mut connection = Reader { pool: self.pool.clone(), connection: None, is_reachable: true };
        loop {
            if !self.is_wanted() {
                connection.connection = None;
                self.wake.notified().await;
                continue;
            }
            connection.is_reachable = true;
            read!(self, connection, workers, read::workers);
            read!(self, connection, database, read::database);
            let queues = self.sample().queues();
            read!(self, connection, jobs, async |it: &mut PgConnection| read::jobs(it, &queues).await);
            read!(self, connection, emails, read::emails);
            read!(self, connection, webhooks, read::webhooks);
            let suspended: Vec<_> = self.sample().paused().map(|it| it.suspended().to_vec()).unwrap_or_default();
            read!(self, connection, schedules, async |it: &mut PgConnection| read::schedules(it, &suspended).await);
            let busiest: Vec<_> = page::busiest(&self.sample()).into_iter().map(|busy| busy.workspace_id).collect();
            read!(self, connection, workspaces, async |it: &mut PgConnection| read::workspaces(it, &busiest).await);
            self.rounds.send_modify(|rounds| *rounds += 1);
            let due = self.sample().next_due();
            sleep_until(due).await;
        }
    }

    /// Notes that somebody asks. Returns whether nobody has asked for a while, so that the values are old.
    fn ask(&self) -> bool {
        let was_idle = !self.is_wanted();
        *lock(&self.asked) = Some(Instant::now());
        self.wake.notify_one();
        was_idle
    }

    fn is_wanted(&self) -> bool {
        lock(&self.asked).is_some_and(|asked| asked.elapsed() < IDLE)
    }

    fn sample(&self) -> MutexGuard<'_, Sample> {
        lock(&self.sample)
    }
}

/// The connection that gauges are read over.
struct Reader {
    pool: Pool,
    connection: Option<PgConnection>,
    /// Whether the database could be reached in this round.
    is_reachable: bool,
}

impl Reader {
    /// Reads in a transaction that changes nothing, and that neither scans a table nor takes long.
    async fn read<T>(&mut self, read: impl AsyncFnOnce(&mut PgConnection) -> Result<T>) -> Result<T> {
        let mut connection = self.connect().await?;
        let reading = async {
            sqlx::raw_sql("BEGIN READ ONLY").execute(&mut connection).await?;
            sqlx::query("SELECT set_config('statement_timeout', $1, true), set_config('enable_seqscan', 'off', true)")
                .bind(STATEMENT_TIMEOUT)
                .execute(&mut connection)
                .await?;
            let value = read(&mut connection).await?;
            sqlx::raw_sql("ROLLBACK").execute(&mut connection).await?;
            Ok::<T, Error>(value)
        };
        // After an error the connection is closed instead of cleaned.
        let value = timeout(PATIENCE, reading).await.map_err(|_| too_slow())??;
        self.connection = Some(connection);
        Ok(value)
    }

    async fn connect(&mut self) -> Result<PgConnection> {
        match self.connection.take() {
            Some(connection) => Ok(connection),
            None if self.is_reachable => {
                let connected = timeout(PATIENCE, self.pool.connect()).await.unwrap_or_else(|_| Err(too_slow()));
                self.is_reachable = connected.is_ok();
                connected
            }
            None => Err(too_slow()),
        }
    }
}

fn too_slow() -> Error {
    Error::Unavailable(sqlx::Error::PoolTimedOut)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
