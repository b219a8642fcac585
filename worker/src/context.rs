//! What all parts of one worker process share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use shared::error::ErrorClass;
use shared::platform::config::{Database, Settings};
use shared::platform::db::{self, Pool};
use shared::platform::telemetry::LogLimit;
use shared::queue::notify::Notifier;
use shared::{Error, Result};
use sqlx::Connection;
use tokio_util::sync::CancellationToken;

use crate::mail::Delivery;
use crate::maintenance::services::Services;
use crate::queue::acknowledge::Acks;
use crate::queue::claim::Queue;
use crate::queue::job::Tasks;
use crate::queue::leases::Leases;
use crate::queue::quarantine::Quarantine;

/// Connections for the upkeep of the ledger: the listener and the renewals hold one each, and a sweep
/// may take long; claims, acknowledgements and rescues share the others.
const UPKEEP_CONNECTIONS: u32 = 6;

/// What all parts of one worker process share.
pub(crate) struct WorkerContext {
    pub settings: Arc<Settings>,
    pub tasks: Tasks,
    pub queues: Vec<Arc<Queue>>,
    /// For handlers.
    pub pool: Pool,
    /// For the ledger's upkeep, which must not wait for handlers that hold all connections.
    pub upkeep: Pool,
    pub notifier: Notifier,
    pub leases: Arc<Leases>,
    pub acks: Acks,
    pub gate: Quarantine,
    pub database: DatabaseHealth,
    pub services: Services,
    /// Jobs that wait for the database are many at once, and are logged now and then.
    pub waits: LogLimit,
    /// Whether the database has had the schema of this version; before that, nothing is done.
    pub has_schema: AtomicBool,
    /// Mails, if this process sends them.
    pub delivery: Option<Arc<Delivery>>,
    /// The process was told to stop: claim nothing more, hand back at the next step.
    pub stopping: CancellationToken,
    /// The time to stop in is nearly over: handlers are dropped where they are.
    pub aborting: CancellationToken,
}

impl WorkerContext {
    pub fn new(
        settings: &Settings,
        tasks: Tasks,
        queues: &[&'static str],
        acks: Acks,
        delivery: Option<Arc<Delivery>>,
    ) -> Result<Arc<Self>> {
        let upkeep = Database { max_connections: UPKEEP_CONNECTIONS, ..settings.database.clone() };
        let upkeep = db::pool(&upkeep, "crm-worker upkeep")?;
        let concurrency = settings.worker.concurrency;
        Ok(Arc::new(Self {
            settings: Arc::new(settings.clone()),
            tasks,
            queues: queues.iter().map(|queue| Arc::new(Queue::new(queue, concurrency))).collect(),
            pool: db::pool(&settings.database, "crm-worker")?,
            notifier: Notifier::new(upkeep.clone()),
            upkeep,
            leases: Arc::default(),
            acks,
            gate: Quarantine::default(),
            database: DatabaseHealth::default(),
            services: Services::default(),
            waits: LogLimit::each_minute(),
            has_schema: AtomicBool::new(false),
            delivery,
            stopping: CancellationToken::new(),
            aborting: CancellationToken::new(),
        }))
    }

    /// How long a handler keeps its slot while it can have no connection, though others can.
    const PATIENCE: Duration = Duration::from_secs(10);

    /// Runs one operation of the upkeep, and notes whether the database answered.
    pub async fn upkeep<T>(&self, operation: impl AsyncFnOnce(&mut sqlx::PgConnection) -> Result<T>) -> Result<T> {
        let result = match self.upkeep.acquire().await {
            Ok(mut connection) => operation(&mut connection).await,
            Err(error) => Err(error),
        };
        self.database.record(&result);
        result
    }

    /// Waits until a handler can have a connection. False: the database answers others, but not for this,
    /// so that it is better to wait without a slot.
    pub async fn wait_for_connection(&self) -> bool {
        let began = Instant::now();
        loop {
            tokio::time::sleep(jittered(Duration::from_millis(500))).await;
            if let Ok(mut connection) = self.pool.acquire().await
                && connection.ping().await.is_ok()
            {
                return true;
            }
            if began.elapsed() > Self::PATIENCE && !self.database.is_away() {
                return false;
            }
        }
    }

    /// Waits until the database answers.
    pub async fn wait_for_database(&self) {
        loop {
            tokio::time::sleep(jittered(Duration::from_millis(500))).await;
            if self.upkeep(async |connection| Ok(connection.ping().await?)).await.is_ok() {
                return;
            }
        }
    }
}

/// Whether the database answers, as the upkeep feels it.
pub(crate) struct DatabaseHealth {
    began: Instant,
    away: AtomicBool,
    /// Lines about that, which may come and go many times a second.
    limit: LogLimit,
    is_logged: AtomicBool,
    /// Milliseconds from the beginning to the last answer, and to the last time there was none.
    answered: AtomicU64,
    missed: AtomicU64,
}

impl Default for DatabaseHealth {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            away: AtomicBool::new(false),
            limit: LogLimit::each_minute(),
            is_logged: AtomicBool::new(false),
            answered: AtomicU64::new(0),
            missed: AtomicU64::new(0),
        }
    }
}

impl DatabaseHealth {
    /// Notes whether the database answered. One that answers that its disk is full can be used for some things;
    /// but leases may not have been renewed meanwhile, so it counts as a miss, too.
    pub fn record<T>(&self, result: &Result<T>) {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
        if let Err(Error::Unavailable(_)) = result {
            self.missed.store(now, Relaxed);
        }
        match result {
            Err(error) if error.class() == ErrorClass::Connection => {
                let is_new = !self.away.swap(true, Relaxed);
                if let Some(left_out) = self.limit.allows() {
                    self.is_logged.store(true, Relaxed);
                    let what =
                        if is_new { "the database is away; waiting for it" } else { "the database is still away" };
                    tracing::warn!(%error, left_out, "{what}");
                }
            }
            _ => {
                self.answered.store(now, Relaxed);
                if self.away.swap(false, Relaxed) && self.is_logged.swap(false, Relaxed) {
                    tracing::info!("the database is back");
                }
            }
        }
    }

    /// Whether the last who asked had no answer.
    pub fn is_away(&self) -> bool {
        self.away.load(Relaxed)
    }

    /// How long ago the database answered last.
    pub fn since_answer(&self) -> Option<Duration> {
        self.since(&self.answered)
    }

    /// How long ago it did not answer.
    pub fn since_miss(&self) -> Option<Duration> {
        self.since(&self.missed)
    }

    fn since(&self, moment: &AtomicU64) -> Option<Duration> {
        let moment = moment.load(Relaxed);
        (moment > 0).then(|| self.began.elapsed().saturating_sub(Duration::from_millis(moment)))
    }
}

/// About as long, so that the processes of a cluster do not act in step.
pub(crate) fn jittered(duration: Duration) -> Duration {
    duration.mul_f64(rand::random_range(0.8..1.2))
}
