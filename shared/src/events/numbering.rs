//! Giving events their numbers.
//!
//! One worker at a time does it, so that the others need not look; its [term](Term) only saves work. What
//! keeps numbers in order is the lock on the row of `event_cursors`: numbers of a workspace are given in one
//! transaction after another, to events that are visible by then.
//!
//! Numbers are at least the microseconds since 1970, so they rise even if the database is restored from a
//! backup in which the last numbers are missing.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use sqlx::{Connection, FromRow, PgConnection};
use uuid::Uuid;

use crate::error::Result;

/// How long a worker gives numbers before another one may.
pub const TERM: Duration = Duration::from_secs(3);
/// The most events that one pass numbers.
pub const BATCH: usize = 5_000;
/// How far before the last numbered event a pass begins, in positions. Transactions commit in another order
/// than they insert; those that take longer than this are found by a sweep.
const LOOKBACK: i64 = 5_000;
/// A sweep begins at the front, and so reads the dead entries that an old transaction keeps in the index. The
/// pause after it is this many times as long as the sweep.
const SWEEP_SHARE: u32 = 4;

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

/// Where the passes of a process begin.
#[derive(Debug, Default)]
pub struct Numberer {
    /// Passes begin here.
    from: i64,
    /// When the next pass begins at the front instead.
    sweep_at: Option<Instant>,
}

#[derive(FromRow)]
struct Waiting {
    workspace_id: Uuid,
    position: i64,
}

impl Numberer {
    /// Numbers the events that have none, up to [`BATCH`]. After an error, some of them may be numbered.
    pub async fn pass(&mut self, connection: &mut PgConnection) -> Result<Pass> {
        let began = Instant::now();
        let is_sweep = self.sweep_at.is_none_or(|at| at <= began);
        let waiting = waiting(connection, if is_sweep { i64::MIN } else { self.from }).await?;
        if is_sweep {
            self.sweep_at = Some(Instant::now() + began.elapsed() * SWEEP_SHARE);
        }
        let last = waiting.iter().map(|event| event.position).max();
        let mut workspaces = BTreeMap::<Uuid, Vec<i64>>::new();
        for Waiting { workspace_id, position } in waiting {
            workspaces.entry(workspace_id).or_default().push(position);
        }
        let mut pass = Pass::default();
        for (workspace_id, positions) in workspaces {
            let Numbered { count, longest_s } = number(connection, workspace_id, &positions).await?;
            pass.numbered += usize::try_from(count).unwrap_or_default();
            pass.longest = pass.longest.max(Duration::try_from_secs_f64(longest_s).unwrap_or_default());
        }
        // A full batch of a sweep says nothing about later events.
        self.from = last.map_or(self.from, |last| last.saturating_sub(LOOKBACK).max(self.from));
        Ok(pass)
    }
}

async fn waiting(connection: &mut PgConnection, from: i64) -> Result<Vec<Waiting>> {
    let waiting =
        sqlx::query_as("SELECT workspace_id, position FROM new_events WHERE position >= $1 ORDER BY position LIMIT $2");
    Ok(waiting.bind(from).bind(BATCH as i64).fetch_all(connection).await?)
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
             RETURNING position, id, type, subject_type, subject_id, actor_type, actor_id, request_id, data, created_at
         ), numbered AS (
             INSERT INTO events (workspace_id, number, id, type, subject_type, subject_id, actor_type, actor_id,
                 request_id, data, created_at)
             SELECT $1, $3 + row_number() OVER (ORDER BY position), id, type, subject_type, subject_id, actor_type,
                 actor_id, request_id, data, created_at
             FROM taken
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
    sqlx::query("INSERT INTO event_cursors (workspace_id) VALUES ($1) ON CONFLICT DO NOTHING")
        .bind(workspace_id)
        .execute(&mut *connection)
        .await?;
    Ok(sqlx::query_as(lock).bind(workspace_id).fetch_one(connection).await?)
}
