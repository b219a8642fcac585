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

/// The right to write for a job: its key and the attempt under which it was claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, FromRow)]
pub struct Lease {
    /// The workspace of the job.
    pub workspace_id: Uuid,
    /// The job.
    pub id: Uuid,
    /// The attempt; the fence of every write.
    pub attempt: i32,
}

/// The statement of [`renew`] for one workspace; its plan is tested.
///
/// A lease that ran out is still renewed while nobody has taken the job. The status stands in SET
/// only: a job that was finished or handed back meanwhile, under the same attempt, gets no lease.
pub const RENEW: &str = "
    UPDATE jobs SET lease_until = CASE WHEN status = 'running' THEN $4::timestamptz END
    FROM unnest($2::uuid[], $3::integer[]) AS mine (id, attempt)
    WHERE jobs.workspace_id = $1 AND jobs.id = mine.id AND jobs.attempt = mine.attempt
    RETURNING jobs.workspace_id, jobs.id, jobs.attempt";

/// Renews leases, all of a workspace in one statement, and returns those that are still held. The others
/// were cancelled or taken over: their handlers must stop.
///
/// # Errors
/// [`Error::Unavailable`] when the database is away; nothing is known about the leases then.
pub async fn renew(connection: &mut PgConnection, leases: &[Lease]) -> Result<Vec<Lease>> {
    renew_by(RENEW, connection, leases).await
}

/// Renews leases by a statement like [`RENEW`].
pub(crate) async fn renew_by(
    statement: &'static str,
    connection: &mut PgConnection,
    leases: &[Lease],
) -> Result<Vec<Lease>> {
    let now: DateTime<Utc> = sqlx::query_scalar("SELECT now()").fetch_one(&mut *connection).await?;
    let mut held = Vec::with_capacity(leases.len());
    for (workspace_id, ids, attempts) in by_workspace(leases) {
        let renewed =
            sqlx::query_as::<_, Lease>(statement).bind(workspace_id).bind(ids).bind(attempts).bind(now + LEASE);
        held.extend(renewed.fetch_all(&mut *connection).await?);
    }
    Ok(held)
}

/// The ids and attempts of each workspace's leases. In their order rows are locked everywhere, so that two
/// statements never wait for each other in a circle.
pub(crate) fn by_workspace(leases: &[Lease]) -> Vec<(Uuid, Vec<Uuid>, Vec<i32>)> {
    let mut leases = leases.to_vec();
    leases.sort_unstable();
    let workspaces = leases.chunk_by(|one, other| one.workspace_id == other.workspace_id);
    let columns = workspaces.map(|leases| {
        let (ids, attempts) = leases.iter().map(|lease| (lease.id, lease.attempt)).unzip();
        (leases[0].workspace_id, ids, attempts)
    });
    columns.collect()
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
    UPDATE jobs SET progress_done = $3, progress_total = $4, result = $5::text::json, cursor = $7,
        failures = CASE WHEN progress_done = $3 AND result::text = $5 AND cursor IS NOT DISTINCT FROM $7 THEN failures ELSE 0 END,
        crashes = CASE WHEN progress_done = $3 AND result::text = $5 AND cursor IS NOT DISTINCT FROM $7 THEN crashes ELSE 0 END,
        error = CASE WHEN progress_done = $3 AND result::text = $5 AND cursor IS NOT DISTINCT FROM $7 THEN error END,
        retry_state = CASE WHEN progress_done = $3 AND result::text = $5 AND cursor IS NOT DISTINCT FROM $7 THEN retry_state END
    WHERE workspace_id = $6 AND id = $1 AND attempt = $2
    RETURNING crashes, retry_state";

/// Records the progress of a step, what the job did so far and where it goes on, as the last statement of
/// the step's transaction.
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
    cursor: Option<&Value>,
) -> Result<Recorded> {
    let recorded = sqlx::query_as(PROGRESS)
        .bind(lease.id)
        .bind(lease.attempt)
        .bind(progress.done)
        .bind(progress.total)
        .bind(result.to_string())
        .bind(lease.workspace_id)
        .bind(cursor)
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

/// The statement of [`finish`] for the jobs of one workspace that have ended; its plan is tested. It never
/// names the status in WHERE, see the index of leases.
pub const END: &str = "
    UPDATE jobs
    SET status = ended.status, lease_until = NULL, yielded = false, finished_at = now(),
        result = coalesce(ended.result::json, jobs.result), error = ended.error,
        failures = CASE WHEN ended.status = 'failed' THEN jobs.failures + 1 ELSE jobs.failures END
    FROM unnest($2::uuid[], $3::integer[], $4::text[], $5::text[], $6::text[])
        AS ended (id, attempt, status, result, error)
    WHERE jobs.workspace_id = $1 AND jobs.id = ended.id AND jobs.attempt = ended.attempt";

/// The statement of [`finish`] for jobs of one workspace that wait again after the same time and for the same
/// reason; its plan is tested.
pub const REQUEUE: &str = "
    UPDATE jobs
    SET status = 'queued', lease_until = NULL, yielded = false, run_at = now() + make_interval(secs => $4),
        error = $5, failures = jobs.failures + $6, retries = jobs.retries + $6,
        retry_state = coalesce($7::jsonb, jobs.retry_state)
    FROM unnest($2::uuid[], $3::integer[]) AS mine (id, attempt)
    WHERE jobs.workspace_id = $1 AND jobs.id = mine.id AND jobs.attempt = mine.attempt";

/// The statement of [`finish`] for jobs of one workspace that gave their slots up; its plan is tested.
pub const YIELD: &str = "
    UPDATE jobs SET status = 'queued', lease_until = NULL, yielded = true
    FROM unnest($2::uuid[], $3::integer[]) AS mine (id, attempt)
    WHERE jobs.workspace_id = $1 AND jobs.id = mine.id AND jobs.attempt = mine.attempt";

/// Records how attempts ended, many of a workspace in one statement. Those that are no longer the present
/// attempt of their job change nothing.
///
/// # Errors
/// [`Error::Unavailable`] when the database is away; doing it again is harmless.
pub async fn finish(connection: &mut PgConnection, ended: &[(Lease, Outcome)]) -> Result<()> {
    let mut ended: Vec<&(Lease, Outcome)> = ended.iter().collect();
    ended.sort_unstable_by_key(|(lease, _)| *lease);
    for ended in ended.chunk_by(|(one, _), (other, _)| one.workspace_id == other.workspace_id) {
        end(connection, ended).await?;
        // What is handed back together has the same outcome.
        for same in ended.chunk_by(|(_, one), (_, other)| one == other) {
            let leases: Vec<Lease> = same.iter().map(|(lease, _)| *lease).collect();
            requeue(connection, &leases, &same[0].1).await?;
        }
    }
    Ok(())
}

/// Ends the jobs of one workspace that succeeded or failed.
async fn end(connection: &mut PgConnection, ended: &[&(Lease, Outcome)]) -> Result<()> {
    let (mut ids, mut attempts, mut statuses) = (Vec::new(), Vec::new(), Vec::new());
    let (mut results, mut errors) = (Vec::new(), Vec::new());
    for (lease, outcome) in ended {
        let (status, result, error) = match outcome {
            Outcome::Succeeded(result) => (JobStatus::Succeeded, result.as_ref().map(Value::to_string), None),
            Outcome::Failed(error) => (JobStatus::Failed, None, Some(error.as_str())),
            Outcome::Retry { .. } | Outcome::Snooze(_) | Outcome::Yielded => continue,
        };
        ids.push(lease.id);
        attempts.push(lease.attempt);
        statuses.push(status.as_str());
        results.push(result);
        errors.push(error);
    }
    let Some((lease, _)) = ended.first().filter(|_| !ids.is_empty()) else { return Ok(()) };
    sqlx::query(END)
        .bind(lease.workspace_id)
        .bind(ids)
        .bind(attempts)
        .bind(statuses)
        .bind(results)
        .bind(errors)
        .execute(connection)
        .await?;
    Ok(())
}

/// Queues jobs of one workspace again, if that is their outcome.
async fn requeue(connection: &mut PgConnection, leases: &[Lease], outcome: &Outcome) -> Result<()> {
    let (delay, error, counts, state) = match outcome {
        Outcome::Succeeded(_) | Outcome::Failed(_) => return Ok(()),
        Outcome::Snooze(delay) => (*delay, None, false, None),
        Outcome::Retry { delay, error, counts, state } => (*delay, Some(error.as_str()), *counts, Some(state)),
        Outcome::Yielded => {
            for (workspace_id, ids, attempts) in by_workspace(leases) {
                sqlx::query(YIELD).bind(workspace_id).bind(ids).bind(attempts).execute(&mut *connection).await?;
            }
            return Ok(());
        }
    };
    for (workspace_id, ids, attempts) in by_workspace(leases) {
        sqlx::query(REQUEUE)
            .bind(workspace_id)
            .bind(ids)
            .bind(attempts)
            .bind(delay.as_secs_f64())
            .bind(error)
            .bind(i16::from(counts))
            .bind(state.map(Json))
            .execute(&mut *connection)
            .await?;
    }
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
pub async fn note_unreadable(connection: &mut PgConnection, lease: Lease) -> Result<bool> {
    type Seen = (DateTime<Utc>, Option<DateTime<Utc>>, Option<DateTime<Utc>>);
    let (now, first, last): Seen = sqlx::query_as(
        "SELECT now(), unreadable_since, unreadable_at FROM jobs WHERE workspace_id = $1 AND id = $2 AND attempt = $3",
    )
    .bind(lease.workspace_id)
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
    .bind(lease.workspace_id)
    .bind(lease.id)
    .bind(lease.attempt)
    .bind(since)
    .bind(now)
    .execute(connection)
    .await?;
    Ok(now - since >= UNREADABLE_FOR)
}
