//! What operators steer: pauses, suspended workspaces, and draining this worker.
//!
//! A worker registers before it claims anything, and looks every second, or when it is notified, for what has
//! changed. While the database is unavailable it keeps to what it last read.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use shared::Result;
use shared::operations::workers::{self, NewWorker};
use shared::platform::host;
use shared::queue::{Claimant, Paused};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::context::{WorkerContext, jittered};
use crate::queue::claim;
use crate::queue::leases::lock;

/// How often a worker looks without a notification.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often a worker says that it is there.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(5);

/// What this worker may do, as it last read.
pub(crate) struct Steering {
    pub worker_id: Uuid,
    paused: Mutex<Arc<Paused>>,
    is_draining: AtomicBool,
    /// Wakes the look for changes.
    pub wake: Notify,
}

impl Steering {
    pub fn new(worker_id: Uuid) -> Self {
        Self { worker_id, paused: Mutex::default(), is_draining: AtomicBool::new(false), wake: Notify::new() }
    }

    /// What is paused.
    pub fn paused(&self) -> Arc<Paused> {
        lock(&self.paused).clone()
    }

    /// Whether this worker claims nothing.
    pub fn is_draining(&self) -> bool {
        self.is_draining.load(Relaxed)
    }

    /// This worker, for a claim; `None` while it claims nothing.
    pub fn claimant(&self) -> Option<Claimant> {
        (!self.is_draining()).then(|| Claimant { worker_id: Some(self.worker_id), paused: self.paused() })
    }

    /// Ends at once if a running job of the workspace must return to its queue after its step, else never.
    pub async fn must_stop(&self, workspace_id: Uuid) {
        if !self.is_draining() && !lock(&self.paused).is_suspended(workspace_id) {
            std::future::pending().await
        }
    }

    /// Whether no webhook of the workspace is sent.
    pub fn holds_webhooks_of(&self, workspace_id: Uuid) -> bool {
        let paused = self.paused();
        self.is_draining() || paused.has_queue(shared::webhooks::QUEUE) || paused.has_workspace(workspace_id)
    }

    /// Records what was read. Returns whether it differs from what was known.
    fn record(&self, paused: Paused, is_draining: bool) -> bool {
        let was_draining = self.is_draining.swap(is_draining, Relaxed);
        match (was_draining, is_draining) {
            (false, true) => tracing::info!("this worker is draining: it claims nothing"),
            (true, false) => tracing::info!("this worker claims again"),
            _ => (),
        }
        let mut known = lock(&self.paused);
        let is_new = **known != paused;
        if is_new {
            tracing::info!(
                queues = paused.queues().join(","),
                kinds = paused.kinds().join(","),
                workspaces = paused.workspaces().len(),
                "what is paused has changed"
            );
            *known = Arc::new(paused);
        }
        is_new || is_draining != was_draining
    }
}

/// What this worker says of itself.
pub(crate) fn registration(process: &WorkerContext, queues: &[&str]) -> NewWorker {
    let concurrency = process.settings.worker.concurrency;
    NewWorker {
        id: process.steering.worker_id,
        host: host::name(),
        pid: i32::try_from(std::process::id()).unwrap_or_default(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        queues: queues.iter().map(|queue| (*queue).to_owned()).collect(),
        concurrency: i32::try_from(concurrency).unwrap_or(i32::MAX),
        connections: i32::try_from(process.max_connections()).unwrap_or(i32::MAX),
    }
}

/// Registers this worker and reads what it may do. Returns `false` at shutdown.
pub(crate) async fn begin(process: &WorkerContext, worker: &NewWorker, shutdown: &CancellationToken) -> bool {
    loop {
        let begun = async {
            process.upkeep(async |connection| workers::register(connection, worker).await).await?;
            look(process).await
        };
        match begun.await {
            Ok(()) => return true,
            Err(error) => tracing::debug!(%error, "cannot register this worker"),
        }
        tokio::select! {
            () = shutdown.cancelled() => return false,
            () = tokio::time::sleep(LOOK_EVERY) => (),
        }
    }
}

/// Keeps looking for changes and saying that this worker is there.
pub(crate) async fn keep(process: Arc<WorkerContext>, worker: NewWorker) {
    let mut said = Instant::now();
    loop {
        tokio::select! {
            () = process.steering.wake.notified() => (),
            () = tokio::time::sleep(jittered(LOOK_EVERY)) => (),
        }
        if said.elapsed() >= HEARTBEAT_EVERY {
            // Also registers it again, if it was taken for one that ended long ago.
            match process.upkeep(async |connection| workers::register(connection, &worker).await).await {
                Ok(()) => said = Instant::now(),
                Err(error) => tracing::debug!(%error, "cannot say that this worker is there"),
            }
        }
        if let Err(error) = look(&process).await {
            tracing::debug!(%error, "cannot read what is paused");
        }
    }
}

/// Records that this worker has ended, if the database answers in time.
pub(crate) async fn end(process: &WorkerContext) {
    let stopped = process.upkeep(async |connection| workers::stop(connection, process.steering.worker_id).await);
    if let Ok(Err(error)) = tokio::time::timeout(LOOK_EVERY, stopped).await {
        tracing::debug!(%error, "cannot record that this worker has ended");
    }
}

async fn look(process: &WorkerContext) -> Result<()> {
    let id = process.steering.worker_id;
    let (paused, is_draining) = process
        .upkeep(async |connection| Ok((Paused::read(connection).await?, workers::is_draining(connection, id).await?)))
        .await?;
    if process.steering.record(paused, is_draining) {
        apply(process).await;
    }
    Ok(())
}

/// Hands back what was claimed ahead, and claims anew from the front: what was paused may lie before the marks.
async fn apply(process: &WorkerContext) {
    for queue in &process.queues {
        claim::hand_back(process, queue.buffer.take_all()).await;
        queue.start_over();
        queue.wake.notify_one();
    }
    if let Some(delivery) = &process.delivery {
        delivery.start_over(process).await;
    }
    if let Some(hooks) = &process.hooks {
        hooks.wake.notify_one();
    }
}
