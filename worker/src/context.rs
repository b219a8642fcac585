//! The state that all parts of a worker process share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use shared::error::ErrorClass;
use shared::operations::gauges::Gauges;
use shared::platform::config::{Database, Settings};
use shared::platform::db::{self, Pool};
use shared::platform::telemetry::LogLimit;
use shared::queue::notify::Notifier;
use shared::{Error, Result};
use sqlx::Connection;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::mail::Delivery;
use crate::mail::hold::HoldState;
use crate::maintenance::services::Services;
use crate::metrics::WorkerMetrics;
use crate::queue::acknowledge::Acks;
use crate::queue::claim::Queue;
use crate::queue::job::Tasks;
use crate::queue::leases::Leases;
use crate::queue::quarantine::Quarantine;
use crate::steering::Steering;
use crate::webhooks::Webhooks;

/// Connections for maintaining the queue: the listener and the renewals hold one each, and a sweep
/// may take long. Claims, acknowledgements and rescues share the others.
const UPKEEP_CONNECTIONS: u32 = 6;

/// The connection that receives notifications, and the one that reads the gauges of the cluster while somebody asks
/// for them.
const LISTENERS: u32 = 2;
/// Connections that cancel statements, at most.
const CANCELLERS: u32 = 3;

/// What PostgreSQL calls the connections of a worker: by it, operators find the worker of a statement.
pub(crate) fn application_name(worker_id: Uuid, part: &str) -> String {
    let id = worker_id.simple().to_string();
    format!("crm-worker {}{part}", &id[..8])
}

pub(crate) struct WorkerContext {
    pub settings: Arc<Settings>,
    pub tasks: Tasks,
    pub queues: Vec<Arc<Queue>>,
    /// For handlers.
    pub pool: Pool,
    /// For maintaining the queue, which must not wait for handlers that hold all other connections.
    pub upkeep: Pool,
    pub notifier: Notifier,
    pub leases: Arc<Leases>,
    pub acks: Acks,
    pub gate: Quarantine,
    pub database: DatabaseHealth,
    pub services: Services,
    /// Limits the log lines about jobs that wait for the database, which may be many at once.
    pub waits: LogLimit,
    /// Whether the database has the schema of this version. No jobs are claimed before.
    pub has_schema: AtomicBool,
    /// What operators let this process do.
    pub steering: Steering,
    /// Whether email is on hold, as this process last found.
    pub hold: HoldState,
    /// Present if this process sends email.
    pub delivery: Option<Arc<Delivery>>,
    /// Present if this process delivers webhooks.
    pub hooks: Option<Arc<Webhooks>>,
    /// What this process counts.
    pub metrics: WorkerMetrics,
    /// The gauges of the cluster.
    pub gauges: Gauges,
    /// Wakes whoever waits for events that this process numbers.
    pub numbered: Notify,
    /// Cancelled when the process must stop: no job is claimed, and jobs are handed back after
    /// their step.
    pub stopping: CancellationToken,
    /// Cancelled shortly before the shutdown timeout: handlers are dropped.
    pub aborting: CancellationToken,
}

impl WorkerContext {
    pub fn new(
        settings: &Settings,
        tasks: Tasks,
        queues: &[&'static str],
        acks: Acks,
        (delivery, hooks): (Option<Arc<Delivery>>, Option<Arc<Webhooks>>),
        worker_id: Uuid,
    ) -> Result<Arc<Self>> {
        let upkeep = Database { max_connections: UPKEEP_CONNECTIONS, ..settings.database.clone() };
        let upkeep = db::batch_pool(&upkeep, &application_name(worker_id, " upkeep"))?;
        let concurrency = settings.worker.concurrency;
        let metrics = WorkerMetrics::new(&tasks, queues, concurrency, (delivery.is_some(), hooks.is_some()));
        let of_queue = |name: &&'static str| Queue::new(name, concurrency, metrics.queues.of(name));
        let process = Self {
            settings: Arc::new(settings.clone()),
            tasks,
            queues: queues.iter().map(of_queue).map(Arc::new).collect(),
            pool: db::batch_pool(&settings.database, &application_name(worker_id, ""))?,
            notifier: Notifier::new(upkeep.clone()),
            upkeep: upkeep.clone(),
            leases: Arc::default(),
            acks,
            gate: Quarantine::default(),
            database: DatabaseHealth::default(),
            services: Services::default(),
            waits: LogLimit::each_minute(),
            has_schema: AtomicBool::new(false),
            steering: Steering::new(worker_id),
            hold: HoldState::default(),
            delivery,
            hooks,
            metrics,
            gauges: Gauges::new(upkeep),
            numbered: Notify::new(),
            stopping: CancellationToken::new(),
            aborting: CancellationToken::new(),
        };
        process.metrics.add_pools(&process);
        Ok(Arc::new(process))
    }

    /// How many connections to the database this process opens at most.
    pub fn max_connections(&self) -> u32 {
        let pools = [Some(&self.pool), Some(&self.upkeep), self.delivery.as_ref().map(|it| &it.pool)];
        let pools = pools.into_iter().chain([self.hooks.as_ref().map(|it| &it.pool)]).flatten();
        let pools: u32 = pools.map(Pool::max_connections).sum();
        pools.saturating_add(LISTENERS + CANCELLERS)
    }

    /// How long a handler that gets no connection keeps its slot, while the database answers
    /// others.
    const PATIENCE: Duration = Duration::from_secs(10);

    /// Runs an operation on a maintenance connection, and records whether the database answered.
    pub async fn upkeep<T>(&self, operation: impl AsyncFnOnce(&mut sqlx::PgConnection) -> Result<T>) -> Result<T> {
        let result = match self.upkeep.acquire().await {
            Ok(mut connection) => operation(&mut connection).await,
            Err(error) => Err(error),
        };
        self.database.record(&result);
        result
    }

    /// Waits until a handler can get a connection. Returns `false` if the handler should wait
    /// without its slot, because the database answers others.
    pub async fn wait_for_connection(&self) -> bool {
        let began = Instant::now();
        loop {
            tokio::time::sleep(jittered(Duration::from_millis(500))).await;
            if let Ok(mut connection) = self.pool.acquire().await
                && connection.ping().await.is_ok()
            {
                return true;
            }
            if began.elapsed() > Self::PATIENCE && !self.database.is_unavailable() {
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

/// Whether the database answers, as the maintenance operations observe it.
pub(crate) struct DatabaseHealth {
    began: Instant,
    unavailable: AtomicBool,
    /// Limits the log lines, since the state may change many times a second.
    limit: LogLimit,
    is_logged: AtomicBool,
    /// Milliseconds from `began` to the last answer, and to the last missing answer.
    answered: AtomicU64,
    missed: AtomicU64,
    /// How often a node could not be reached, by the last time.
    missed_nodes: AtomicU64,
}

impl Default for DatabaseHealth {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            unavailable: AtomicBool::new(false),
            limit: LogLimit::each_minute(),
            is_logged: AtomicBool::new(false),
            answered: AtomicU64::new(0),
            missed: AtomicU64::new(0),
            missed_nodes: AtomicU64::new(0),
        }
    }
}

impl DatabaseHealth {
    /// Records whether the database answered. An error such as a full disk is an answer, but counts
    /// as a miss as well, since leases may not have been renewed meanwhile.
    pub fn record<T>(&self, result: &Result<T>) {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
        let missed = shared::error::missed_nodes();
        if self.missed_nodes.swap(missed, Relaxed) != missed || matches!(result, Err(Error::Unavailable(_))) {
            self.missed.store(now, Relaxed);
        }
        match result {
            Err(error) if error.class() == ErrorClass::Connection => {
                let is_new = !self.unavailable.swap(true, Relaxed);
                if let Some(left_out) = self.limit.allows() {
                    self.is_logged.store(true, Relaxed);
                    let still = if is_new { "" } else { " still" };
                    tracing::warn!(%error, left_out, "the database is{still} unavailable");
                }
            }
            _ => {
                self.answered.store(now, Relaxed);
                if self.unavailable.swap(false, Relaxed) && self.is_logged.swap(false, Relaxed) {
                    tracing::info!("the database is available again");
                }
            }
        }
    }

    /// Whether the last operation got no answer.
    pub fn is_unavailable(&self) -> bool {
        self.unavailable.load(Relaxed)
    }

    /// The time since the last answer.
    pub fn since_answer(&self) -> Option<Duration> {
        self.since(&self.answered)
    }

    /// The time since the last missing answer.
    pub fn since_miss(&self) -> Option<Duration> {
        self.since(&self.missed)
    }

    fn since(&self, moment: &AtomicU64) -> Option<Duration> {
        let moment = moment.load(Relaxed);
        (moment > 0).then(|| self.began.elapsed().saturating_sub(Duration::from_millis(moment)))
    }
}

/// Adds 20% of jitter, so that the processes of a cluster do not act in lockstep.
pub(crate) fn jittered(duration: Duration) -> Duration {
    duration.mul_f64(rand::random_range(0.8..1.2))
}
