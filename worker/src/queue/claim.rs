//! Claiming: one task for each queue claims due jobs, as many as there is room for.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use shared::Result;
use shared::platform::db::CLOCK;
use shared::queue::{self, Claimed, Ended, Marks, Outcome, Position, Ranges, Sweep};
use tokio::sync::Notify;
use uuid::Uuid;

use crate::context::{WorkerContext, jittered};
use crate::queue::acknowledge;
use crate::queue::buffer::Buffer;
use crate::queue::fairness::Slots;
use crate::queue::leases::{Hold, lock};
use crate::queue::quarantine::RunPermit;

/// How often an idle worker polls for jobs without a notification.
pub(crate) const POLL_EVERY: Duration = Duration::from_secs(1);
/// The most jobs that are claimed ahead in one statement.
const BATCH: usize = 2000;
/// Jobs that take longer than this are never claimed ahead, since another process may have a free
/// slot.
const SHORT: Duration = Duration::from_millis(5);
/// How long claimed jobs may wait in this process, according to the estimate.
const AHEAD: Duration = Duration::from_millis(200);

/// A queue that this process works on.
pub(crate) struct Queue {
    pub name: &'static str,
    pub wake: Notify,
    pub buffer: Arc<Buffer>,
    pub claims: AtomicU64,
    window: Arc<Window>,
    /// Where the next claim starts.
    marks: Mutex<Marks>,
}

impl Queue {
    pub fn new(name: &'static str, concurrency: usize) -> Self {
        let window = Arc::new(Window { concurrency, ..Window::default() });
        let (wake, buffer, claims) = (Notify::new(), Arc::default(), AtomicU64::new(0));
        Self { name, wake, buffer, claims, window, marks: Mutex::default() }
    }

    /// The jobs of this queue that run in this process.
    pub fn slots(&self) -> &Slots {
        &self.window.slots
    }

    /// The ranges for the next claim.
    pub fn ranges(&self) -> Ranges {
        lock(&self.marks).ranges()
    }

    /// The present marks, for the start of a sweep.
    pub fn marks(&self) -> Marks {
        lock(&self.marks).clone()
    }

    /// Claims anew from the front.
    pub fn start_over(&self) {
        lock(&self.marks).reset();
    }

    /// Moves the marks to the jobs that a sweep found.
    pub fn swept(&self, began: &Marks, sweep: &Sweep) {
        if lock(&self.marks).swept(began, sweep) {
            tracing::info!(queue = self.name, "found jobs that became visible late");
            self.wake.notify_one();
        }
    }

    /// Registers a claimed job's lease and slot.
    pub fn hold(&self, process: &WorkerContext, claimed: Claimed) -> ClaimedJob {
        self.window.held.fetch_add(1, Relaxed);
        let (hold, slot) = (process.leases.hold(claimed.lease()), Slot(self.window.clone()));
        ClaimedJob { claimed, hold, slot, pass: RunPermit::None }
    }
}

/// Limits how many jobs of a queue this process holds.
#[derive(Default)]
struct Window {
    concurrency: usize,
    held: AtomicUsize,
    /// A moving average of the handlers' run time in nanoseconds; 0 before the first.
    average: AtomicU64,
    freed: Notify,
    slots: Slots,
}

impl Window {
    /// How many jobs to claim now: one for each free slot. Jobs that take longer to fetch than to
    /// run are also claimed ahead, so that one batch waits while another runs.
    fn room(&self) -> usize {
        let held = self.held.load(Relaxed);
        match self.ahead() {
            0 => self.concurrency.saturating_sub(held),
            ahead if held <= ahead => ahead.max(self.concurrency.saturating_sub(held)),
            _ => 0,
        }
    }

    fn ahead(&self) -> usize {
        let average = u128::from(self.average.load(Relaxed));
        if average == 0 || average > SHORT.as_nanos() {
            return 0;
        }
        let foreseen = AHEAD.as_nanos() * self.concurrency as u128 / average;
        usize::try_from(foreseen).map_or(BATCH, |foreseen| foreseen.min(BATCH))
    }

    async fn has_room(&self) -> usize {
        loop {
            match self.room() {
                0 => self.freed.notified().await,
                room => return room,
            }
        }
    }
}

/// A job's slot in the window of its queue, which is freed when this is dropped.
pub(crate) struct Slot(Arc<Window>);

impl Slot {
    /// Records how long the handler took.
    pub fn took(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).max(1);
        let average = self.0.average.load(Relaxed);
        // A long job counts in full at once, because jobs claimed ahead would wait for others like
        // it.
        let next = if average == 0 || time > SHORT { nanos } else { average - average / 8 + nanos / 8 };
        self.0.average.store(next.max(1), Relaxed);
    }

    /// The running jobs of the same queue.
    pub fn others(&self) -> &Slots {
        &self.0.slots
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.held.fetch_sub(1, Relaxed);
        if self.0.room() > 0 {
            self.0.freed.notify_one();
        }
    }
}

/// A claimed job on its way to its handler.
pub(crate) struct ClaimedJob {
    pub claimed: Claimed,
    pub hold: Hold,
    pub slot: Slot,
    /// The permit to run, for quarantined jobs.
    pub pass: RunPermit,
}

/// Records that a job yielded: other workspaces come first, and the job waits at its old position.
pub(crate) fn note_yield(process: &WorkerContext, slot: &Slot, queue: &str, workspace_id: Uuid, position: Position) {
    slot.others().yielded(workspace_id);
    if let Some(queue) = process.queues.iter().find(|known| known.name == queue) {
        lock(&queue.marks).returned(workspace_id, position);
    }
}

/// Claims jobs of one queue until the process stops, then hands back those that still wait.
pub(crate) async fn run(process: Arc<WorkerContext>, queue: Arc<Queue>) {
    loop {
        let room = tokio::select! {
            biased;
            () = process.stopping.cancelled() => break,
            room = queue.window.has_room() => room,
            // The jobs that were claimed ahead take longer than estimated, so others may run them.
            () = tokio::time::sleep(POLL_EVERY) => {
                hand_back(&process, queue.buffer.take_all()).await;
                continue;
            }
        };
        let claimed = claim(&process, &queue, room).await;
        let pause = match (process.services.claims.note(&claimed), claimed) {
            (Some(pause), _) => pause,
            (None, Ok(0)) => POLL_EVERY,
            (None, _) => continue,
        };
        tokio::select! {
            () = process.stopping.cancelled() => break,
            () = queue.wake.notified() => (),
            () = tokio::time::sleep(jittered(pause)) => (),
        }
    }
    hand_back(&process, queue.buffer.take_all()).await;
}

async fn claim(process: &WorkerContext, queue: &Queue, room: usize) -> Result<usize> {
    if !CLOCK.is_trusted() {
        return Ok(0);
    }
    // No jobs are claimed while a quarantined job has the process to itself.
    let _pass = tokio::select! {
        pass = process.gate.pass() => pass,
        () = process.stopping.cancelled() => return Ok(0),
    };
    let Some(claimant) = process.steering.claimant() else { return Ok(0) };
    let limit = i64::try_from(room).unwrap_or(i64::MAX);
    let (ranges, holders) = (queue.ranges(), queue.slots().holders());
    let claimed = process
        .upkeep(async |connection| queue::claim_in(connection, queue.name, limit, &ranges, &holders, &claimant).await)
        .await?;
    queue.claims.fetch_add(1, Relaxed);
    let count = claimed.len();
    if let Some(first) = claimed.first() {
        let positions = claimed.iter().map(|job| (job.workspace_id, job.position()));
        lock(&queue.marks).claimed(&ranges, first.claimed_at(), positions);
    }
    queue.buffer.push(claimed.into_iter().map(|claimed| queue.hold(process, claimed)));
    Ok(count)
}

/// Hands back jobs that have not started, as if they had never been claimed.
pub(crate) async fn hand_back(process: &WorkerContext, waiting: impl IntoIterator<Item = ClaimedJob>) {
    let leases = waiting.into_iter().map(|job| job.hold.lease);
    let mut ended: Vec<Ended> = leases.map(|lease| Ended::silently(lease, Outcome::Snooze(Duration::ZERO))).collect();
    if !ended.is_empty() {
        tracing::info!(jobs = ended.len(), "handing back jobs that have not started");
        acknowledge::write(process, &mut ended).await;
    }
}
