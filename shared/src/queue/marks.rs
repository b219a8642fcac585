//! Low-water marks: the position at which a claim starts in each workspace.
//!
//! Each claim leaves a dead entry in the index of due work. PostgreSQL removes these entries, except
//! while an older transaction is open that may still see them. A claim that starts at the front of the
//! index then reads every entry claimed since that transaction began. So each process remembers how far
//! it has claimed, and starts there.
//!
//! Work can become visible before a mark: a late commit, an email that was requeued, a clock that was
//! set back. A [`Sweep`] finds such work: it reads from the front every few seconds, independently of
//! claims, and moves marks back. Marks are a hint in memory: without them a claim finds the same jobs,
//! only more slowly.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::FromRow;
use uuid::Uuid;

use super::fronts::{Range, Sweep};

/// How often a process looks for work before its marks.
pub const SWEEP_EVERY: Duration = Duration::from_secs(4);
/// Marks stay this far before the present, so that the next claim finds jobs that commit a little late.
const SETTLE: chrono::Duration = chrono::Duration::seconds(1);
/// A workspace with this many dead entries gets a mark; a claim reads over fewer.
const MANY: u64 = 100;

/// A position in the order in which a workspace's work is claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, FromRow)]
pub struct Position {
    /// When the job or email became due.
    pub run_at: DateTime<Utc>,
    /// The id of the job or email.
    pub id: Uuid,
}

impl Position {
    /// The position before all entries.
    pub(super) const START: Self = Self { run_at: DateTime::UNIX_EPOCH, id: Uuid::nil() };
}

/// How far one process has claimed the work of each workspace.
#[derive(Debug, Clone, Default)]
pub struct Marks {
    marks: BTreeMap<Uuid, Mark>,
    /// Counts marks that were moved back, so that a claim in progress does not move them forward again.
    moved_back: u64,
    /// The workspace at which the next claim starts: workspaces take turns.
    first: Uuid,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    /// No known work waits before this position.
    from: Position,
    /// The approximate number of dead entries before it.
    dead: u64,
}

impl Marks {
    /// The ranges that the next claim reads.
    pub fn ranges(&self) -> Ranges {
        let marks = self.marks.iter().filter(|(_, mark)| mark.dead >= MANY);
        let mut ranges = Ranges { moved_back: self.moved_back, first: self.first, ..Ranges::default() };
        for (workspace_id, mark) in marks {
            ranges.split(*workspace_id, mark.from);
        }
        ranges
    }

    /// Records what a claim in these ranges has claimed, with the database's time.
    pub fn claimed(
        &mut self,
        ranges: &Ranges,
        now: DateTime<Utc>,
        claimed: impl IntoIterator<Item = (Uuid, Position)>,
    ) {
        let settled = Position { run_at: now - SETTLE, id: Uuid::nil() };
        let mut last = BTreeMap::<Uuid, (Position, u64)>::new();
        for (workspace_id, position) in claimed {
            let (last, count) = last.entry(workspace_id).or_insert((position, 0));
            (*last, *count) = ((*last).max(position), *count + 1);
        }
        let latest = last.keys().max_by_key(|workspace_id| (**workspace_id < ranges.first, **workspace_id));
        self.first = latest.map_or(self.first, |latest| after(*latest));
        for (workspace_id, (last, count)) in last {
            let from = last.min(settled);
            let mark = self.marks.entry(workspace_id).or_insert(Mark { from, dead: 0 });
            mark.dead += count;
            if ranges.moved_back == self.moved_back {
                mark.from = from;
            }
        }
    }

    /// The workspaces that a sweep must read: those with a mark.
    pub fn workspaces(&self) -> impl Iterator<Item = Uuid> {
        self.marks.keys().copied()
    }

    /// Forgets all marks: the next claim reads the whole index.
    pub fn reset(&mut self) {
        self.marks.clear();
        self.moved_back += 1;
    }

    /// Records work that waits again at its old position, such as a job that this process requeued.
    pub fn returned(&mut self, workspace_id: Uuid, position: Position) {
        if let Some(mark) = self.marks.get_mut(&workspace_id).filter(|mark| position < mark.from) {
            mark.from = position;
            self.moved_back += 1;
        }
    }

    /// Moves marks to the work that a sweep found, and drops marks that are no longer needed. Returns whether
    /// the sweep found work before a mark. `began` are the marks before the sweep.
    pub fn swept(&mut self, began: &Self, sweep: &Sweep) -> bool {
        let settled = Position { run_at: sweep.now - SETTLE, id: Uuid::nil() };
        let mut found_late = false;
        let mut marks = BTreeMap::new();
        for found in &sweep.workspaces {
            let head = found.head.map_or(settled, |head| head.min(settled));
            let (before, now) = (began.marks.get(&found.workspace_id), self.marks.get(&found.workspace_id));
            let is_late = before.is_some_and(|before| head < before.from);
            let claimed_since = now.filter(|now| before != Some(now));
            let from = claimed_since.filter(|_| !is_late).map_or(head, |now| now.from);
            let since = claimed_since.map_or(0, |now| now.dead.saturating_sub(before.map_or(0, |before| before.dead)));
            // A sweep that used another index reads no dead entries: so the known number decays instead of
            // dropping at once.
            let known = before.map_or(0, |before| before.dead / 2);
            let mark = Mark { from, dead: found.walked.max(known) + since };
            if mark.dead >= MANY || claimed_since.is_some() {
                marks.insert(found.workspace_id, mark);
            }
            self.moved_back += u64::from(is_late);
            found_late |= is_late && found.head.is_some();
        }
        // Workspaces that were not swept keep their marks.
        for (workspace_id, mark) in &self.marks {
            if sweep.workspaces.iter().all(|found| found.workspace_id != *workspace_id) {
                marks.insert(*workspace_id, *mark);
            }
        }
        self.marks = marks;
        found_late
    }
}

/// The ranges of the index of due work that a claim reads: everything except what lies before the marks.
#[derive(Debug, Clone)]
pub struct Ranges {
    ranges: Vec<Range>,
    first: Uuid,
    moved_back: u64,
}

impl Default for Ranges {
    /// The whole index.
    fn default() -> Self {
        Self { ranges: vec![Range::EVERYTHING], first: Uuid::nil(), moved_back: 0 }
    }
}

impl Ranges {
    /// Skips what lies before a mark. Marks must be given in the order of their workspaces.
    fn split(&mut self, workspace_id: Uuid, from: Position) {
        if let Some(last) = self.ranges.last_mut() {
            last.until = workspace_id;
        }
        self.ranges.push(Range { workspace_id, from, until: Uuid::max() });
    }

    /// The ranges in the order of this claim: from the workspace whose turn it is to the last, then from the
    /// first.
    pub(super) fn in_turn(&self) -> impl Iterator<Item = Range> {
        let (mut now, mut then) = (Vec::new(), Vec::new());
        for range in &self.ranges {
            if range.workspace_id >= self.first {
                now.push(*range);
            } else if range.until <= self.first {
                then.push(*range);
            } else {
                now.push(Range { workspace_id: self.first, from: Position::START, ..*range });
                then.push(Range { until: self.first, ..*range });
            }
        }
        now.into_iter().chain(then)
    }
}

/// The first id after this one.
pub(super) fn after(workspace_id: Uuid) -> Uuid {
    Uuid::from_u128(workspace_id.as_u128().saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::fronts::Swept;

    const NOW: i64 = 1_000;

    fn at(second: i64) -> Position {
        Position { run_at: DateTime::from_timestamp(second, 0).unwrap(), id: Uuid::nil() }
    }

    fn workspace(n: u128) -> Uuid {
        Uuid::from_u128(n)
    }

    /// Claims a hundred jobs of each of these seconds in one workspace.
    fn claimed(marks: &mut Marks, n: u128, seconds: std::ops::RangeInclusive<i64>) {
        let ranges = marks.ranges();
        let jobs = seconds.flat_map(|second| std::iter::repeat_n((workspace(n), at(second)), 100));
        marks.claimed(&ranges, at(NOW).run_at, jobs);
    }

    fn sweep(found: &[(u128, Option<i64>, u64)]) -> Sweep {
        let workspaces =
            found.iter().map(|&(n, head, walked)| Swept { workspace_id: workspace(n), head: head.map(at), walked });
        Sweep { now: at(NOW).run_at, workspaces: workspaces.collect() }
    }

    fn starts(marks: &Marks) -> Vec<(Uuid, i64)> {
        let ranges = marks.ranges();
        ranges.ranges.iter().skip(1).map(|range| (range.workspace_id, range.from.run_at.timestamp())).collect()
    }

    #[test]
    fn without_marks_a_claim_reads_the_whole_index() {
        assert_eq!(Marks::default().ranges().ranges, [Range::EVERYTHING]);
    }

    #[test]
    fn a_claim_starts_where_the_last_one_ended() {
        let mut marks = Marks::default();
        claimed(&mut marks, 7, 1..=5);
        claimed(&mut marks, 3, 2..=2);
        assert_eq!(starts(&marks), [(workspace(3), 2), (workspace(7), 5)]);
        let untils: Vec<Uuid> = marks.ranges().ranges.iter().map(|range| range.until).collect();
        assert_eq!(untils, [workspace(3), workspace(7), Uuid::max()]);
    }

    #[test]
    fn a_mark_stays_a_second_before_the_present() {
        let mut marks = Marks::default();
        claimed(&mut marks, 1, NOW..=NOW);
        assert_eq!(starts(&marks), [(workspace(1), NOW - 1)]);
    }

    #[test]
    fn work_found_before_a_mark_moves_it_back_despite_claims_in_the_meantime() {
        let mut marks = Marks::default();
        claimed(&mut marks, 1, 100..=200);
        let (began, in_progress) = (marks.clone(), marks.ranges());
        claimed(&mut marks, 1, 201..=300);
        assert!(marks.swept(&began, &sweep(&[(1, Some(50), 9_999)])));
        assert_eq!(starts(&marks), [(workspace(1), 50)]);
        // The claim that was in progress had started at 200.
        marks.claimed(&in_progress, at(NOW).run_at, [(workspace(1), at(301))]);
        assert_eq!(starts(&marks), [(workspace(1), 50)]);
        claimed(&mut marks, 1, 50..=302);
        assert_eq!(starts(&marks), [(workspace(1), 302)]);
    }

    #[test]
    fn a_sweep_without_late_work_leaves_marks_that_moved_forward() {
        let mut marks = Marks::default();
        claimed(&mut marks, 1, 100..=200);
        let began = marks.clone();
        claimed(&mut marks, 1, 201..=300);
        assert!(!marks.swept(&began, &sweep(&[(1, Some(201), 9_999)])));
        assert_eq!(starts(&marks), [(workspace(1), 300)]);
    }

    #[test]
    fn a_sweep_adds_marks_for_claims_of_other_processes_and_drops_unneeded_ones() {
        let mut marks = Marks::default();
        claimed(&mut marks, 1, 100..=200);
        let began = marks.clone();
        let found = sweep(&[(1, Some(900), 3), (2, None, 5_000), (3, Some(700), 5_000), (4, Some(1), 1)]);
        assert!(!marks.swept(&began, &found));
        // The known number of dead entries of the first workspace decays.
        assert_eq!(starts(&marks), [(workspace(1), 900), (workspace(2), NOW - 1), (workspace(3), 700)]);
        for _ in 0..7 {
            let began = marks.clone();
            assert!(!marks.swept(&began, &found));
        }
        assert_eq!(starts(&marks), [(workspace(2), NOW - 1), (workspace(3), 700)]);
    }

    #[test]
    fn a_clock_that_was_set_back_moves_marks_back() {
        let mut marks = Marks::default();
        marks.claimed(&Ranges::default(), at(9_000).run_at, vec![(workspace(1), at(9_000)); 500]);
        let began = marks.clone();
        marks.swept(&began, &sweep(&[(1, None, 500)]));
        assert_eq!(starts(&marks), [(workspace(1), NOW - 1)]);
    }

    #[test]
    fn a_requeued_job_moves_the_mark_back_to_its_old_position() {
        let mut marks = Marks::default();
        claimed(&mut marks, 1, 100..=200);
        marks.returned(workspace(1), at(150));
        marks.returned(workspace(2), at(1));
        assert_eq!(starts(&marks), [(workspace(1), 150)]);
    }

    #[test]
    fn workspaces_take_turns() {
        let mut marks = Marks::default();
        claimed(&mut marks, 3, 2..=2);
        claimed(&mut marks, 7, 1..=1);
        claimed(&mut marks, 5, 1..=1);
        let in_turn: Vec<_> = marks.ranges().in_turn().map(|range| (range.workspace_id, range.until)).collect();
        let expected = [(6, 7), (7, u128::MAX), (0, 3), (3, 5), (5, 6)];
        assert_eq!(in_turn, expected.map(|(from, until)| (workspace(from), workspace(until))));
    }
}
