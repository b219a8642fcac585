//! Maintenance by every worker process: rescuing, sweeping, pruning, and listening for
//! notifications.

pub(crate) mod numbering;
pub(crate) mod schedule;
pub(crate) mod scores;
pub(crate) mod services;
pub(crate) mod statistics;
pub(crate) mod themes;

use std::sync::Arc;
use std::time::{Duration, Instant};

use shared::accounts::{idempotency, workspaces};
use shared::events::feed;
use shared::insight::health;
use shared::insight::reports;
use shared::jobs;
use shared::mail::{self, EmailState};
use shared::operations::{actions, workers};
use shared::platform::db::CLOCK;
use shared::queue::notify::Listener;
use shared::queue::{self, JobStatus, LEASE, Marks, RESCUE_EVERY, Rescued, STEERING, SWEEP_EVERY};
use shared::records::history;
use shared::{Result, imports, webhooks};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::context::{WorkerContext, jittered};

/// How often this machine's clock is compared with the database's.
const MEASURE_EVERY: Duration = Duration::from_secs(2);
const PRUNE_EVERY: Duration = Duration::from_secs(60);
/// The rows deleted by one statement; few, so that no other statement waits long.
const PRUNE_BATCH: i64 = 500;

/// Compares this machine's clock with the database's, often enough for a result.
pub(crate) async fn measure_clock(process: &WorkerContext) {
    for _ in 0..3 {
        if let Err(error) = process.upkeep(async |connection| CLOCK.measure(connection).await).await {
            tracing::debug!(%error, "cannot compare the clock with the database's");
        }
    }
}

/// Keeps comparing this machine's clock with the database's.
pub(crate) async fn watch_clock(process: Arc<WorkerContext>) {
    loop {
        tokio::time::sleep(jittered(MEASURE_EVERY)).await;
        if !CLOCK.is_known() {
            // No jobs are claimed before the clock is known.
            measure_clock(&process).await;
        } else if let Err(error) = process.upkeep(async |connection| CLOCK.measure(connection).await).await {
            tracing::debug!(%error, "cannot compare the clock with the database's");
        }
    }
}

/// Keeps rescuing jobs, emails and webhooks whose leases expired.
pub(crate) async fn rescue(process: Arc<WorkerContext>) {
    let [mut jobs_looked, mut emails_looked, mut hooks_looked] = [queue::Looked::default(); 3];
    loop {
        if may_judge(&process) {
            let rescued = process
                .upkeep(async |connection| queue::rescue(connection, &mut jobs_looked, jobs::reporting).await)
                .await;
            let rescued_emails =
                process.upkeep(async |connection| mail::rescue(connection, &mut emails_looked).await).await;
            report_rescued(&process, rescued.as_deref().unwrap_or_default());
            report_rescued_emails(&process, rescued_emails.as_deref().unwrap_or_default());
            let rescued_hooks =
                process.upkeep(async |connection| webhooks::rescue(connection, &mut hooks_looked).await).await;
            report_rescued_hooks(&process, *rescued_hooks.as_ref().unwrap_or(&0));
            let all = rescued.map(drop).and(rescued_emails.map(drop)).and(rescued_hooks.map(drop));
            if let Some(pause) = process.services.rescue.note(&all) {
                tokio::time::sleep(pause).await;
            }
        }
        tokio::time::sleep(jittered(RESCUE_EVERY)).await;
    }
}

/// Whether this process may treat expired leases as those of dead workers. After an outage of the
/// database it must not: other workers may have been cut off as well, and get one lease duration to
/// renew.
fn may_judge(process: &WorkerContext) -> bool {
    let keeps_emails = process.delivery.as_ref().is_none_or(|delivery| delivery.held.are_kept());
    process.leases.are_kept() && keeps_emails && process.database.since_miss().is_none_or(|since| since > LEASE)
}

fn report_rescued(process: &WorkerContext, rescued: &[Rescued]) {
    for job in rescued {
        if let Some(kind) = process.metrics.kind(&job.kind) {
            kind.rescued.inc();
        }
        if job.status == JobStatus::Failed {
            tracing::warn!(job_id = %job.id, kind = job.kind, "job failed: its worker died too often");
        } else {
            tracing::warn!(job_id = %job.id, kind = job.kind, "job queued again: its worker died");
        }
    }
    if !rescued.is_empty() {
        process.gate.rescued.notify_one();
    }
}

fn report_rescued_emails(process: &WorkerContext, rescued: &[mail::Rescued]) {
    for email in rescued.iter().filter(|email| email.state == EmailState::Unknown) {
        tracing::warn!(email_id = %email.id, "delivery unknown: the worker died while sending the email");
    }
    if let Some(delivery) = &process.delivery {
        if let Some(metrics) = &process.metrics.email {
            let unknown = rescued.iter().filter(|email| email.state == EmailState::Unknown).count();
            metrics.count_many("unknown", unknown);
        }
        delivery.wake.notify_one();
    }
}

fn report_rescued_hooks(process: &WorkerContext, workspaces: usize) {
    if workspaces > 0 {
        tracing::warn!(workspaces, "webhooks are delivered again: their worker died");
        if let Some(hooks) = &process.hooks {
            hooks.wake.notify_one();
        }
    }
}

/// A sweep reads all dead entries of an index once. While an old transaction is open there may be
/// very many, so the pause after a sweep is at least this many times as long as the sweep.
const SWEEP_SHARE: u32 = 5;

/// The pause after a sweep.
pub(crate) fn until_next_sweep(took: Duration) -> Duration {
    jittered((took * SWEEP_SHARE).max(SWEEP_EVERY))
}

/// The number of workspaces in one sweep, in addition to those with marks.
const SWEPT_AT_ONCE: usize = 256;

/// Chooses the workspaces for the next sweep: those with marks, and some of the others in turn.
#[derive(Default)]
pub(crate) struct Rounds {
    last: Uuid,
}

impl Rounds {
    /// `all` contains the ids of all workspaces, in ascending order.
    pub fn next(&mut self, all: &[Uuid], marks: &Marks) -> Vec<Uuid> {
        let first = all.partition_point(|id| *id <= self.last);
        let in_turn: Vec<Uuid> = all[first..].iter().chain(&all[..first]).copied().take(SWEPT_AT_ONCE).collect();
        self.last = in_turn.last().copied().unwrap_or_default();
        let mut next: Vec<Uuid> = marks.workspaces().chain(in_turn).collect();
        next.sort_unstable();
        next.dedup();
        next
    }
}

/// Looks for jobs that became visible before the marks of claims, until the process stops.
pub(crate) async fn sweep(process: Arc<WorkerContext>) {
    let mut pause = jittered(SWEEP_EVERY);
    let mut rounds: Vec<Rounds> = process.queues.iter().map(|_| Rounds::default()).collect();
    loop {
        tokio::select! {
            () = process.stopping.cancelled() => return,
            () = tokio::time::sleep(pause) => (),
        }
        let began = Instant::now();
        for (queue, rounds) in process.queues.iter().zip(&mut rounds) {
            let (marks, paused) = (queue.marks(), process.steering.paused());
            let swept = process.upkeep(async |connection| {
                let workspaces = rounds.next(&workspaces::ids(connection).await?, &marks);
                queue::sweep(connection, queue.name, &workspaces, &paused).await
            });
            match swept.await {
                Ok(sweep) => queue.swept(&marks, &sweep),
                Err(error) => tracing::debug!(%error, queue = queue.name, "cannot sweep the queue"),
            }
        }
        pause = until_next_sweep(began.elapsed());
    }
}

/// Rows that expire.
#[derive(Debug, Clone, Copy)]
enum Expiring {
    /// Finished jobs, after the given time.
    Jobs(Duration),
    /// Events, after this number of days.
    Events(u32),
    /// Unfinished uploads.
    Uploads,
    IdempotentResponses,
    /// Deleted records, which can be restored for a limited time.
    Deletions,
    CachedReports,
    EmailRateLimits,
    HealthSnapshots,
    /// Deliveries of webhooks.
    Deliveries,
    /// The audit of operators.
    OperatorActions,
    /// Workers that ended.
    Workers,
}

impl Expiring {
    /// Deletes a batch, and returns the number of rows.
    async fn prune(self, connection: &mut PgConnection) -> Result<u64> {
        let mut pruned = 0;
        match self {
            Self::Jobs(keep) => {
                for id in workspaces::ids(connection).await? {
                    pruned += queue::prune(connection, id, keep, PRUNE_BATCH).await?;
                }
            }
            Self::Events(keep_days) => {
                for id in workspaces::ids(connection).await? {
                    pruned += feed::prune(connection, id, keep_days, PRUNE_BATCH).await?;
                }
            }
            Self::HealthSnapshots => {
                for id in workspaces::ids(connection).await? {
                    pruned += health::prune(connection, id, PRUNE_BATCH).await?;
                }
            }
            Self::Deliveries => {
                for id in workspaces::ids(connection).await? {
                    pruned += webhooks::prune(connection, id, PRUNE_BATCH).await?;
                }
            }
            Self::Workers => pruned = workers::prune(connection).await?,
            Self::Uploads => pruned = imports::sweep(connection).await?,
            Self::IdempotentResponses => pruned = idempotency::prune(connection, PRUNE_BATCH).await?,
            Self::Deletions => pruned = history::prune(connection, PRUNE_BATCH).await?,
            Self::CachedReports => {
                for id in workspaces::ids(connection).await? {
                    pruned += reports::prune(connection, id).await?;
                }
            }
            Self::EmailRateLimits => pruned = mail::prune_rate_limits(connection, PRUNE_BATCH).await?,
            Self::OperatorActions => pruned = actions::prune(connection, PRUNE_BATCH).await?,
        }
        Ok(pruned)
    }
}

/// Keeps deleting expired rows.
pub(crate) async fn prune(process: Arc<WorkerContext>, keep_jobs: Duration) {
    let expiring = [
        Expiring::Jobs(keep_jobs),
        Expiring::Events(process.settings.events.keep_days),
        Expiring::Uploads,
        Expiring::IdempotentResponses,
        Expiring::Deletions,
        Expiring::CachedReports,
        Expiring::EmailRateLimits,
        Expiring::HealthSnapshots,
        Expiring::Deliveries,
        Expiring::OperatorActions,
        Expiring::Workers,
    ];
    loop {
        tokio::time::sleep(jittered(PRUNE_EVERY)).await;
        let mut all = Ok(());
        for what in expiring {
            let pruned = prune_all(&process, what).await;
            match &pruned {
                Ok(0) => {}
                Ok(count) => tracing::info!(?what, count, "pruned expired rows"),
                Err(error) => tracing::debug!(?what, %error, "cannot prune expired rows"),
            }
            all = all.and(pruned.map(drop));
        }
        process.services.pruning.note(&all);
    }
}

async fn prune_all(process: &WorkerContext, what: Expiring) -> Result<u64> {
    let mut pruned = 0;
    loop {
        match process.upkeep(async |connection| what.prune(connection).await).await? {
            0 => return Ok(pruned),
            count => pruned += count,
        }
        // Leaves the database to others between batches.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Keeps waking the queues of this process when they are notified. Without a listener the queues
/// still poll.
pub(crate) async fn listen(process: Arc<WorkerContext>) {
    loop {
        if let Some(pause) = process.services.notifications.note(&listen_once(&process).await) {
            tokio::time::sleep(pause).await;
        }
    }
}

async fn listen_once(process: &WorkerContext) -> Result<()> {
    let mut listener = Listener::new(&process.upkeep).await?;
    process.services.notifications.succeeded();
    loop {
        // `None` means that notifications may have been missed.
        let notified = listener.next().await?;
        if notified.as_deref().is_none_or(|notified| notified == STEERING) {
            process.steering.wake.notify_one();
        }
        for queue in &process.queues {
            if notified.as_deref().is_none_or(|notified| notified == queue.name) {
                queue.wake.notify_one();
            }
        }
        if let Some(delivery) = &process.delivery
            && notified.as_deref().is_none_or(|notified| notified == mail::QUEUE)
        {
            delivery.wake.notify_one();
        }
        if let Some(hooks) = &process.hooks
            && notified.as_deref().is_none_or(|notified| notified == webhooks::QUEUE)
        {
            hooks.wake.notify_one();
        }
    }
}
