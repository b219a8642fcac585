//! Jobs whose process died run alone in their process the next time.
//!
//! Nobody knows whether such a job killed its process or only happened to run in it. So it is
//! claimed by itself; everything that waits here is handed back, everything that runs here ends or
//! comes to the end of its step, and only then it starts. As soon as it has committed a step, or
//! after half a minute, it is an ordinary job again. If it kills the process after all, it takes the
//! fewest others with it; and since of several suspects the one with the fewest deaths goes first,
//! those others get on before the guilty one can take them along again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use shared::platform::db::CLOCK;
use shared::queue::{self, Outcome};
use tokio::sync::{Notify, OwnedRwLockReadGuard, RwLock, oneshot};

use crate::context::{WorkerContext, jittered};
use crate::queue::buffer::Buffer;
use crate::queue::claim::{self, ClaimedJob, POLL_EVERY};
use crate::queue::run::UNKNOWN_KIND_PAUSE;

/// For how long a job that commits no step has the process for itself at most.
const AT_MOST: Duration = Duration::from_secs(30);
/// For how long several of them have it, one after the other.
const AT_MOST_IN_TURN: Duration = Duration::from_secs(5);

/// Jobs at work hold it together, or one holds it alone. Who waits to be alone comes before all who
/// ask later.
#[derive(Default)]
pub(crate) struct Quarantine {
    lock: Arc<RwLock<()>>,
    /// Rung when this process has rescued jobs.
    pub rescued: Notify,
}

impl Quarantine {
    /// Waits until no job has the process for itself.
    pub async fn pass(&self) -> RunPermit {
        RunPermit::Together { _guard: self.lock.clone().read_owned().await }
    }
}

/// A job's right to be at work.
pub(crate) enum RunPermit {
    /// None yet, or between two steps.
    None,
    /// Beside others.
    Together { _guard: OwnedRwLockReadGuard<()> },
    /// Alone, until this is dropped.
    Alone { _until: oneshot::Sender<()> },
}

impl RunPermit {
    /// Lets a job that waits to be alone go first. One that is alone stays so.
    pub async fn renew(&mut self, gate: &Quarantine) {
        if !matches!(self, Self::Alone { .. }) {
            *self = Self::None;
            *self = gate.pass().await;
        }
    }

    /// A step was committed: the job is beyond suspicion, and need not be alone any more.
    pub fn get_on(&mut self) {
        if matches!(self, Self::Alone { .. }) {
            *self = Self::None;
        }
    }
}

/// Claims suspects, one after the other, and lets each be alone.
pub(crate) async fn run_quarantined(process: Arc<WorkerContext>, buffer: Arc<Buffer>) {
    while !process.stopping.is_cancelled() {
        if let Some(suspect) = claim(&process).await {
            run_in_turn(&process, &buffer, suspect).await;
            continue;
        }
        tokio::select! {
            () = process.stopping.cancelled() => (),
            () = process.gate.rescued.notified() => (),
            () = tokio::time::sleep(jittered(POLL_EVERY)) => (),
        }
    }
}

/// Waits until the process is quiet, then starts this suspect and those that come after it, each
/// when the one before is beyond suspicion.
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
    while let Some(suspect) = next {
        run_alone(process, buffer, suspect).await;
        // The others here have waited for long enough, however many suspects there are.
        if began.elapsed() > AT_MOST_IN_TURN || process.stopping.is_cancelled() {
            return;
        }
        next = claim(process).await;
    }
}

/// Starts a suspect, and returns when it need not be alone any more.
async fn run_alone(process: &WorkerContext, buffer: &Buffer, mut suspect: ClaimedJob) {
    let claimed = &suspect.claimed;
    tracing::info!(job = %claimed.id, kind = claimed.kind, crashes = claimed.crashes, "a job whose process died runs alone");
    let (until, beyond_suspicion) = oneshot::channel();
    suspect.pass = RunPermit::Alone { _until: until };
    buffer.push([suspect]);
    tokio::select! {
        // The sender is dropped, nothing is ever sent.
        _ = beyond_suspicion => (),
        () = tokio::time::sleep(AT_MOST) => (),
        () = process.stopping.cancelled() => claim::hand_back(process, buffer.take_all()).await,
    }
}

async fn claim(process: &WorkerContext) -> Option<ClaimedJob> {
    if !CLOCK.is_trusted() {
        return None;
    }
    let queues: Vec<&str> = process.queues.iter().map(|queue| queue.name).collect();
    let claimed =
        process.upkeep(async |connection| queue::claim_quarantined(connection, &queues).await).await.ok()??;
    let kind = process.tasks.get(&claimed.kind);
    match kind.and_then(|kind| process.queues.iter().find(|queue| queue.name == kind.queue)) {
        Some(queue) => Some(queue.hold(process, claimed)),
        None => {
            tracing::warn!(job = %claimed.id, kind = claimed.kind, "this version does not know the kind of job");
            process.acks.send(claimed.lease(), Outcome::Snooze(UNKNOWN_KIND_PAUSE)).await;
            None
        }
    }
}
