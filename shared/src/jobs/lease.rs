//! What workers do with jobs: claim, renew, record progress, finish, rescue.
//!
//! The statements are constants because their plans are tested: a queue lives from plans that stay
//! what they are after ANALYZE.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;
use serde_json::value::RawValue;
use sqlx::types::Json;
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use super::{JobStatus, Payload, Progress, RetryState};
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
    /// Until when it is held: by the database's clock, one lease length after the claim.
    pub lease_until: DateTime<Utc>,
    /// The [`Payload`], as JSON.
    pub payload: Json<Box<RawValue>>,
    /// The request that caused it.
    pub request_id: Option<String>,
}

impl Claimed {
    /// The right to write for this job.
    pub fn lease(&self) -> Lease {
        Lease { id: self.id, attempt: self.attempt }
    }

    /// When it was claimed, by the database's clock.
    pub fn claimed_at(&self) -> DateTime<Utc> {
        self.lease_until - LEASE
    }
}

/// The statement of [`claim`]; its plan is tested.
///
/// `active` is a loose index scan: one probe of the index for each workspace with queued jobs. Each
/// of them gets an equal share of the batch, so a workspace with a million jobs delays no other by
/// more than one batch. When there are more workspaces than places, chance decides each time.
///
/// The locked rows are reached by their places, which saves looking each up by its key. A row that
/// moved between the statement's snapshot and its lock is left for the next claim.
///
/// Jobs whose process died are left out: [`claim_suspect`] takes them one by one.
pub const CLAIM: &str = "
    WITH RECURSIVE active (workspace_id) AS (
        (SELECT workspace_id FROM jobs
         WHERE queue = $1 AND status = 'queued' AND crashes = 0
         ORDER BY workspace_id LIMIT 1)
        UNION ALL
        SELECT (SELECT workspace_id FROM jobs
                WHERE queue = $1 AND status = 'queued' AND crashes = 0 AND workspace_id > active.workspace_id
                ORDER BY workspace_id LIMIT 1)
        FROM active WHERE workspace_id IS NOT NULL
    ), turn AS (
        SELECT workspace_id, ceil($2::float8 / count(*) OVER ())::bigint AS share
        FROM active WHERE workspace_id IS NOT NULL
        ORDER BY random() LIMIT $2
    )
    UPDATE jobs
    SET status = 'running', attempt = attempt + 1, lease_until = now() + make_interval(secs => $3),
        started_at = coalesce(started_at, now())
    WHERE ctid = ANY (ARRAY(
        SELECT due.ctid FROM turn CROSS JOIN LATERAL (
            SELECT ctid FROM jobs
            WHERE queue = $1 AND status = 'queued' AND crashes = 0
                AND workspace_id = turn.workspace_id AND run_at <= now()
            ORDER BY run_at, id LIMIT turn.share FOR NO KEY UPDATE SKIP LOCKED
        ) AS due
        LIMIT $2
    ))
    RETURNING id, workspace_id, kind, attempt, failures, crashes, retry_state, lease_until, payload, request_id";

/// Claims up to `limit` due jobs of a queue, oldest first within each workspace.
///
/// # Errors
/// [`Error::Unavailable`] when the database is away.
pub async fn claim(connection: &mut PgConnection, queue: &str, limit: i64) -> Result<Vec<Claimed>> {
    let mut claimed: Vec<Claimed> =
        sqlx::query_as(CLAIM).bind(queue).bind(limit).bind(LEASE.as_secs_f64()).fetch_all(connection).await?;
    claimed.sort_unstable_by_key(|job| job.id);
    Ok(claimed)
}

/// The statement of [`claim_suspect`]; its plan is tested.
pub const CLAIM_SUSPECT: &str = "
    UPDATE jobs
    SET status = 'running', attempt = attempt + 1, lease_until = now() + make_interval(secs => $2),
        started_at = coalesce(started_at, now())
    WHERE id = (
        SELECT id FROM jobs
        WHERE status = 'queued' AND crashes > 0 AND run_at <= now() AND queue = ANY ($1)
        ORDER BY crashes, run_at LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED
    )
    RETURNING id, workspace_id, kind, attempt, failures, crashes, retry_state, lease_until, payload, request_id";

/// Claims one due job whose process died while it ran the job, if there is any in these queues.
///
/// Such a job must run alone in its process, so that it takes no other with it if it is the cause.
/// The one with the fewest deaths comes first: of several that ran in the dead process, those that
/// are innocent get on, and are beyond suspicion, before the guilty one is tried again.
///
/// # Errors
/// [`Error::Unavailable`] when the database is away.
pub async fn claim_suspect(connection: &mut PgConnection, queues: &[&str]) -> Result<Option<Claimed>> {
    Ok(sqlx::query_as(CLAIM_SUSPECT).bind(queues).bind(LEASE.as_secs_f64()).fetch_optional(connection).await?)
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
}

/// The statement of [`finish`]; its plan is tested. It never names the status in WHERE, see the
/// index of leases.
pub const FINISH: &str = "
    UPDATE jobs
    SET status = ended.status, lease_until = NULL,
        result = coalesce(ended.result::json, jobs.result),
        error = ended.error,
        failures = jobs.failures + ended.failures,
        retry_state = coalesce(ended.retry_state::jsonb, jobs.retry_state),
        run_at = CASE WHEN ended.status = 'queued' THEN now() + make_interval(secs => ended.delay) ELSE jobs.run_at END,
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
        let (mut result, mut error, mut failure, mut delay, mut state) = (None, None, 0_i16, Duration::ZERO, None);
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
                (error, failure, delay) = (Some(why.as_str()), i16::from(*counts), *wait);
                state = Some(serde_json::to_string(errors)?);
                JobStatus::Queued
            }
            Outcome::Snooze(wait) => {
                delay = *wait;
                JobStatus::Queued
            }
        };
        ids.push(lease.id);
        attempts.push(lease.attempt);
        statuses.push(status.as_str());
        results.push(result.map(Value::to_string));
        errors.push(error);
        failures.push(failure);
        delays.push(delay.as_secs_f64());
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

/// A job whose lease had run out.
#[derive(Debug, FromRow)]
pub struct Rescued {
    /// The job.
    pub id: Uuid,
    /// What was being done.
    pub kind: String,
    /// The queue it waits in again.
    pub queue: String,
    /// `queued`, or `failed` when its process died too often.
    pub status: JobStatus,
}

/// The statement of [`rescue`]; its plan is tested.
///
/// While the database was away no worker could renew, so for one lease length after it came back
/// nobody is taken for dead.
pub const RESCUE: &str = "
    UPDATE jobs
    SET attempt = attempt + 1, crashes = crashes + 1, lease_until = NULL, run_at = now(),
        status = CASE WHEN crashes + 1 < $1 THEN 'queued' ELSE 'failed' END,
        finished_at = CASE WHEN crashes + 1 < $1 THEN NULL ELSE now() END,
        error = CASE WHEN crashes + 1 < $1 THEN error
            ELSE 'the worker process died ' || $1 || ' times in a row while it ran this job' END
    WHERE id = ANY (ARRAY(
        SELECT id FROM jobs
        WHERE lease_until < now() AND pg_postmaster_start_time() < now() - make_interval(secs => $2)
        ORDER BY lease_until LIMIT 1000 FOR NO KEY UPDATE SKIP LOCKED
    ))
    RETURNING id, kind, queue, status";

/// Gives jobs whose lease ran out back to their queue, or fails those that did so too often.
///
/// # Errors
/// [`Error::Unavailable`] when the database is away.
pub async fn rescue(connection: &mut PgConnection) -> Result<Vec<Rescued>> {
    Ok(sqlx::query_as(RESCUE).bind(MAX_CRASHES).bind(LEASE.as_secs_f64()).fetch_all(connection).await?)
}

/// A payload as JSON text is what [`Claimed`] carries; this is how the worker reads it.
///
/// # Errors
/// [`Error::Internal`] for a payload of another version of the program.
pub fn payload<P: Payload>(claimed: &Claimed) -> Result<P> {
    Ok(serde_json::from_str(claimed.payload.0.get())?)
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
