//! Claiming: one task for each queue takes due jobs from the ledger, as many as there is room for.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use shared::Result;
use shared::platform::db::CLOCK;
use shared::queue::{self, Claimed, Lease, Marks, Outcome, Position, Ranges, Sweep};
use tokio::sync::Notify;
use uuid::Uuid;

use crate::context::{WorkerContext, jittered};
use crate::queue::acknowledge;
use crate::queue::buffer::Buffer;
use crate::queue::fairness::Slots;
use crate::queue::leases::{Hold, lock};
use crate::queue::quarantine::RunPermit;

/// How often an idle worker looks for work without a notification.
pub(crate) const POLL_EVERY: Duration = Duration::from_secs(1);
/// Jobs claimed ahead in one statement at most.
const BATCH: usize = 2000;
/// Jobs that take longer than this are never claimed ahead: another process may have a free slot.
const SHORT: Duration = Duration::from_millis(5);
/// For how long jobs may wait in this process after their claim, as far as it can be foreseen.
const AHEAD: Duration = Duration::from_millis(200);

/// A queue as this process works on it.
pub(crate) struct Queue {
    pub name: &'static str,
    pub wake: Notify,
    pub buffer: Arc<Buffer>,
    pub claims: AtomicU64,
    window: Arc<Window>,
    /// Where the next claim starts to look.
    marks: Mutex<Marks>,
}

impl Queue {
    pub fn new(name: &'static str, concurrency: usize) -> Self {
        let window = Arc::new(Window { concurrency, ..Window::default() });
        let (wake, buffer, claims) = (Notify::new(), Arc::default(), AtomicU64::new(0));
        Self { name, wake, buffer, claims, window, marks: Mutex::default() }
    }

    /// The jobs that run in its slots here.
    pub fn slots(&self) -> &Slots {
        &self.window.slots
    }

    /// Where the next claim is to look.
    pub fn ranges(&self) -> Ranges {
        lock(&self.marks).ranges()
    }

    /// The marks as they are now, for a sweep that begins.
    pub fn marks(&self) -> Marks {
        lock(&self.marks).clone()
    }

    /// Moves the marks to where a sweep found work.
    pub fn swept(&self, began: &Marks, sweep: &Sweep) {
        if lock(&self.marks).swept(began, sweep) {
            tracing::info!(queue = self.name, "found jobs that became visible late");
            self.wake.notify_one();
        }
    }

    /// Takes a claimed job into the tables of this process: its lease and its slot.
    pub fn hold(&self, process: &WorkerContext, claimed: Claimed) -> ClaimedJob {
        self.window.held.fetch_add(1, Relaxed);
        let (hold, slot) = (process.leases.hold(claimed.lease()), Slot(self.window.clone()));
        ClaimedJob { claimed, hold, slot, pass: RunPermit::None }
    }
}

/// How many jobs of a queue this process may hold.
#[derive(Default)]
struct Window {
    concurrency: usize,
    held: AtomicUsize,
    /// How long handlers took of late, a moving average in nanoseconds; 0 before the first.
    average: AtomicU64,
    freed: Notify,
    slots: Slots,
}

impl Window {
    /// How many jobs to claim now. Each slot is free; beyond them, jobs so short that fetching them
    /// takes longer than running them are claimed ahead: one batch waits while another runs.
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

/// A job's place in the window of its queue; free again when this is dropped.
pub(crate) struct Slot(Arc<Window>);

impl Slot {
    /// Notes how long the handler took.
    pub fn took(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).max(1);
        let average = self.0.average.load(Relaxed);
        // Long ones count at once: what is claimed ahead would wait behind them.
        let next = if average == 0 || time > SHORT { nanos } else { average - average / 8 + nanos / 8 };
        self.0.average.store(next.max(1), Relaxed);
    }

    /// The jobs that run in slots of its queue.
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
    /// The right to run, if it is there already.
    pub pass: RunPermit,
}

/// Notes that a job gave its slot up: others come before its workspace, and it waits at its old place.
pub(crate) fn note_yield(process: &WorkerContext, slot: &Slot, queue: &str, workspace_id: Uuid, position: Position) {
    slot.others().yielded(workspace_id);
    if let Some(queue) = process.queues.iter().find(|known| known.name == queue) {
        lock(&queue.marks).returned(workspace_id, position);
    }
}

/// Claims jobs of one queue until the process stops, then hands back what still waits.
pub(crate) async fn run(process: Arc<WorkerContext>, queue: Arc<Queue>) {
    loop {
        let room = tokio::select! {
            biased;
            () = process.stopping.cancelled() => break,
            room = queue.window.has_room() => room,
            // What was claimed ahead does not get on: it was not as short as foreseen.
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
    // Nothing is claimed while a job has the process for itself.
    let _pass = tokio::select! {
        pass = process.gate.pass() => pass,
        () = process.stopping.cancelled() => return Ok(0),
    };
    let limit = i64::try_from(room).unwrap_or(i64::MAX);
    let (ranges, holders) = (queue.ranges(), queue.slots().holders());
    let claimed = process
        .upkeep(async |connection| queue::claim_in(connection, queue.name, limit, &ranges, &holders).await)
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

/// Gives jobs that have not begun back to the ledger, as if they had never been claimed.
pub(crate) async fn hand_back(process: &WorkerContext, waiting: impl IntoIterator<Item = ClaimedJob>) {
    let leases = waiting.into_iter().map(|held| held.hold.lease);
    let mut ended: Vec<(Lease, Outcome)> = leases.map(|lease| (lease, Outcome::Snooze(Duration::ZERO))).collect();
    if !ended.is_empty() {
        tracing::info!(jobs = ended.len(), "claimed jobs are handed back before they began");
        acknowledge::write(process, &mut ended).await;
    }
}
