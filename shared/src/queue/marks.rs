//! Low-water marks: where a claim starts to look in each workspace.
//!
//! Each claim leaves a dead entry in the index of due work. PostgreSQL clears these entries, except
//! while an older transaction is open that may still see them. A claim that started at the front of
//! the index would then walk over every job claimed since that transaction began. So each process
//! remembers how far it has claimed, and starts there.
//!
//! What becomes visible before a mark (a late commit, an email that was handed back, a clock that
//! was set back) is found by a [`Sweep`], which reads from the front every few seconds, beside the
//! claims, and moves marks back. Marks are a hint in memory: without them a claim finds the same
//! jobs, only more slowly.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use crate::error::Result;

/// How often a process looks for work before its marks.
pub const SWEEP_EVERY: Duration = Duration::from_secs(4);
/// Marks stay this far before the present, so that the next claim finds what commits a little late.
const SETTLE: chrono::Duration = chrono::Duration::seconds(1);
/// Dead entries that a claim may walk over; a workspace with more gets a mark.
const MANY: u64 = 100;

/// The CTE `head` of a statement on `$table`: the first visible entry of each workspace, from its
/// mark on. It is a loose index scan, one probe for each workspace with work, in the ranges of
/// [`Ranges`], which are the four parameters `$from` to `$until`.
macro_rules! heads {
    ($table:literal, $waits:literal, $from:literal, $run_at:literal, $id:literal, $until:literal) => {
        concat!(
            "head (workspace_id, run_at, id, until) AS (
                SELECT first.workspace_id, first.run_at, first.id, range.until
                FROM unnest(",
            $from,
            "::uuid[], ",
            $run_at,
            "::timestamptz[], ",
            $id,
            "::uuid[], ",
            $until,
            "::uuid[])
                    AS range (workspace_id, run_at, id, until)
                CROSS JOIN LATERAL (
                    SELECT workspace_id, run_at, id FROM ",
            $table,
            "
                    WHERE ",
            $waits,
            "
                        AND (workspace_id, run_at, id) >= (range.workspace_id, range.run_at, range.id)
                        AND workspace_id < range.until
                    ORDER BY workspace_id, run_at, id LIMIT 1
                ) AS first
                UNION ALL
                SELECT next.workspace_id, next.run_at, next.id, head.until
                FROM head CROSS JOIN LATERAL (
                    SELECT workspace_id, run_at, id FROM ",
            $table,
            "
                    WHERE ",
            $waits,
            " AND workspace_id > head.workspace_id AND workspace_id < head.until
                    ORDER BY workspace_id, run_at, id LIMIT 1
                ) AS next
            )"
        )
    };
}

/// A statement that returns the first visible entry of each workspace that has rows in `$table`, and
/// how many entries of `$index`, dead ones included, had been read by then.
macro_rules! sweep {
    ($table:literal, $waits:literal, $index:literal) => {
        concat!(
            "WITH RECURSIVE swept (workspace_id, run_at, id, walked) AS (
                SELECT '00000000-0000-0000-0000-000000000000'::uuid, NULL::timestamptz, NULL::uuid,
                    pg_stat_get_xact_tuples_returned('",
            $index,
            "'::regclass)
                UNION ALL
                SELECT next.workspace_id, head.run_at, head.id, pg_stat_get_xact_tuples_returned('",
            $index,
            "'::regclass)
                FROM swept CROSS JOIN LATERAL (
                    SELECT workspace_id FROM ",
            $table,
            " WHERE workspace_id > swept.workspace_id
                    ORDER BY workspace_id LIMIT 1
                ) AS next LEFT JOIN LATERAL (
                    SELECT run_at, id FROM ",
            $table,
            " WHERE ",
            $waits,
            " AND workspace_id = next.workspace_id
                    ORDER BY run_at, id LIMIT 1
                ) AS head ON true
            )
            SELECT workspace_id, run_at, id, walked, now() AS now FROM swept"
        )
    };
}

pub(crate) use {heads, sweep};

/// A place in the order in which a workspace's work is claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// When the job or email became due.
    pub run_at: DateTime<Utc>,
    /// Its id.
    pub id: Uuid,
}

/// How far the work of each workspace was claimed, as one process knows it.
#[derive(Debug, Clone, Default)]
pub struct Marks {
    marks: BTreeMap<Uuid, Mark>,
    /// Rises when a mark is moved back, so that a claim under way does not move it on again.
    moved_back: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    /// Nothing before it waits, as far as is known.
    from: Position,
    /// About how many dead entries lie before it.
    dead: u64,
}

impl Marks {
    /// Where the next claim is to look.
    pub fn ranges(&self) -> Ranges {
        let marks = self.marks.iter().filter(|(_, mark)| mark.dead >= MANY);
        let mut ranges = Ranges { moved_back: self.moved_back, ..Ranges::default() };
        for (workspace_id, mark) in marks {
            ranges.split(*workspace_id, mark.from);
        }
        ranges
    }

    /// Notes what a claim in these ranges has claimed, at a time of the database.
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
        for (workspace_id, (last, count)) in last {
            let from = last.min(settled);
            let mark = self.marks.entry(workspace_id).or_insert(Mark { from, dead: 0 });
            mark.dead += count;
            if ranges.moved_back == self.moved_back {
                mark.from = from;
            }
        }
    }

    /// Notes work that waits again at its old place, such as what this process handed back.
    pub fn returned(&mut self, workspace_id: Uuid, position: Position) {
        if let Some(mark) = self.marks.get_mut(&workspace_id).filter(|mark| position < mark.from) {
            mark.from = position;
            self.moved_back += 1;
        }
    }

    /// Moves marks to where a sweep found work, drops those that are not needed, and returns whether
    /// any work was found before a mark. `began` are the marks as they were before the sweep.
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
            // A sweep that was planned over another index walks no dead entries: what is known fades, and
            // does not end at once.
            let known = before.map_or(0, |before| before.dead / 2);
            let mark = Mark { from, dead: found.walked.max(known) + since };
            if mark.dead >= MANY || claimed_since.is_some() {
                marks.insert(found.workspace_id, mark);
            }
            self.moved_back += u64::from(is_late);
            found_late |= is_late && found.head.is_some();
        }
        // Of workspaces that were not there yet, what was claimed since stays known.
        for (workspace_id, mark) in &self.marks {
            if began.marks.get(workspace_id) != Some(mark) {
                marks.entry(*workspace_id).or_insert(*mark);
            }
        }
        self.marks = marks;
        found_late
    }
}

/// The parts of the index of due work that a claim looks into, in its order: all of it but what lies
/// before the marks. Each part starts at a place of a workspace and ends before another workspace.
#[derive(Debug, Clone)]
pub struct Ranges {
    pub(crate) workspaces: Vec<Uuid>,
    pub(crate) run_ats: Vec<DateTime<Utc>>,
    pub(crate) ids: Vec<Uuid>,
    pub(crate) untils: Vec<Uuid>,
    moved_back: u64,
}

impl Default for Ranges {
    /// Everything.
    fn default() -> Self {
        Self {
            workspaces: vec![Uuid::nil()],
            run_ats: vec![DateTime::UNIX_EPOCH],
            ids: vec![Uuid::nil()],
            untils: vec![Uuid::max()],
            moved_back: 0,
        }
    }
}

impl Ranges {
    /// Leaves out what lies before a mark; marks come in the order of their workspaces.
    fn split(&mut self, workspace_id: Uuid, from: Position) {
        if let Some(until) = self.untils.last_mut() {
            *until = workspace_id;
        }
        self.workspaces.push(workspace_id);
        self.run_ats.push(from.run_at);
        self.ids.push(from.id);
        self.untils.push(Uuid::max());
    }
}

/// Where the work of each workspace begins, read from the front of the index.
#[derive(Debug)]
pub struct Sweep {
    now: DateTime<Utc>,
    workspaces: Vec<Swept>,
}

#[derive(Debug)]
struct Swept {
    workspace_id: Uuid,
    head: Option<Position>,
    /// Entries that had to be read to find it; dead ones, but for the last.
    walked: u64,
}

#[derive(FromRow)]
struct SweptRow {
    workspace_id: Uuid,
    run_at: Option<DateTime<Utc>>,
    id: Option<Uuid>,
    /// Entries read so far.
    walked: i64,
    now: DateTime<Utc>,
}

impl Sweep {
    /// Runs a statement of [`sweep!`]. It reads all dead entries once, and locks nothing.
    pub(crate) async fn read(
        connection: &mut PgConnection,
        statement: &'static str,
        queue: Option<&str>,
    ) -> Result<Self> {
        let mut query = sqlx::query_as::<_, SweptRow>(statement);
        if let Some(queue) = queue {
            query = query.bind(queue);
        }
        Ok(Self::of(&query.fetch_all(connection).await?))
    }

    fn of(rows: &[SweptRow]) -> Self {
        let workspaces = rows.windows(2).filter_map(|pair| {
            let [before, row] = pair else { return None };
            let head = row.run_at.zip(row.id).map(|(run_at, id)| Position { run_at, id });
            let walked = u64::try_from(row.walked - before.walked).unwrap_or(0);
            Some(Swept { workspace_id: row.workspace_id, head, walked })
        });
        Self { now: rows.first().map_or(DateTime::UNIX_EPOCH, |row| row.now), workspaces: workspaces.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_000;

    fn at(second: i64) -> Position {
        Position { run_at: DateTime::from_timestamp(second, 0).unwrap(), id: Uuid::nil() }
    }

    fn workspace(n: u128) -> Uuid {
        Uuid::from_u128(n)
    }

    /// Marks of one workspace whose jobs of these seconds were claimed, each a hundred times.
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
        let starts = ranges.workspaces.iter().zip(&ranges.run_ats).skip(1);
        starts.map(|(workspace_id, run_at)| (*workspace_id, run_at.timestamp())).collect()
    }

    #[test]
    fn without_marks_everything_is_looked_into() {
        let ranges = Marks::default().ranges();
        assert_eq!((ranges.workspaces, ranges.untils), (vec![Uuid::nil()], vec![Uuid::max()]));
    }

    #[test]
    fn a_claim_starts_where_the_last_one_ended() {
        let mut marks = Marks::default();
        claimed(&mut marks, 7, 1..=5);
        claimed(&mut marks, 3, 2..=2);
        assert_eq!(starts(&marks), [(workspace(3), 2), (workspace(7), 5)]);
        let ranges = marks.ranges();
        assert_eq!(ranges.untils, [workspace(3), workspace(7), Uuid::max()]);
    }

    #[test]
    fn a_mark_stays_a_second_before_the_present() {
        let mut marks = Marks::default();
        claimed(&mut marks, 1, NOW..=NOW);
        assert_eq!(starts(&marks), [(workspace(1), NOW - 1)]);
    }

    #[test]
    fn work_found_before_a_mark_moves_it_back_whatever_was_claimed_meanwhile() {
        let mut marks = Marks::default();
        claimed(&mut marks, 1, 100..=200);
        let (began, under_way) = (marks.clone(), marks.ranges());
        claimed(&mut marks, 1, 201..=300);
        assert!(marks.swept(&began, &sweep(&[(1, Some(50), 9_999)])));
        assert_eq!(starts(&marks), [(workspace(1), 50)]);
        // The claim that was under way had looked from 200 on.
        marks.claimed(&under_way, at(NOW).run_at, [(workspace(1), at(301))]);
        assert_eq!(starts(&marks), [(workspace(1), 50)]);
        claimed(&mut marks, 1, 50..=302);
        assert_eq!(starts(&marks), [(workspace(1), 302)]);
    }

    #[test]
    fn a_sweep_that_finds_nothing_late_leaves_marks_that_moved_on() {
        let mut marks = Marks::default();
        claimed(&mut marks, 1, 100..=200);
        let began = marks.clone();
        claimed(&mut marks, 1, 201..=300);
        assert!(!marks.swept(&began, &sweep(&[(1, Some(201), 9_999)])));
        assert_eq!(starts(&marks), [(workspace(1), 300)]);
    }

    #[test]
    fn a_sweep_marks_what_others_have_claimed_and_drops_what_nobody_needs() {
        let mut marks = Marks::default();
        claimed(&mut marks, 1, 100..=200);
        let began = marks.clone();
        let found = sweep(&[(1, Some(900), 3), (2, None, 5_000), (3, Some(700), 5_000), (4, Some(1), 1)]);
        assert!(!marks.swept(&began, &found));
        // What was known of the first one fades.
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
    fn what_was_handed_back_is_found_at_its_old_place() {
        let mut marks = Marks::default();
        claimed(&mut marks, 1, 100..=200);
        marks.returned(workspace(1), at(150));
        marks.returned(workspace(2), at(1));
        assert_eq!(starts(&marks), [(workspace(1), 150)]);
    }
}
