//! Claiming: which due jobs a worker gets, in turn for each workspace.
//!
//! The statements are constants because their plans are tested.

use chrono::{DateTime, Utc};
use serde_json::value::RawValue;
use sqlx::types::Json;
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use super::marks::{heads, sweep};
use super::{LEASE, Lease, Payload, Position, Ranges, RetryState, Sweep};
use crate::error::Result;

/// A job in the hands of a worker.
#[derive(Debug, FromRow)]
pub struct Claimed {
    /// The job.
    pub id: Uuid,
    /// Whose job it is.
    pub workspace_id: Uuid,
    /// What is to be done.
    pub kind: String,
    /// The attempt this claim began.
    pub attempt: i32,
    /// Errors that count, since a step last recorded anything new.
    pub failures: i16,
    /// Deaths of its process since then.
    pub crashes: i16,
    /// All errors since then; `None` when there were none.
    pub retry_state: Option<Json<RetryState>>,
    /// The [`Payload`], as JSON.
    pub payload: Json<Box<RawValue>>,
    /// The request that caused it.
    pub request_id: Option<String>,
    /// When it became due.
    pub run_at: DateTime<Utc>,
    /// Until when it is held, unless the lease is renewed.
    pub lease_until: DateTime<Utc>,
}

impl Claimed {
    /// The right to write for this job.
    pub fn lease(&self) -> Lease {
        Lease { id: self.id, attempt: self.attempt }
    }

    /// Its place among the jobs of its workspace.
    pub fn position(&self) -> Position {
        Position { run_at: self.run_at, id: self.id }
    }

    /// When it was claimed, by the database's clock.
    pub fn claimed_at(&self) -> DateTime<Utc> {
        self.lease_until - LEASE
    }
}

/// The statement of [`claim`]; its plan is tested.
///
/// `head` is a loose index scan: one probe of the index for each workspace with queued jobs, and for
/// each mark. Each workspace with a due job gets an equal share of the batch, so a workspace with a
/// million jobs delays no other by more than one batch. When there are more workspaces than places,
/// those that already hold slots come last, and chance decides among the others.
///
/// The locked rows are reached by their places, which saves looking each up by its key. A row that
/// moved between the statement's snapshot and its lock is left for the next claim.
///
/// Jobs whose process died are left out: [`claim_quarantined`] takes them one by one.
pub const CLAIM: &str = concat!(
    "WITH RECURSIVE ",
    heads!("jobs", "queue = $1 AND status = 'queued' AND crashes = 0", "$4", "$5", "$6", "$7"),
    ", turn AS (
        SELECT workspace_id, run_at, id, ceil($2::float8 / count(*) OVER ())::bigint AS share
        FROM head WHERE run_at <= now()
        ORDER BY workspace_id = ANY ($8::uuid[]), random() LIMIT $2
    )
    UPDATE jobs
    SET status = 'running', attempt = attempt + 1, lease_until = now() + make_interval(secs => $3),
        started_at = coalesce(started_at, now()), yielded = false
    WHERE ctid = ANY (ARRAY(
        SELECT due.ctid FROM turn CROSS JOIN LATERAL (
            SELECT ctid FROM jobs
            WHERE queue = $1 AND status = 'queued' AND crashes = 0 AND workspace_id = turn.workspace_id
                AND (run_at, id) >= (turn.run_at, turn.id) AND run_at <= now()
            ORDER BY run_at, id LIMIT turn.share FOR NO KEY UPDATE SKIP LOCKED
        ) AS due
        LIMIT $2
    ))
    RETURNING id, workspace_id, kind, attempt, failures, crashes, retry_state, payload, request_id, run_at, lease_until"
);

/// Claims up to `limit` due jobs of a queue, oldest first within each workspace.
pub async fn claim(connection: &mut PgConnection, queue: &str, limit: i64) -> Result<Vec<Claimed>> {
    claim_in(connection, queue, limit, &Ranges::default(), &[]).await
}

/// As [`claim`], but only in these ranges, and for the workspaces in `holders` last.
pub async fn claim_in(
    connection: &mut PgConnection,
    queue: &str,
    limit: i64,
    ranges: &Ranges,
    holders: &[Uuid],
) -> Result<Vec<Claimed>> {
    let mut claimed: Vec<Claimed> = sqlx::query_as(CLAIM)
        .bind(queue)
        .bind(limit)
        .bind(LEASE.as_secs_f64())
        .bind(&ranges.workspaces)
        .bind(&ranges.run_ats)
        .bind(&ranges.ids)
        .bind(&ranges.untils)
        .bind(holders)
        .fetch_all(connection)
        .await?;
    claimed.sort_unstable_by_key(|job| job.id);
    Ok(claimed)
}

/// The statement of [`claim_quarantined`]; its plan is tested.
pub const CLAIM_QUARANTINED: &str = "
    UPDATE jobs
    SET status = 'running', attempt = attempt + 1, lease_until = now() + make_interval(secs => $2),
        started_at = coalesce(started_at, now()), yielded = false
    WHERE id = (
        SELECT id FROM jobs
        WHERE status = 'queued' AND crashes > 0 AND run_at <= now() AND queue = ANY ($1)
        ORDER BY crashes, run_at LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED
    )
    RETURNING id, workspace_id, kind, attempt, failures, crashes, retry_state, payload, request_id, run_at, lease_until";

/// Claims one due job whose process died: the one that did so least often, since the guilty one has
/// the most deaths.
pub async fn claim_quarantined(connection: &mut PgConnection, queues: &[&str]) -> Result<Option<Claimed>> {
    Ok(sqlx::query_as(CLAIM_QUARANTINED).bind(queues).bind(LEASE.as_secs_f64()).fetch_optional(connection).await?)
}

/// The statement of [`workspaces_waiting`]; its plan is tested.
pub const WAITING: &str = concat!(
    "WITH RECURSIVE ",
    heads!("jobs", "queue = $1 AND status = 'queued' AND crashes = 0", "$3", "$4", "$5", "$6"),
    "SELECT workspace_id FROM head
     WHERE run_at <= now() - make_interval(secs => $8) AND workspace_id <> ALL ($7::uuid[])
     LIMIT $2"
);

/// For how long a job must have been due before others give up a slot for it: any worker with a free
/// slot has claimed it by then.
const OVERDUE_S: f64 = 0.2;

/// Up to `limit` workspaces, other than `holders`, with a job that no worker has claimed in time.
pub async fn workspaces_waiting(
    connection: &mut PgConnection,
    queue: &str,
    limit: i64,
    ranges: &Ranges,
    holders: &[Uuid],
) -> Result<Vec<Uuid>> {
    Ok(sqlx::query_scalar(WAITING)
        .bind(queue)
        .bind(limit)
        .bind(&ranges.workspaces)
        .bind(&ranges.run_ats)
        .bind(&ranges.ids)
        .bind(&ranges.untils)
        .bind(holders)
        .bind(OVERDUE_S)
        .fetch_all(connection)
        .await?)
}

/// The statement of [`sweep`](fn@sweep); its plan is tested.
pub const SWEEP: &str = sweep!("jobs", "queue = $1 AND status = 'queued' AND crashes = 0", "jobs_due_idx");

/// Reads from the front of a queue where the work of each workspace begins.
pub async fn sweep(connection: &mut PgConnection, queue: &str) -> Result<Sweep> {
    Sweep::read(connection, SWEEP, Some(queue)).await
}

/// A payload as JSON text is what [`Claimed`] carries; this is how the worker reads it.
///
/// # Errors
/// [`Error::Internal`](crate::Error::Internal) for a payload of another version of the program.
pub fn payload<P: Payload>(claimed: &Claimed) -> Result<P> {
    Ok(serde_json::from_str(claimed.payload.0.get())?)
}
