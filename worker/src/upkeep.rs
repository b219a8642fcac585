//! The upkeep that every worker process does for all: rescuing, pruning, and hearing the bell.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use shared::Result;
use shared::doorbell::Listener;
use shared::imports;
use shared::jobs::{self, JobStatus, LEASE, RESCUE_EVERY, Rescued};

use crate::process::{Process, jittered};

const PRUNE_EVERY: Duration = Duration::from_secs(60);
/// Jobs deleted by one statement; few, so that nothing waits for it.
const PRUNE_BATCH: i64 = 500;

/// Looks for leases that ran out, for ever.
pub(crate) async fn rescue(process: Arc<Process>) {
    loop {
        if may_judge(&process) {
            match process.upkeep(async |connection| jobs::rescue(connection).await).await {
                Ok(rescued) => tell_rescued(&process, &rescued),
                Err(error) => tracing::debug!(%error, "leases that ran out cannot be looked for"),
            }
        }
        tokio::time::sleep(jittered(RESCUE_EVERY)).await;
    }
}

/// Nobody is taken for dead by a process that could itself not reach the database of late: others
/// may have been cut off as well, and get the time to renew first.
fn may_judge(process: &Process) -> bool {
    process.leases.are_kept() && process.pulse.since_miss().is_none_or(|since| since > LEASE)
}

fn tell_rescued(process: &Process, rescued: &[Rescued]) {
    for job in rescued {
        if let Some(kind) = process.tasks.get(&job.kind) {
            kind.metrics.rescued.fetch_add(1, Relaxed);
        }
        if job.status == JobStatus::Failed {
            tracing::warn!(job = %job.id, kind = job.kind, "the job is given up: its worker died too often while it ran");
        } else {
            tracing::warn!(job = %job.id, kind = job.kind, "the worker of the job died; it is queued again");
        }
    }
    if !rescued.is_empty() {
        process.gate.rescued.notify_one();
    }
}

/// Deletes jobs that ended long ago and uploads that broke off, for ever.
pub(crate) async fn prune(process: Arc<Process>, keep: Duration) {
    loop {
        tokio::time::sleep(jittered(PRUNE_EVERY)).await;
        let mut pruned = 0;
        loop {
            match process.upkeep(async |connection| jobs::prune(connection, keep, PRUNE_BATCH).await).await {
                Ok(0) => break,
                Ok(count) => pruned += count,
                Err(error) => {
                    tracing::debug!(%error, "ended jobs cannot be deleted now");
                    break;
                }
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        if pruned > 0 {
            tracing::info!(jobs = pruned, "jobs that ended long ago were deleted");
        }
        match process.upkeep(imports::sweep).await {
            Ok(0) => {}
            Ok(swept) => tracing::info!(uploads = swept, "uploads that broke off were deleted"),
            Err(error) => tracing::debug!(%error, "uploads that broke off cannot be deleted now"),
        }
    }
}

/// Wakes the queues of this process when somebody rings for them, for ever. While nobody can be
/// heard, polling goes on.
pub(crate) async fn hear(process: Arc<Process>) {
    loop {
        if let Err(error) = listen(&process).await {
            tracing::debug!(%error, "the doorbell cannot be heard");
        }
        tokio::time::sleep(jittered(Duration::from_secs(1))).await;
    }
}

async fn listen(process: &Process) -> Result<()> {
    let mut listener = Listener::new(&process.upkeep).await?;
    loop {
        // None: rings may have been missed.
        let rung = listener.next().await?;
        for queue in &process.queues {
            if rung.as_deref().is_none_or(|rung| rung == queue.name) {
                queue.bell.notify_one();
            }
        }
    }
}
