//! The upkeep that every worker process does for all: rescuing, sweeping, pruning, and listening for
//! notifications.

pub(crate) mod schedule;
pub(crate) mod scores;
pub(crate) mod services;
pub(crate) mod themes;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use shared::accounts::{idempotency, workspaces};
use shared::insight::health;
use shared::insight::reports;
use shared::mail::{self, EmailState};
use shared::platform::db::CLOCK;
use shared::queue::notify::Listener;
use shared::queue::{self, JobStatus, LEASE, Marks, RESCUE_EVERY, Rescued, SWEEP_EVERY};
use shared::records::history;
use shared::{Result, imports};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::context::{WorkerContext, jittered};

/// How often the clock is compared with the database's.
const MEASURE_EVERY: Duration = Duration::from_secs(2);
const PRUNE_EVERY: Duration = Duration::from_secs(60);
/// Rows deleted by one statement; few, so that nothing waits for it.
const PRUNE_BATCH: i64 = 500;

/// Compares the clock of this machine with the database's as often as it takes to know.
pub(crate) async fn measure_clock(process: &WorkerContext) {
    for _ in 0..3 {
        if let Err(error) = process.upkeep(async |connection| CLOCK.measure(connection).await).await {
            tracing::debug!(%error, "the clock cannot be compared with the database's");
        }
    }
}

/// Compares them again now and then, for ever.
pub(crate) async fn watch_clock(process: Arc<WorkerContext>) {
    loop {
        tokio::time::sleep(jittered(MEASURE_EVERY)).await;
        if !CLOCK.is_known() {
            // Nothing is claimed before.
            measure_clock(&process).await;
        } else if let Err(error) = process.upkeep(async |connection| CLOCK.measure(connection).await).await {
            tracing::debug!(%error, "the clock cannot be compared with the database's");
        }
    }
}

/// Looks for leases that ran out, for ever.
pub(crate) async fn rescue(process: Arc<WorkerContext>) {
    let (mut jobs_looked, mut mails_looked) = (queue::Looked::default(), queue::Looked::default());
    loop {
        if may_judge(&process) {
            let rescued = process.upkeep(async |connection| queue::rescue(connection, &mut jobs_looked).await).await;
            let rescued_mails =
                process.upkeep(async |connection| mail::rescue(connection, &mut mails_looked).await).await;
            tell_rescued(&process, rescued.as_deref().unwrap_or_default());
            tell_rescued_mails(&process, rescued_mails.as_deref().unwrap_or_default());
            let both = rescued.and(rescued_mails);
            if let Some(pause) = process.services.rescue.note(&both) {
                tokio::time::sleep(pause).await;
            }
        }
        tokio::time::sleep(jittered(RESCUE_EVERY)).await;
    }
}

/// Nobody is taken for dead by a process that could itself not reach the database of late: others
/// may have been cut off as well, and get the time to renew first.
fn may_judge(process: &WorkerContext) -> bool {
    let keeps_mails = process.delivery.as_ref().is_none_or(|delivery| delivery.held.are_kept());
    process.leases.are_kept() && keeps_mails && process.database.since_miss().is_none_or(|since| since > LEASE)
}

fn tell_rescued(process: &WorkerContext, rescued: &[Rescued]) {
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

fn tell_rescued_mails(process: &WorkerContext, rescued: &[mail::Rescued]) {
    for mail in rescued.iter().filter(|mail| mail.state == EmailState::Unknown) {
        tracing::warn!(mail = %mail.id, "the worker of the mail died; whether it was sent is not known");
    }
    if let Some(delivery) = &process.delivery {
        let unknown = rescued.iter().filter(|mail| mail.state == EmailState::Unknown).count();
        delivery.counts.unknown.fetch_add(unknown as u64, Relaxed);
        delivery.wake.notify_one();
    }
}

/// A sweep reads all dead entries of an index once. While an old transaction is open there may be very
/// many, so that it takes this share of the time at most.
const SWEEP_SHARE: u32 = 5;

/// How long to wait after a sweep that took so long.
pub(crate) fn until_next_sweep(took: Duration) -> Duration {
    jittered((took * SWEEP_SHARE).max(SWEEP_EVERY))
}

/// Workspaces in one sweep, beside those with marks.
const SWEPT_AT_ONCE: usize = 256;

/// Which workspaces the next sweep reads: those with marks, and some of the others in turn.
#[derive(Default)]
pub(crate) struct Rounds {
    last: Uuid,
}

impl Rounds {
    /// `all` are the ids of all workspaces, in their order.
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
            let marks = queue.marks();
            let swept = process.upkeep(async |connection| {
                let workspaces = rounds.next(&workspaces::ids(connection).await?, &marks);
                queue::sweep(connection, queue.name, &workspaces).await
            });
            match swept.await {
                Ok(sweep) => queue.swept(&marks, &sweep),
                Err(error) => tracing::debug!(%error, queue = queue.name, "jobs before the marks cannot be looked for"),
            }
        }
        pause = until_next_sweep(began.elapsed());
    }
}

/// What is kept for a time only.
#[derive(Debug, Clone, Copy)]
enum Kept {
    /// Jobs that ended.
    Jobs(Duration),
    /// Uploads that broke off.
    Uploads,
    /// Answers for idempotency keys.
    Answers,
    /// Deleted records, which can be restored for a while.
    Deletions,
    /// Answers of reports.
    Reports,
    /// When mails may leave, where there is a limit.
    RateLimit,
    /// How customers were, day by day.
    Snapshots,
}

impl Kept {
    /// Deletes a batch, and returns how many there were.
    async fn prune(self, connection: &mut PgConnection) -> Result<u64> {
        let mut pruned = 0;
        match self {
            Self::Jobs(keep) => {
                for id in workspaces::ids(connection).await? {
                    pruned += queue::prune(connection, id, keep, PRUNE_BATCH).await?;
                }
            }
            Self::Snapshots => {
                for id in workspaces::ids(connection).await? {
                    pruned += health::prune(connection, id, PRUNE_BATCH).await?;
                }
            }
            Self::Uploads => pruned = imports::sweep(connection).await?,
            Self::Answers => pruned = idempotency::prune(connection, PRUNE_BATCH).await?,
            Self::Deletions => pruned = history::prune(connection, PRUNE_BATCH).await?,
            Self::Reports => {
                for id in workspaces::ids(connection).await? {
                    pruned += reports::prune(connection, id).await?;
                }
            }
            Self::RateLimit => pruned = mail::prune_rate_limits(connection, PRUNE_BATCH).await?,
        }
        Ok(pruned)
    }
}

/// Deletes what was kept for long enough, for ever.
pub(crate) async fn prune(process: Arc<WorkerContext>, keep_jobs: Duration) {
    loop {
        tokio::time::sleep(jittered(PRUNE_EVERY)).await;
        let kept = [Kept::Jobs(keep_jobs), Kept::Uploads, Kept::Answers, Kept::Deletions, Kept::Reports];
        let mut all = Ok(());
        for what in kept.into_iter().chain([Kept::RateLimit, Kept::Snapshots]) {
            let pruned = prune_all(&process, what).await;
            match &pruned {
                Ok(0) => {}
                Ok(count) => tracing::info!(?what, count, "what was kept for long enough is deleted"),
                Err(error) => tracing::debug!(?what, %error, "what was kept for long enough cannot be deleted now"),
            }
            all = all.and(pruned.map(drop));
        }
        process.services.pruning.note(&all);
    }
}

async fn prune_all(process: &WorkerContext, what: Kept) -> Result<u64> {
    let mut pruned = 0;
    loop {
        match process.upkeep(async |connection| what.prune(connection).await).await? {
            0 => return Ok(pruned),
            count => pruned += count,
        }
        // Others get on.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Wakes the queues of this process when somebody notifies them, for ever. While it cannot listen,
/// polling goes on.
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
        // None: notifications may have been missed.
        let rung = listener.next().await?;
        for queue in &process.queues {
            if rung.as_deref().is_none_or(|rung| rung == queue.name) {
                queue.wake.notify_one();
            }
        }
        if let Some(delivery) = &process.delivery
            && rung.as_deref().is_none_or(|rung| rung == mail::QUEUE)
        {
            delivery.wake.notify_one();
        }
    }
}
