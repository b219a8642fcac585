//! The job queue: enqueue, claim, renew, finish, rescue, cancel, retry, prune.
//!
//! A job is a row. Whoever needs work done enqueues it in the transaction of what it refers to, so
//! an accepted request and its job are one fact. A worker claims due jobs in batches, holds each
//! under a lease that it renews, and writes under the number of its attempt. That number only ever
//! rises, with each claim, cancellation and rescue, and is the fence: a write of an attempt that is
//! no longer the present one meets no row and is thrown away.
//!
//! All times are the database's, so the clocks of workers do not matter.

mod claim;
mod depth;
mod enqueue;
pub(crate) mod fronts;
mod job;
mod lease;
pub(crate) mod marks;
pub mod notify;
mod paused;
mod report;
pub(crate) mod rescue;
mod retry;
mod run;
mod turns;

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, SqlSafeStr};
use uuid::Uuid;

use crate::error::{Conflict, Error, FieldError, OwnerSearch, Reason, Result};

use job::columns;

pub use claim::*;
pub use depth::{Depth, Waiting, depths, waiting};
pub use enqueue::{NewJob, enqueue, enqueue_all, start_run};
pub use fronts::Sweep;
pub use job::{
    ATTEMPT, COLUMNS, COLUMNS_WITHOUT_PREVIEWS, Job, JobStatus, Payload, Progress, RETRY_AT, STATUS, Subject,
};
pub use lease::*;
pub use marks::{Marks, Position, Ranges, SWEEP_EVERY};
pub use paused::{Claimant, Paused, STEERING};
pub use report::{Reporting, report_end, report_progress};
pub use rescue::{CONDEMN, LOOK, Looked, RESCUE, Rescued, rescue};
pub use retry::{MAX_DEFECTS, MAX_ERRORS, Next, RetryState};
pub use run::{Page, PageEnd, Pages, Resumed, Run, resume};
pub use turns::take_turn;

/// Every queue. [`mail`](crate::mail::QUEUE) holds emails instead of jobs, and [`webhooks`](crate::webhooks::QUEUE)
/// deliveries.
pub const QUEUES: &[&str] = &["imports", "mail", "webhooks", "workflows"];

/// Returns a job of the workspace.
pub async fn get(connection: &mut PgConnection, workspace_id: Uuid, id: Uuid) -> Result<Job> {
    Ok(sqlx::query_as(concat!("SELECT ", columns!(), " FROM jobs WHERE id = $1 AND workspace_id = $2"))
        .bind(id)
        .bind(workspace_id)
        .fetch_one(connection)
        .await?)
}

/// Which of these jobs, given with their workspaces, have ended or were deleted.
pub async fn ended(connection: &mut PgConnection, workspace_ids: &[Uuid], ids: &[Uuid]) -> Result<Vec<Uuid>> {
    Ok(sqlx::query_scalar(
        "SELECT awaited.id FROM unnest($1::uuid[], $2::uuid[]) AS awaited (workspace_id, id)
         LEFT JOIN jobs ON jobs.workspace_id = awaited.workspace_id AND jobs.id = awaited.id
         WHERE jobs.id IS NULL OR jobs.finished_at IS NOT NULL",
    )
    .bind(workspace_ids)
    .bind(ids)
    .fetch_all(connection)
    .await?)
}

/// Sets how many units of work a job has, and returns the job.
pub async fn set_total(connection: &mut PgConnection, workspace_id: Uuid, id: Uuid, total: i64) -> Result<Job> {
    let updated = sqlx::query_as(concat!(
        "UPDATE jobs SET progress_total = $3 WHERE workspace_id = $1 AND id = $2 RETURNING ",
        columns!()
    ));
    Ok(updated.bind(workspace_id).bind(id).bind(total).fetch_one(connection).await?)
}

/// Cancels an unfinished job; a finished job is returned unchanged. A worker that runs the job
/// loses its lease and stops at its next step, whose transaction is rolled back.
pub async fn cancel(connection: &mut PgConnection, workspace_id: Uuid, id: Uuid) -> Result<Job> {
    match cancel_unfinished(connection, workspace_id, id).await? {
        Some(job) => Ok(job),
        None => get(connection, workspace_id, id).await,
    }
}

/// Like [`cancel`]; `None` if there is no such job that is unfinished.
pub async fn cancel_unfinished(connection: &mut PgConnection, workspace_id: Uuid, id: Uuid) -> Result<Option<Job>> {
    let cancelled = sqlx::query_as(concat!(
        "UPDATE jobs SET status = 'cancelled', attempt = attempt + 1, lease_until = NULL, finished_at = now()
         WHERE id = $1 AND workspace_id = $2 AND finished_at IS NULL
         RETURNING ",
        columns!()
    ))
    .bind(id)
    .bind(workspace_id)
    .fetch_optional(connection)
    .await?;
    Ok(cancelled)
}

/// Cancels up to `limit` unfinished jobs of a kind, with a reason that callers see as the error.
/// Returns their ids, each with that of its subject.
pub async fn cancel_kind(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    kind: &str,
    reason: &str,
    limit: i64,
) -> Result<Vec<(Uuid, Uuid)>> {
    Ok(sqlx::query_as(
        "UPDATE jobs SET status = 'cancelled', attempt = attempt + 1, lease_until = NULL, finished_at = now(), error = $3
         WHERE workspace_id = $1 AND id = ANY (ARRAY(
             SELECT id FROM jobs WHERE workspace_id = $1 AND kind = $2 AND finished_at IS NULL
             ORDER BY id LIMIT $4 FOR UPDATE
         ))
         RETURNING id, subject_id",
    )
    .bind(workspace_id)
    .bind(kind)
    .bind(reason)
    .bind(limit)
    .fetch_all(connection)
    .await?)
}

/// The due time of a parked job: the first day of 9999.
pub(crate) const PARKED: DateTime<Utc> = match DateTime::from_timestamp(253_370_764_800, 0) {
    Some(time) => time,
    None => DateTime::<Utc>::MAX_UTC,
};

/// Parks a job that was just enqueued in the caller's transaction: it is queued, and begins only once it is
/// [released](unpark). It can be cancelled meanwhile.
pub async fn park(connection: &mut PgConnection, workspace_id: Uuid, id: Uuid) -> Result<()> {
    sqlx::query("UPDATE jobs SET run_at = $3 WHERE workspace_id = $1 AND id = $2 AND status = 'queued'")
        .bind(workspace_id)
        .bind(id)
        .bind(PARKED)
        .execute(connection)
        .await?;
    Ok(())
}

/// Makes a parked job due, unless it was cancelled.
pub async fn unpark(connection: &mut PgConnection, workspace_id: Uuid, id: Uuid) -> Result<()> {
    sqlx::query(
        "UPDATE jobs SET run_at = now() WHERE workspace_id = $1 AND id = $2 AND status = 'queued' AND run_at = $3",
    )
    .bind(workspace_id)
    .bind(id)
    .bind(PARKED)
    .execute(connection)
    .await?;
    Ok(())
}

/// Makes the jobs of a workspace due that wait with an error that begins with `reason`.
pub async fn wake(connection: &mut PgConnection, workspace_id: Uuid, reason: &str) -> Result<u64> {
    let woken = sqlx::query(
        "UPDATE jobs SET run_at = now(), error = NULL
         WHERE workspace_id = $1 AND id = ANY (ARRAY(
             SELECT id FROM jobs
             WHERE workspace_id = $1 AND status = 'queued' AND error IS NOT NULL AND starts_with(error, $2)
             ORDER BY id FOR UPDATE SKIP LOCKED
         ))",
    )
    .bind(workspace_id)
    .bind(reason)
    .execute(connection)
    .await?;
    Ok(woken.rows_affected())
}

/// Requeues a failed or cancelled job, which resumes after its last committed step. A job that
/// waits for a retry is retried at once. Any other unfinished job is returned unchanged, so a
/// caller who lost the response can repeat the request.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Conflict`] for a job that succeeded, or when another job is
/// already doing the same work.
pub async fn retry(connection: &mut PgConnection, workspace_id: Uuid, id: Uuid) -> Result<Job> {
    let queued = sqlx::query_as(concat!(
        "UPDATE jobs SET retries = CASE WHEN status = 'failed' THEN retries + 1 ELSE retries END,
             status = 'queued', yielded = false, failures = 0, crashes = 0, retry_state = NULL, error = NULL,
             finished_at = NULL, run_at = now(), unreadable_since = NULL, unreadable_at = NULL
         WHERE id = $1 AND workspace_id = $2 AND NOT (status = 'queued' AND yielded)
             AND (status IN ('failed', 'cancelled') OR (status = 'queued' AND error IS NOT NULL AND crashes = 0))
         RETURNING ",
        columns!()
    ))
    .bind(id)
    .bind(workspace_id)
    .fetch_optional(&mut *connection)
    .await
    .map_err(|error| match Error::breaks(&error, "jobs_dedupe_key") {
        true => already_running(workspace_id, id),
        false => error.into(),
    })?;
    let job: Job = match queued {
        Some(job) => job,
        None => get(connection, workspace_id, id).await?,
    };
    if job.status == JobStatus::Succeeded {
        let message = "the job succeeded and cannot be retried";
        return Err(Error::conflict_with(id, Reason::JobSucceeded, "status", message));
    }
    Ok(job)
}

/// Confirms a number in the payload of a job that is not running, for its next attempt. A job that
/// is running or has succeeded stays unchanged.
pub async fn confirm(connection: &mut PgConnection, workspace_id: Uuid, id: Uuid, number: u32) -> Result<()> {
    sqlx::query(
        "UPDATE jobs SET payload = payload || jsonb_build_object('confirm', $3::bigint)
         WHERE workspace_id = $1 AND id = $2 AND status IN ('queued', 'failed', 'cancelled')",
    )
    .bind(workspace_id)
    .bind(id)
    .bind(i64::from(number))
    .execute(connection)
    .await?;
    Ok(())
}

/// The conflict with the unfinished job that does the same work as this one.
fn already_running(workspace_id: Uuid, id: Uuid) -> Error {
    let statement = "SELECT other.dedupe_key, other.id FROM jobs AS job
                     JOIN jobs AS other ON other.workspace_id = $1 AND other.dedupe_key = job.dedupe_key
                         AND other.finished_at IS NULL
                     WHERE job.workspace_id = $1 AND job.id = ANY ($2::uuid[])";
    let reason = FieldError::new("id", Reason::AlreadyRunning.code(), "another job is already doing the same work");
    let search = OwnerSearch {
        statement: statement.into_sql_str(),
        workspace_id,
        values: vec![id.to_string()],
        written: vec![id],
    };
    Error::Conflict(Conflict::new(reason, Some(search)).into())
}

/// Deletes up to `limit` jobs of a workspace that ended at least `keep` ago, oldest first, with
/// their dependent rows. Returns how many jobs were deleted.
pub async fn prune(connection: &mut PgConnection, workspace_id: Uuid, keep: Duration, limit: i64) -> Result<u64> {
    // Ids rise with time, so the primary key finds old jobs without another index.
    let made_before = Utc::now() - chrono::Duration::from_std(keep).unwrap_or(chrono::Duration::MAX);
    let seconds = u64::try_from(made_before.timestamp()).unwrap_or(0);
    let first_kept = Uuid::new_v7(uuid::Timestamp::from_unix_time(seconds, 0, 0, 0));
    let pruned = sqlx::query(
        "DELETE FROM jobs WHERE workspace_id = $1 AND id = ANY (ARRAY(
             SELECT id FROM jobs
             WHERE workspace_id = $1 AND id < $2 AND finished_at < now() - make_interval(secs => $3)
             ORDER BY id LIMIT $4 FOR UPDATE SKIP LOCKED
         ))",
    )
    .bind(workspace_id)
    .bind(first_kept)
    .bind(keep.as_secs_f64())
    .bind(limit)
    .execute(connection)
    .await?;
    Ok(pruned.rows_affected())
}
