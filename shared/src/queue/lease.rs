//! What workers do with the jobs they hold: renew, record progress, finish.
//!
//! The statements are constants because their plans are tested: a queue lives from plans that stay
//! what they are after ANALYZE.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;
use sqlx::types::Json;
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use super::{JobStatus, Progress, RetryState};
use crate::error::{Error, Result};

/// How long a claimed job is held without a sign of life from its worker.
pub const LEASE: Duration = Duration::from_secs(15);
/// How often a worker renews its leases; several renewals may be lost before a lease is.
pub const RENEW_EVERY: Duration = Duration::from_secs(4);
/// How often a worker looks for leases that ran out.
pub const RESCUE_EVERY: Duration = Duration::from_secs(2);
/// Deaths of its process in a row, with no step committed between them, that condemn a job.
pub const MAX_CRASHES: i16 = 5;

/// The right to write for a job: its id and the attempt under which it was claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, FromRow)]
pub struct Lease {
    /// The job.
    pub id: Uuid,
    /// The attempt; the fence of every write.
    pub attempt: i32,
}

/// The statement of [`renew`]; its plan is tested.
///
/// A lease that ran out is still renewed while nobody has taken the job. The status stands in SET
/// only: a job that was finished or handed back meanwhile, under the same attempt, gets no lease.
pub const RENEW: &str = "
    UPDATE jobs SET lease_until = CASE WHEN status = 'running' THEN now() + make_interval(secs => $3) END
    FROM unnest($1::uuid[], $2::integer[]) AS mine (id, attempt)
    WHERE jobs.id = mine.id AND jobs.attempt = mine.attempt
    RETURNING jobs.id, jobs.attempt";

/// Renews leases, all in one statement, and returns those that are still held. The others were
/// cancelled or taken over: their handlers must stop.
///
/// # Errors
/// [`Error::Unavailable`] when the database is away; nothing is known about the leases then.
pub async fn renew(connection: &mut PgConnection, leases: &[Lease]) -> Result<Vec<Lease>> {
    // Rows are locked in the order of their ids, here and in `finish`, so that the two never deadlock.
    let mut leases = leases.to_vec();
    leases.sort_unstable();
    let ids: Vec<Uuid> = leases.iter().map(|lease| lease.id).collect();
    let attempts: Vec<i32> = leases.iter().map(|lease| lease.attempt).collect();
    Ok(sqlx::query_as(RENEW).bind(ids).bind(attempts).bind(LEASE.as_secs_f64()).fetch_all(connection).await?)
}

/// What a committed step left of the errors and deaths before it.
#[derive(Debug, FromRow)]
pub struct Recorded {
    /// See [`Claimed::crashes`].
    pub crashes: i16,
    /// See [`Claimed::retry_state`].
    pub retry_state: Option<Json<RetryState>>,
}

/// The statement of [`progress`]. A step that records what is recorded already, as one that a later attempt
/// does again, takes the job nowhere new: what is wrong there still counts.
const PROGRESS: &str = "
    UPDATE jobs SET progress_done = $3, progress_total = $4, result = $5::text::json,
        failures = CASE WHEN progress_done = $3 AND result::text = $5 THEN failures ELSE 0 END,
        crashes = CASE WHEN progress_done = $3 AND result::text = $5 THEN crashes ELSE 0 END,
        error = CASE WHEN progress_done = $3 AND result::text = $5 THEN error END,
        retry_state = CASE WHEN progress_done = $3 AND result::text = $5 THEN retry_state END
    WHERE id = $1 AND attempt = $2
    RETURNING crashes, retry_state";

/// Records the progress of a step, as the last statement of the step's transaction.
///
/// Last, because it locks the job's row: until the commit, renewing and cancelling wait for it.
/// If it records anything new, the counts of errors and crashes are cleared: the job gets on.
///
/// # Errors
/// [`Error::Superseded`] when the attempt is no longer the present one; the caller rolls back.
pub async fn progress(
    connection: &mut PgConnection,
    lease: Lease,
    progress: Progress,
    result: &Value,
) -> Result<Recorded> {
    let recorded = sqlx::query_as(PROGRESS)
        .bind(lease.id)
        .bind(lease.attempt)
        .bind(progress.done)
        .bind(progress.total)
        .bind(result.to_string())
        .fetch_optional(connection)
        .await?;
    recorded.ok_or(Error::Superseded)
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Done, with its result; `None` keeps the result that the last step recorded.
    Succeeded(Option<Value>),
    /// Given up: trying again would not help.
    Failed(String),
    /// An error: again after the delay.
    Retry {
        /// The error.
        error: String,
        /// How long to wait.
        delay: Duration,
        /// Whether it counts as a failure. A condition of the database does not.
        counts: bool,
        /// All errors since a step last recorded anything new.
        state: RetryState,
    },
    /// Nothing is wrong, but it is not the time yet: again after the delay.
    Snooze(Duration),
    /// It gave its slot up to another workspace: it keeps its place in the queue, and is still running
    /// to callers.
    Yielded,
}

/// The statement of [`finish`]; its plan is tested. It never names the status in WHERE, see the
/// index of leases.
pub const FINISH: &str = "
    UPDATE jobs
    SET status = ended.status, lease_until = NULL,
        result = coalesce(ended.result::json, jobs.result),
        error = CASE WHEN ended.status = 'queued' AND ended.delay IS NULL THEN jobs.error ELSE ended.error END,
        failures = jobs.failures + ended.failures,
        retry_state = coalesce(ended.retry_state::jsonb, jobs.retry_state),
        retries = CASE WHEN ended.status = 'queued' THEN jobs.retries + ended.failures ELSE jobs.retries END,
        yielded = ended.status = 'queued' AND ended.delay IS NULL,
        run_at = CASE WHEN ended.delay IS NOT NULL THEN now() + make_interval(secs => ended.delay) ELSE jobs.run_at END,
        finished_at = CASE WHEN ended.status = 'queued' THEN NULL ELSE now() END
    FROM unnest($1::uuid[], $2::integer[], $3::text[], $4::text[], $5::text[], $6::smallint[], $7::float8[], $8::text[])
        AS ended (id, attempt, status, result, error, failures, delay, retry_state)
    WHERE jobs.id = ended.id AND jobs.attempt = ended.attempt";

/// Records how attempts ended, many in one statement. Those that are no longer the present attempt
/// of their job change nothing.
///
/// # Errors
/// [`Error::Unavailable`] when the database is away; doing it again is harmless.
pub async fn finish(connection: &mut PgConnection, ended: &[(Lease, Outcome)]) -> Result<()> {
    let n = ended.len();
    let (mut ids, mut attempts, mut statuses) = (Vec::with_capacity(n), Vec::with_capacity(n), Vec::with_capacity(n));
    let (mut results, mut errors) = (Vec::with_capacity(n), Vec::with_capacity(n));
    let (mut failures, mut delays, mut states) = (Vec::with_capacity(n), Vec::with_capacity(n), Vec::with_capacity(n));
    let mut ended: Vec<&(Lease, Outcome)> = ended.iter().collect();
    ended.sort_unstable_by_key(|(lease, _)| *lease);
    for (lease, outcome) in ended {
        let (mut result, mut error, mut failure, mut delay, mut state) = (None, None, 0_i16, None, None);
        let status = match outcome {
            Outcome::Succeeded(with) => {
                result = with.as_ref();
                JobStatus::Succeeded
            }
            Outcome::Failed(why) => {
                (error, failure) = (Some(why.as_str()), 1);
                JobStatus::Failed
            }
            Outcome::Retry { error: why, delay: wait, counts, state: errors } => {
                (error, failure, delay) = (Some(why.as_str()), i16::from(*counts), Some(*wait));
                state = Some(serde_json::to_string(errors)?);
                JobStatus::Queued
            }
            Outcome::Snooze(wait) => {
                delay = Some(*wait);
                JobStatus::Queued
            }
            Outcome::Yielded => JobStatus::Queued,
        };
        ids.push(lease.id);
        attempts.push(lease.attempt);
        statuses.push(status.as_str());
        results.push(result.map(Value::to_string));
        errors.push(error);
        failures.push(failure);
        delays.push(delay.map(|delay: Duration| delay.as_secs_f64()));
        states.push(state);
    }
    sqlx::query(FINISH)
        .bind(ids)
        .bind(attempts)
        .bind(statuses)
        .bind(results)
        .bind(errors)
        .bind(failures)
        .bind(delays)
        .bind(states)
        .execute(connection)
        .await?;
    Ok(())
}

/// For how long workers may fail to read a payload before the job is failed.
const UNREADABLE_FOR: TimeDelta = TimeDelta::days(1);
/// A job that nobody failed to read for so long was readable, or waited for its time.
const UNREADABLE_AGAIN: TimeDelta = TimeDelta::hours(1);

/// Notes that a worker cannot read the payload of a job. Returns whether that has lasted a day, by the
/// database's clock.
///
/// # Errors
/// [`Error::Superseded`] when the attempt is no longer the present one.
pub async fn note_unreadable(connection: &mut PgConnection, workspace_id: Uuid, lease: Lease) -> Result<bool> {
    type Seen = (DateTime<Utc>, Option<DateTime<Utc>>, Option<DateTime<Utc>>);
    let (now, first, last): Seen = sqlx::query_as(
        "SELECT now(), unreadable_since, unreadable_at FROM jobs WHERE workspace_id = $1 AND id = $2 AND attempt = $3",
    )
    .bind(workspace_id)
    .bind(lease.id)
    .bind(lease.attempt)
    .fetch_optional(&mut *connection)
    .await?
    .ok_or(Error::Superseded)?;
    let is_going_on = last.is_some_and(|last| now - last < UNREADABLE_AGAIN);
    let since = first.filter(|_| is_going_on).unwrap_or(now);
    sqlx::query(
        "UPDATE jobs SET unreadable_since = $4, unreadable_at = $5 WHERE workspace_id = $1 AND id = $2 AND attempt = $3",
    )
    .bind(workspace_id)
    .bind(lease.id)
    .bind(lease.attempt)
    .bind(since)
    .bind(now)
    .execute(connection)
    .await?;
    Ok(now - since >= UNREADABLE_FOR)
}
