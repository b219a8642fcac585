//! The quarantine: a job whose process died runs alone in its process the next time.
//!
//! Such a job may have killed its process, or only happened to run in it. So the worker claims it
//! separately, hands back all waiting jobs, and waits until all running jobs have ended or
//! committed their step. Then the quarantined job starts. Once it has committed a step, or after 30
//! seconds, it runs as an ordinary job. If it kills the process, few other jobs are affected. Jobs
//! with fewer crashes leave quarantine first, so that the job that causes the crashes cannot hold
//! up the others.

use std::sync::Arc;
use std::time::{Duration, Instant};

use shared::platform::db::CLOCK;
use shared::queue::{self, Ended, Outcome};
use sqlx::PgConnection;
use tokio::sync::{Notify, OwnedRwLockReadGuard, RwLock, oneshot};

use crate::context::{WorkerContext, jittered};
use crate::queue::buffer::Buffer;
use crate::queue::claim::{self, ClaimedJob, POLL_EVERY};
use crate::queue::run::UNKNOWN_KIND_PAUSE;

/// How long a job that commits no step may have the process to itself.
const AT_MOST: Duration = Duration::from_secs(30);
/// How long several quarantined jobs may have the process to themselves, one after the other.
const AT_MOST_IN_TURN: Duration = Duration::from_secs(5);

/// A lock that ordinary jobs share, and that a quarantined job holds exclusively. The lock is fair:
/// a waiting quarantined job precedes all jobs that ask later.
#[derive(Default)]
pub(crate) struct Quarantine {
    lock: Arc<RwLock<()>>,
    /// Notified when this process has rescued jobs.
    pub rescued: Notify,
}

impl Quarantine {
    /// Waits until no quarantined job has the process to itself.
    pub async fn pass(&self) -> RunPermit {
        RunPermit::Together { _guard: self.lock.clone().read_owned().await }
    }
}

/// A job's permit to run.
pub(crate) enum RunPermit {
    /// No permit yet, or between two steps.
    None,
    /// The job runs together with others.
    Together { _guard: OwnedRwLockReadGuard<()> },
    /// The job runs alone, until this is dropped.
    Alone { _until: oneshot::Sender<()> },
}

impl RunPermit {
    /// Lets a waiting quarantined job go first. A job that runs alone keeps its permit.
    pub async fn renew(&mut self, gate: &Quarantine) {
        if !matches!(self, Self::Alone { .. }) {
            *self = Self::None;
            *self = gate.pass().await;
        }
    }

    /// Ends the quarantine of a job that has committed a step.
    pub fn get_on(&mut self) {
        if matches!(self, Self::Alone { .. }) {
            *self = Self::None;
        }
    }
}

/// Claims quarantined jobs one after the other, and runs each alone.
pub(crate) async fn run_quarantined(process: Arc<WorkerContext>, buffer: Arc<Buffer>) {
    while !process.stopping.is_cancelled() {
        if let Some(job) = claim(&process).await {
            run_in_turn(&process, &buffer, job).await;
            continue;
        }
        tokio::select! {
            () = process.stopping.cancelled() => (),
            () = process.gate.rescued.notified() => (),
            () = tokio::time::sleep(jittered(POLL_EVERY)) => (),
        }
    }
}

/// Waits until no job is running, then runs this job and the next quarantined ones. Each starts
/// when the one before has left quarantine.
async fn run_in_turn(process: &WorkerContext, buffer: &Buffer, first: ClaimedJob) {
    let _alone = tokio::select! {
        alone = process.gate.lock.write() => alone,
        () = first.hold.lost.cancelled() => return,
        () = process.stopping.cancelled() => return claim::hand_back(process, [first]).await,
    };
    for queue in &process.queues {
        claim::hand_back(process, queue.buffer.take_all()).await;
    }
    let began = Instant::now();
    let mut next = Some(first);
    while let Some(job) = next {
        run_alone(process, buffer, job).await;
        // Ordinary jobs get their turn, however many jobs are quarantined.
        if began.elapsed() > AT_MOST_IN_TURN || process.stopping.is_cancelled() {
            return;
        }
        next = claim(process).await;
    }
}

/// Starts a quarantined job, and returns when it need not run alone any more.
async fn run_alone(process: &WorkerContext, buffer: &Buffer, mut job: ClaimedJob) {
    let claimed = &job.claimed;
    tracing::info!(job = %claimed.id, kind = claimed.kind, crashes = claimed.crashes, "running quarantined job alone");
    let (until, released) = oneshot::channel();
    job.pass = RunPermit::Alone { _until: until };
    buffer.push([job]);
    tokio::select! {
        // Completes when the sender is dropped; nothing is ever sent.
        _ = released => (),
        () = tokio::time::sleep(AT_MOST) => (),
        () = process.stopping.cancelled() => claim::hand_back(process, buffer.take_all()).await,
    }
}

async fn claim(process: &WorkerContext) -> Option<ClaimedJob> {
    if !CLOCK.is_trusted() {
        return None;
    }
    let queues: Vec<&str> = process.queues.iter().map(|queue| queue.name).collect();
    let claimant = process.steering.claimant()?;
    let look = async |connection: &mut PgConnection| queue::claim_quarantined(connection, &queues, &claimant).await;
    let claimed = process.upkeep(look).await.ok()??;
    let kind = process.tasks.get(&claimed.kind);
    match kind.and_then(|kind| process.queues.iter().find(|queue| queue.name == kind.queue)) {
        Some(queue) => Some(queue.hold(process, claimed)),
        None => {
            tracing::warn!(job = %claimed.id, kind = claimed.kind, "unknown kind of job");
            let outcome = Outcome::Snooze(UNKNOWN_KIND_PAUSE);
            process.acks.send(Ended::silently(claimed.lease(), outcome)).await;
            None
        }
    }
}
