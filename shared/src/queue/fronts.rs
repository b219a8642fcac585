//! Fronts: the first waiting entry of each workspace.
//!
//! Finding fronts is the only read of a claim that crosses workspaces. It takes no locks: the claim then
//! proceeds workspace by workspace, and checks again which entries are due.

use chrono::{DateTime, Utc};
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use super::marks::{Position, Ranges, after};
use super::paused::Paused;
use crate::error::Result;
use crate::platform::db::Among;

/// The number of entries that one statement reads. A workspace with more entries costs a statement of its
/// own. The statements contain the number as a literal: with a parameter the planner picks another index.
const PAGE: usize = 64;

/// Waiting work in an index ordered by workspace, time and id.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waiting<'a> {
    /// Reads at most [`PAGE`] entries as [`Front`]s, from a workspace (`$1`), time (`$2`) and id (`$3`) to
    /// before a workspace (`$4`).
    pub entries: &'static str,
    /// Reads the first entry of a workspace (`$1`) as a [`HeadRow`], which is also returned without entries.
    pub head: &'static str,
    /// The last parameters of both statements, if they have two more: a queue, and the paused kinds.
    pub queue: Option<(&'a str, &'a [String])>,
}

/// A range of the index: from a position in one workspace to the start of another workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    pub workspace_id: Uuid,
    pub from: Position,
    pub until: Uuid,
}

impl Range {
    pub const EVERYTHING: Self = Self { workspace_id: Uuid::nil(), from: Position::START, until: Uuid::max() };
}

/// The first entry of a workspace.
#[derive(Debug, Clone, Copy, FromRow)]
pub(crate) struct Front {
    pub workspace_id: Uuid,
    #[sqlx(flatten)]
    pub position: Position,
    /// The database's time.
    pub now: DateTime<Utc>,
}

/// The share of a claim that goes to a workspace.
pub(crate) struct Share {
    pub front: Front,
    pub limit: i64,
}

impl Waiting<'_> {
    /// Divides up to `limit` entries equally among the workspaces with due entries that are not paused; those in
    /// `holders` come last.
    pub async fn shares(
        self,
        connection: &mut PgConnection,
        limit: i64,
        ranges: &Ranges,
        holders: &[Uuid],
        paused: &Paused,
    ) -> Result<Vec<Share>> {
        let limit = usize::try_from(limit).unwrap_or(0);
        let (mut due, mut held) = (Vec::new(), Vec::new());
        self.visit(connection, ranges, |front| {
            if front.position.run_at <= front.now && !paused.has_workspace(front.workspace_id) {
                let list = if holders.contains(&front.workspace_id) { &mut held } else { &mut due };
                list.push(front);
            }
            due.len() < limit
        })
        .await?;
        due.append(&mut held);
        due.truncate(limit);
        let share = i64::try_from(limit.div_ceil(due.len().max(1))).unwrap_or(i64::MAX);
        Ok(due.into_iter().map(|front| Share { front, limit: share }).collect())
    }

    /// Visits the fronts in these ranges, in turn, for as long as `visit` returns true. While a node cannot be
    /// reached, the workspaces of the others are visited.
    pub async fn visit(
        self,
        connection: &mut PgConnection,
        ranges: &Ranges,
        mut visit: impl FnMut(Front) -> bool,
    ) -> Result<()> {
        let mut among = Among::new();
        loop {
            let visited = match among.workspaces() {
                None => self.visit_all(connection, ranges, &mut visit).await,
                Some(workspaces) => self.visit_each(connection, workspaces, &mut visit).await,
            };
            if among.accept(connection, visited).await?.is_some() {
                return Ok(());
            }
        }
    }

    async fn visit_all(
        self,
        connection: &mut PgConnection,
        ranges: &Ranges,
        visit: &mut impl FnMut(Front) -> bool,
    ) -> Result<()> {
        for mut range in ranges.in_turn() {
            loop {
                let entries = self.page(connection, range).await?;
                for (i, front) in entries.iter().enumerate() {
                    let is_first = i == 0 || entries[i - 1].workspace_id != front.workspace_id;
                    if is_first && !visit(*front) {
                        return Ok(());
                    }
                }
                match entries.last() {
                    Some(last) if entries.len() == PAGE => {
                        range = Range { workspace_id: after(last.workspace_id), from: Position::START, ..range };
                    }
                    _ => break,
                }
            }
        }
        Ok(())
    }

    /// Visits the fronts of these workspaces, in random order.
    async fn visit_each(
        self,
        connection: &mut PgConnection,
        workspaces: &[Uuid],
        visit: &mut impl FnMut(Front) -> bool,
    ) -> Result<()> {
        let begin = rand::random_range(0..workspaces.len().max(1));
        let (last, first) = workspaces.split_at(begin.min(workspaces.len()));
        for workspace_id in first.iter().chain(last) {
            let HeadRow { run_at, id, now, .. } = self.head(connection, *workspace_id).await?;
            let Some((run_at, id)) = run_at.zip(id) else { continue };
            if !visit(Front { workspace_id: *workspace_id, position: Position { run_at, id }, now }) {
                break;
            }
        }
        Ok(())
    }

    async fn page(self, connection: &mut PgConnection, range: Range) -> Result<Vec<Front>> {
        let query = sqlx::query_as(self.entries)
            .bind(range.workspace_id)
            .bind(range.from.run_at)
            .bind(range.from.id)
            .bind(range.until);
        let query = match self.queue {
            Some((queue, kinds)) => query.bind(queue).bind(kinds),
            None => query,
        };
        Ok(query.fetch_all(connection).await?)
    }

    /// Finds the first entries of these workspaces, reading from the front and so over all dead entries.
    pub async fn sweep(self, connection: &mut PgConnection, workspaces: &[Uuid]) -> Result<Sweep> {
        let mut sweep = Sweep { now: DateTime::UNIX_EPOCH, workspaces: Vec::with_capacity(workspaces.len()) };
        for workspace_id in workspaces {
            let row = self.head(connection, *workspace_id).await?;
            sweep.now = row.now;
            sweep.workspaces.push(Swept {
                workspace_id: *workspace_id,
                head: row.run_at.zip(row.id).map(|(run_at, id)| Position { run_at, id }),
                walked: u64::try_from(row.walked_after - row.walked_before).unwrap_or(0),
            });
        }
        Ok(sweep)
    }

    async fn head(self, connection: &mut PgConnection, workspace_id: Uuid) -> Result<HeadRow> {
        let query = sqlx::query_as(self.head).bind(workspace_id);
        let query = match self.queue {
            Some((queue, kinds)) => query.bind(queue).bind(kinds),
            None => query,
        };
        Ok(query.fetch_one(connection).await?)
    }
}

/// The first entry of a workspace, and the session's count of entries read, before and after the search.
#[derive(FromRow)]
struct HeadRow {
    run_at: Option<DateTime<Utc>>,
    id: Option<Uuid>,
    walked_before: i64,
    walked_after: i64,
    now: DateTime<Utc>,
}

/// The first entries of workspaces, read from the front of the index.
#[derive(Debug)]
pub struct Sweep {
    pub(super) now: DateTime<Utc>,
    pub(super) workspaces: Vec<Swept>,
}

#[derive(Debug)]
pub(super) struct Swept {
    pub workspace_id: Uuid,
    pub head: Option<Position>,
    /// The number of entries read to find the first: all dead but the last.
    pub walked: u64,
}
