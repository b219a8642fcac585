//! Fairness between workspaces: a job yields its slot when another workspace waits and holds no
//! slot.
//!
//! Claims give each workspace with due jobs an equal share. But long jobs of one workspace may hold
//! every slot of this process for hours. So while no slot is free, the worker checks a few times a
//! second whether other workspaces have unclaimed jobs. If so, it asks as many jobs as needed to
//! yield: first those of the workspace that holds the most slots, and of these the job that has
//! held its slot longest. A job yields after its current step, keeps its position in the queue, and
//! resumes after its next claim.
//!
//! A claimed job keeps its slot for at least a second, and for twice the time until its first
//! committed step, so that workspaces do not spend their turns on starting jobs.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use shared::platform::db::CLOCK;
use shared::queue;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::context::{WorkerContext, jittered};
use crate::queue::claim::Queue;
use crate::queue::leases::lock;

/// How often the worker checks for waiting workspaces while no slot is free.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long a claimed job keeps its slot at least.
const KEEP: Duration = Duration::from_secs(1);

/// A job's time in its slot.
#[derive(Debug)]
pub(crate) struct Turn {
    workspace_id: Uuid,
    began: Instant,
    first_step: OnceLock<Instant>,
    is_asked: AtomicBool,
}

impl Turn {
    pub fn of(workspace_id: Uuid) -> Arc<Self> {
        let (first_step, is_asked) = (OnceLock::new(), AtomicBool::new(false));
        Arc::new(Self { workspace_id, began: Instant::now(), first_step, is_asked })
    }

    /// Records that the job has committed a step.
    pub fn step(&self) {
        self.first_step.get_or_init(Instant::now);
    }

    /// Whether the job must yield now.
    pub fn is_over(&self) -> bool {
        self.is_asked.load(Relaxed)
    }

    fn may_be_asked(&self) -> bool {
        self.first_step
            .get()
            .is_some_and(|first| self.began.elapsed() >= KEEP && first.elapsed() >= first.duration_since(self.began))
    }
}

/// The running jobs of a queue, and the workspaces that yielded slots just now.
#[derive(Default)]
pub(crate) struct Slots {
    turns: Mutex<Vec<Arc<Turn>>>,
    yielded: Mutex<HashMap<Uuid, Instant>>,
}

/// A running job's entry in the [`Slots`], which is removed when this is dropped.
pub(crate) struct Seat<'a> {
    slots: &'a Slots,
    turn: Arc<Turn>,
}

impl Slots {
    /// Adds a running job.
    pub fn take(&self, turn: Arc<Turn>) -> Seat<'_> {
        lock(&self.turns).push(turn.clone());
        Seat { slots: self, turn }
    }

    /// Records that a job of the workspace has yielded.
    pub fn yielded(&self, workspace_id: Uuid) {
        lock(&self.yielded).insert(workspace_id, Instant::now());
    }

    /// The workspaces that hold a slot or have just yielded one. Other workspaces come first.
    pub fn holders(&self) -> Vec<Uuid> {
        let mut yielded = lock(&self.yielded);
        yielded.retain(|_, since| since.elapsed() < KEEP);
        let mut holders: Vec<Uuid> = yielded.keys().copied().collect();
        drop(yielded);
        holders.extend(lock(&self.turns).iter().map(|turn| turn.workspace_id));
        holders.sort_unstable();
        holders.dedup();
        holders
    }

    /// The workspaces that hold slots, if all slots are taken and a job could yield.
    fn holders_if_full(&self, concurrency: usize) -> Option<Vec<Uuid>> {
        let turns = lock(&self.turns);
        let is_full = turns.len() >= concurrency && turns.iter().any(|turn| turn.may_be_asked());
        is_full.then(|| turns.iter().map(|turn| turn.workspace_id).collect())
    }

    /// Asks as many jobs to yield as the waiting workspaces need, and withdraws the request from
    /// all others.
    fn ask(&self, waiting: usize, concurrency: usize) {
        let turns = lock(&self.turns);
        let needed = if waiting == 0 { 0 } else { (turns.len() + waiting).saturating_sub(concurrency) };
        let asked = choose(&turns, needed);
        for turn in turns.iter() {
            turn.is_asked.store(asked.iter().any(|asked| Arc::ptr_eq(asked, turn)), Relaxed);
        }
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        lock(&self.slots.turns).retain(|turn| !Arc::ptr_eq(turn, &self.turn));
    }
}

/// Chooses up to `count` jobs that may be asked to yield: each time a job of the workspace with the
/// most remaining slots, and of these the job that has held its slot longest.
fn choose(turns: &[Arc<Turn>], count: usize) -> Vec<Arc<Turn>> {
    let mut held = BTreeMap::<Uuid, usize>::new();
    for turn in turns {
        *held.entry(turn.workspace_id).or_default() += 1;
    }
    let mut left: Vec<&Arc<Turn>> = turns.iter().filter(|turn| turn.may_be_asked()).collect();
    let mut chosen = Vec::new();
    while chosen.len() < count {
        let next = (0..left.len())
            .max_by_key(|&i| (held.get(&left[i].workspace_id).copied(), std::cmp::Reverse(left[i].began)));
        let Some(next) = next else { break };
        let turn = left.swap_remove(next);
        if let Some(held) = held.get_mut(&turn.workspace_id) {
            *held -= 1;
        }
        chosen.push(turn.clone());
    }
    chosen
}

/// Asks jobs of a queue to yield to waiting workspaces, until the process stops.
pub(crate) async fn keep(process: Arc<WorkerContext>, queue: Arc<Queue>) {
    let concurrency = process.settings.worker.concurrency;
    loop {
        tokio::select! {
            () = process.stopping.cancelled() => return,
            () = tokio::time::sleep(jittered(LOOK_EVERY)) => (),
        }
        let waiting = match queue.slots().holders_if_full(concurrency) {
            // While this process must not claim, a free slot helps nobody.
            Some(holders) if CLOCK.is_trusted() => waiting(&process, &queue, &holders).await,
            _ => 0,
        };
        queue.slots().ask(waiting, concurrency);
    }
}

/// Counts the workspaces that wait and hold no slot here. An unknown count is treated as zero.
async fn waiting(process: &WorkerContext, queue: &Queue, holders: &[Uuid]) -> usize {
    let limit = process.settings.worker.concurrency;
    let (ranges, paused) = (queue.ranges(), process.steering.paused());
    let look = async |connection: &mut PgConnection| {
        queue::workspaces_waiting(connection, queue.name, limit, &ranges, holders, &paused).await
    };
    match process.upkeep(look).await {
        Ok(waiting) => waiting.len(),
        // Claims report the same error.
        Err(error) => {
            tracing::debug!(%error, queue = queue.name, "cannot look for waiting workspaces");
            0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A job that began `ago` seconds ago, and committed its first step after `first_step_after`
    /// seconds.
    fn turn(workspace: u128, ago: u64, first_step_after: Option<u64>) -> Arc<Turn> {
        let began = Instant::now() - Duration::from_secs(ago);
        let first_step = OnceLock::new();
        if let Some(after) = first_step_after {
            first_step.set(began + Duration::from_secs(after)).unwrap();
        }
        let workspace_id = Uuid::from_u128(workspace);
        Arc::new(Turn { workspace_id, began, first_step, is_asked: AtomicBool::new(false) })
    }

    fn asked(slots: &Slots) -> Vec<bool> {
        lock(&slots.turns).iter().map(|turn| turn.is_over()).collect()
    }

    fn slots(turns: Vec<Arc<Turn>>) -> Slots {
        Slots { turns: Mutex::new(turns), ..Slots::default() }
    }

    #[test]
    fn the_workspace_with_the_most_slots_yields_its_longest_running_job_first() {
        let slots = slots(vec![turn(1, 900, Some(1)), turn(2, 10, Some(1)), turn(2, 20, Some(1)), turn(2, 5, Some(1))]);
        slots.ask(1, 4);
        assert_eq!(asked(&slots), [false, false, true, false]);
        slots.ask(2, 4);
        assert_eq!(asked(&slots), [false, true, true, false]);
        slots.ask(3, 4);
        assert_eq!(asked(&slots), [true, true, true, false]);
        slots.ask(0, 4);
        assert_eq!(asked(&slots), [false; 4]);
    }

    #[test]
    fn a_job_is_asked_after_a_second_and_twice_the_time_to_its_first_step() {
        let slots = slots(vec![turn(1, 0, Some(0)), turn(1, 50, None), turn(1, 50, Some(30)), turn(1, 50, Some(20))]);
        slots.ask(4, 4);
        assert_eq!(asked(&slots), [false, false, false, true]);
    }

    #[test]
    fn enough_jobs_yield_to_free_a_slot_when_more_run_than_there_are_slots() {
        let slots = slots((0..6).map(|_| turn(1, 50, Some(1))).collect());
        slots.ask(1, 4);
        assert_eq!(asked(&slots).iter().filter(|asked| **asked).count(), 3);
    }

    #[test]
    fn waiting_workspaces_are_ignored_while_a_slot_is_free_or_no_job_could_yield() {
        assert_eq!(slots(vec![turn(1, 50, Some(1))]).holders_if_full(2), None);
        assert_eq!(slots(vec![turn(1, 0, Some(0))]).holders_if_full(1), None);
        assert_eq!(slots(vec![turn(1, 50, Some(1))]).holders_if_full(1), Some(vec![Uuid::from_u128(1)]));
    }

    #[test]
    fn a_workspace_that_has_just_yielded_counts_as_a_holder() {
        let slots = slots(vec![turn(1, 50, Some(1))]);
        slots.yielded(Uuid::from_u128(2));
        assert_eq!(slots.holders(), [Uuid::from_u128(1), Uuid::from_u128(2)]);
    }
}
