//! Delivery of webhooks.
//!
//! A task finds workspaces with work and claims them, one task for each claimed workspace delivers, and another renews
//! the leases. [`shared::webhooks`] documents the guarantees.

mod client;
mod connector;
mod lane;
mod slots;
mod workspace;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use shared::Result;
use shared::events::EventId;
use shared::platform::config::{Database, Settings};
use shared::platform::db::{self, CLOCK, Pool};
use shared::queue::{Claimant, RENEW_EVERY};
use shared::webhooks::{self, Attempt, Candidate, Due, Hold, Sealer, Target};
use sqlx::PgConnection;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::context::{WorkerContext, application_name, jittered};
use crate::queue::claim::POLL_EVERY;
use crate::queue::leases::lock;

use client::{Message, ReceiverClient};
use slots::Slots;
use workspace::{Signals, Workspace};

/// The connections to the database: one each for finding work and for renewing leases, the others for workspaces.
const CONNECTIONS: u32 = 6;
/// How often work is looked for at most.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The state of delivery that the parts of a worker process share.
pub(crate) struct Webhooks {
    pub pool: Pool,
    sealer: Sealer,
    client: ReceiverClient,
    pub wake: Notify,
    pub slots: Arc<Slots>,
    pub counts: Counts,
    held: Mutex<HashMap<Hold, Arc<Signals>>>,
}

impl Webhooks {
    pub fn new(settings: &Settings, worker_id: Uuid) -> anyhow::Result<Self> {
        let database = Database { max_connections: CONNECTIONS, ..settings.database.clone() };
        Ok(Self {
            pool: db::pool(&database, &application_name(worker_id, " webhooks"))?,
            sealer: Sealer::new(&settings.webhooks),
            client: ReceiverClient::new(&settings.webhooks, connector::system)?,
            wake: Notify::new(),
            slots: Arc::default(),
            counts: Counts::default(),
            held: Mutex::default(),
        })
    }

    /// Runs an operation on the database, and records whether it answered.
    async fn with<T>(
        &self,
        process: &WorkerContext,
        operation: impl AsyncFnOnce(&mut PgConnection) -> Result<T>,
    ) -> Result<T> {
        let result = match self.pool.acquire().await {
            Ok(mut connection) => operation(&mut connection).await,
            Err(error) => Err(error),
        };
        process.database.record(&result);
        result
    }

    /// Sends a delivery once.
    async fn attempt(&self, target: &Target, due: Due) -> Attempt {
        let Due { id, webhook_id, event_id, subject_id, attempt, attempts, body } = due;
        let (began, message_id, timestamp) = (Instant::now(), EventId(event_id).to_string(), db::now().timestamp());
        let answer = match target.sign(&message_id, timestamp, &body) {
            Ok(signature) => {
                let headers = &target.headers;
                let message = Message { id: &message_id, timestamp, signature: &signature, headers };
                self.client.post(&target.url, message, Bytes::from(body)).await
            }
            Err(error) => Err(error.to_string()),
        };
        let latency = began.elapsed();
        let (status, response, retry_after, error) = match answer {
            Ok(answer) => {
                let is_accepted = (200..300).contains(&answer.status);
                let error = (!is_accepted).then(|| format!("the receiver answered with {}", answer.status));
                (Some(answer.status), Some(answer.body), answer.retry_after, error)
            }
            Err(error) => (None, None, None, Some(error)),
        };
        let accepted = error.is_none();
        Attempt {
            id,
            webhook_id,
            subject_id,
            attempt,
            attempts,
            accepted,
            status,
            latency,
            response,
            error,
            retry_after,
        }
    }
}

/// Counters of the attempts of this process.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub delivered: AtomicU64,
    pub failed: AtomicU64,
}

impl Counts {
    fn add(&self, attempts: &[Attempt]) {
        let delivered = attempts.iter().filter(|attempt| attempt.accepted).count();
        self.delivered.fetch_add(delivered as u64, Relaxed);
        self.failed.fetch_add((attempts.len() - delivered) as u64, Relaxed);
    }
}

/// Delivers webhooks until the process stops.
pub(crate) async fn run(process: Arc<WorkerContext>, hooks: Arc<Webhooks>) {
    let mut upkeep = JoinSet::new();
    upkeep.spawn(keep_leases(process.clone(), hooks.clone()));
    let mut workspaces = JoinSet::new();
    loop {
        let pause = match look(&process, &hooks, &mut workspaces).await {
            Ok(()) => POLL_EVERY,
            Err(error) => process.services.webhooks.failed(&error),
        };
        // Notifications during the pause that limits looking lead to the next look.
        tokio::select! {
            () = process.stopping.cancelled() => break,
            () = tokio::time::sleep(LOOK_EVERY) => (),
        }
        tokio::select! {
            () = process.stopping.cancelled() => break,
            () = hooks.wake.notified() => (),
            () = tokio::time::sleep(jittered(pause)) => (),
        }
        while workspaces.try_join_next().is_some() {}
    }
    workspaces.join_all().await;
}

/// Claims workspaces with work, and notifies the tasks of those that this process holds.
async fn look(process: &Arc<WorkerContext>, hooks: &Arc<Webhooks>, workspaces: &mut JoinSet<()>) -> Result<()> {
    let hold = hooks.with(process, async |connection| process.check_hold(connection).await).await?;
    if hold.is_some() || !CLOCK.is_trusted() {
        return Ok(());
    }
    let Some(Claimant { paused, .. }) = process.steering.claimant() else { return Ok(()) };
    let held: HashMap<Uuid, Arc<Signals>> =
        lock(&hooks.held).iter().map(|(hold, signals)| (hold.workspace_id, signals.clone())).collect();
    let ids: Vec<Uuid> = held.keys().copied().collect();
    for candidate in hooks.with(process, async |it| webhooks::candidates(it, &ids, &paused).await).await? {
        match held.get(&candidate.workspace_id) {
            Some(signals) => signals.send(candidate),
            None if candidate.is_free => claim(process, hooks, candidate, workspaces).await?,
            None => (),
        }
    }
    process.services.webhooks.succeeded();
    Ok(())
}

async fn claim(
    process: &Arc<WorkerContext>,
    hooks: &Arc<Webhooks>,
    candidate: Candidate,
    workspaces: &mut JoinSet<()>,
) -> Result<()> {
    let public_url = process.settings.own_url();
    let (workspace_id, worker_id) = (candidate.workspace_id, process.steering.worker_id);
    let claim = async |it: &mut PgConnection| webhooks::claim(it, workspace_id, public_url, worker_id).await;
    let Some(hold) = hooks.with(process, claim).await? else { return Ok(()) };
    let signals = Arc::<Signals>::default();
    lock(&hooks.held).insert(hold, signals.clone());
    let workspace = Workspace::new(process.clone(), hooks.clone(), hold, signals);
    let hooks = hooks.clone();
    workspaces.spawn(async move {
        // A task of its own, so that its panic ends nothing else: the lease expires.
        if let Err(error) = tokio::spawn(workspace.run()).await {
            tracing::error!(%error, "the delivery of a workspace's webhooks panicked");
        }
        lock(&hooks.held).remove(&hold);
        hooks.wake.notify_one();
    });
    Ok(())
}

/// Keeps renewing all leases.
async fn keep_leases(process: Arc<WorkerContext>, hooks: Arc<Webhooks>) {
    loop {
        tokio::time::sleep(RENEW_EVERY).await;
        let held: HashMap<Hold, Arc<Signals>> = lock(&hooks.held).clone();
        let holds: Vec<Hold> = held.keys().copied().collect();
        match hooks.with(&process, async |connection| webhooks::renew(connection, &holds).await).await {
            Ok(renewed) => {
                for (hold, signals) in held.iter().filter(|(hold, _)| !renewed.contains(hold)) {
                    tracing::debug!(workspace = %hold.workspace_id, "another worker delivers these webhooks");
                    signals.lost.cancel();
                }
            }
            Err(error) => tracing::debug!(%error, "cannot renew the leases of webhooks"),
        }
    }
}
