//! Giving events their numbers.
//!
//! One worker at a time does it, so that the others need not look; its [term](Term) only saves work. What
//! keeps numbers in order is the lock on the row of `event_cursors`: numbers of a workspace are given in one
//! transaction after another, to events that are visible by then.
//!
//! Numbers are at least the microseconds since 1970, so they rise even if the database is restored from a
//! backup in which the last numbers are missing.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{Connection, FromRow, PgConnection};
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::platform::db::Among;

/// How long a worker gives numbers before another one may.
pub const TERM: Duration = Duration::from_secs(3);
/// The most events that one pass numbers.
pub const BATCH: usize = 50_000;
/// The most events of a workspace that one transaction numbers.
const CHUNK: usize = 2_500;

/// The right of a process to give numbers.
#[derive(Debug, Clone, Copy)]
pub struct Term {
    holder: Uuid,
}

impl Default for Term {
    fn default() -> Self {
        Self { holder: Uuid::now_v7() }
    }
}

impl Term {
    /// Takes or prolongs the term. Returns whether this process has it.
    pub async fn take(&self, connection: &mut PgConnection) -> Result<bool> {
        let taken = sqlx::query(
            "INSERT INTO numbering AS held (holder, until) VALUES ($1, clock_timestamp() + make_interval(secs => $2))
             ON CONFLICT (is_only) DO UPDATE SET holder = excluded.holder, until = excluded.until
                 WHERE held.holder = excluded.holder OR held.until < clock_timestamp()",
        );
        let taken = taken.bind(self.holder).bind(TERM.as_secs_f64()).execute(connection).await?;
        Ok(taken.rows_affected() > 0)
    }

    /// Ends the term, so that another process need not wait.
    pub async fn end(&self, connection: &mut PgConnection) -> Result<()> {
        sqlx::query("DELETE FROM numbering WHERE holder = $1").bind(self.holder).execute(connection).await?;
        Ok(())
    }
}

/// What a pass did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pass {
    /// How many events it numbered.
    pub numbered: usize,
    /// The longest time from an event to its number.
    pub longest: Duration,
}

/// What a process has seen of the transactions that record events.
///
/// A numbered event leaves a dead entry in the index, which stays while an older transaction is open. So a pass
/// does not begin at the front: events that it meets for the first time are of transactions that began after the
/// last pass, or were in progress then. Thus each pass finds all events that are visible, and among those of one
/// record the earlier ones come first.
#[derive(Debug, Default)]
pub struct Numberer {
    /// `None` before the first pass, after an error, perhaps on another server, and on a distributed database.
    seen: Option<Seen>,
}

/// The transactions at the time of a pass, as PostgreSQL writes their ids.
#[derive(Debug, Clone, FromRow)]
struct Seen {
    /// The first transaction that had not begun.
    xmax: String,
    /// Those in progress.
    in_progress: Vec<String>,
}

#[derive(FromRow)]
struct Waiting {
    #[sqlx(flatten)]
    seen: Seen,
    workspace_ids: Vec<Uuid>,
    positions: Vec<i64>,
    /// Whether rows may become visible after the end of their transaction, as where Citus commits on several nodes.
    is_distributed: bool,
}

impl Numberer {
    /// Numbers the events that have none, up to [`BATCH`]. After an error, some of them may be numbered.
    pub async fn pass(&mut self, connection: &mut PgConnection) -> Result<Pass> {
        let before = self.seen.take();
        let Waiting { seen, workspace_ids, positions, is_distributed } = waiting(connection, before.as_ref()).await?;
        let is_full = positions.len() == BATCH;
        let mut workspaces = BTreeMap::<Uuid, Vec<i64>>::new();
        for (workspace_id, position) in workspace_ids.into_iter().zip(positions) {
            workspaces.entry(workspace_id).or_default().push(position);
        }
        let mut pass = Pass::default();
        for (workspace_id, positions) in workspaces {
            for positions in positions.chunks(CHUNK) {
                let Numbered { count, longest_s } = number(connection, workspace_id, positions).await?;
                pass.numbered += usize::try_from(count).unwrap_or_default();
                pass.longest = pass.longest.max(Duration::try_from_secs_f64(longest_s).unwrap_or_default());
            }
        }
        // A full batch leaves events for the next pass, which begins at the front if ends of transactions say nothing.
        self.seen = if is_full { before } else { (!is_distributed).then_some(seen) };
        Ok(pass)
    }
}

const WAITING: &str = "
     WITH waiting AS (
         SELECT workspace_id, position FROM new_events
         WHERE (xact_id >= $1::text::xid8 OR xact_id = ANY ($2::text[]::xid8[]))
             AND ($4::uuid[] IS NULL OR workspace_id = ANY ($4))
         ORDER BY position LIMIT $3
     ), now AS (
         SELECT pg_current_snapshot() AS snapshot
     )
     SELECT pg_snapshot_xmax(snapshot)::text AS xmax,
         ARRAY(SELECT pg_snapshot_xip(snapshot)::text) AS in_progress,
         ARRAY(SELECT workspace_id FROM waiting ORDER BY position) AS workspace_ids,
         ARRAY(SELECT position FROM waiting ORDER BY position) AS positions,
         'citus' IN (SELECT extname FROM pg_extension) AS is_distributed
     FROM now";

async fn waiting(connection: &mut PgConnection, seen: Option<&Seen>) -> Result<Waiting> {
    let (xmax, in_progress) = match seen {
        Some(Seen { xmax, in_progress }) => (xmax.as_str(), in_progress.as_slice()),
        None => ("0", &[][..]),
    };
    let mut among = Among::new();
    loop {
        let waiting = sqlx::query_as(WAITING).bind(xmax).bind(in_progress).bind(BATCH as i64).bind(among.workspaces());
        let waiting = waiting.fetch_one(&mut *connection).await.map_err(Error::from);
        if let Some(waiting) = among.accept(connection, waiting).await? {
            return Ok(waiting);
        }
    }
}

#[derive(FromRow)]
struct Numbered {
    count: i64,
    longest_s: f64,
}

#[derive(FromRow)]
struct Last {
    number: i64,
    now: DateTime<Utc>,
}

/// Moves events of one workspace into the feed, in the order of their insertion. An event that another
/// process has moved is left out.
async fn number(connection: &mut PgConnection, workspace_id: Uuid, positions: &[i64]) -> Result<Numbered> {
    let mut transaction = connection.begin().await?;
    let last = lock(&mut transaction, workspace_id).await?;
    let numbered: Numbered = sqlx::query_as(
        "WITH taken AS (
             DELETE FROM new_events WHERE workspace_id = $1 AND position = ANY ($2)
             RETURNING position, id, type, subject_type, subject_id, actor_type, actor_id, request_id,
                 trace_context, data, created_at
         ), numbered AS (
             INSERT INTO events (workspace_id, number, id, type, subject_type, subject_id, actor_type, actor_id,
                 request_id, trace_context, data, created_at)
             SELECT event_cursors.workspace_id, $3 + row_number() OVER (ORDER BY position), id, type, subject_type,
                 subject_id, actor_type, actor_id, request_id, trace_context, data, created_at
             FROM taken JOIN event_cursors ON event_cursors.workspace_id = $1
             RETURNING number, created_at
         ), moved AS (
             UPDATE event_cursors SET number = $3 + (SELECT count(*) FROM taken) WHERE workspace_id = $1
         )
         SELECT count(*) AS count, coalesce(extract(epoch FROM $4 - min(created_at)), 0)::float8 AS longest_s FROM numbered",
    )
    .bind(workspace_id)
    .bind(positions)
    .bind(last.number.max(last.now.timestamp_micros()))
    .bind(last.now)
    .fetch_one(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(numbered)
}

/// Locks the last number of a workspace.
async fn lock(connection: &mut PgConnection, workspace_id: Uuid) -> Result<Last> {
    let lock = "SELECT number, clock_timestamp() AS now FROM event_cursors WHERE workspace_id = $1 FOR UPDATE";
    if let Some(last) = sqlx::query_as(lock).bind(workspace_id).fetch_optional(&mut *connection).await? {
        return Ok(last);
    }
    sqlx::query("INSERT INTO event_cursors (workspace_id, number) VALUES ($1, 0) ON CONFLICT DO NOTHING")
        .bind(workspace_id)
        .execute(&mut *connection)
        .await?;
    Ok(sqlx::query_as(lock).bind(workspace_id).fetch_one(connection).await?)
}
