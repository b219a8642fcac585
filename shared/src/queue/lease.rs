//! Leases of claimed jobs: renewing, recording progress, finishing.
//!
//! The statements are constants because tests check their plans: the queue depends on plans that do not
//! change after ANALYZE.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;
use sqlx::types::Json;
use sqlx::{Connection, FromRow, PgConnection};
use uuid::Uuid;

use super::{JobStatus, Progress, Reporting, RetryState, report_end};
use crate::error::{Error, ErrorClass, Result};

/// The lease duration: how long a claimed job is reserved without a renewal.
pub const LEASE: Duration = Duration::from_secs(15);
/// How often a worker renews its leases; a lease survives several lost renewals.
pub const RENEW_EVERY: Duration = Duration::from_secs(4);
/// How often a worker looks for expired leases.
pub const RESCUE_EVERY: Duration = Duration::from_secs(2);
/// The number of consecutive crashes, without a committed step between them, that fail a job.
pub const MAX_CRASHES: i16 = 5;

/// The right to write for a job: its key and the attempt that claimed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, FromRow)]
pub struct Lease {
    /// The workspace of the job.
    pub workspace_id: Uuid,
    /// The id of the job.
    pub id: Uuid,
    /// The attempt, which fences every write.
    pub attempt: i32,
}

/// The statement of [`renew`] for one workspace.
///
/// An expired lease is still renewed as long as no other worker has claimed the job. The status is only
/// used in SET: a job that was finished or requeued in the meantime, with the same attempt, gets no lease.
pub const RENEW: &str = "
    UPDATE jobs SET lease_until = CASE WHEN status = 'running' THEN $4::timestamptz END
    FROM unnest($2::uuid[], $3::integer[]) AS mine (id, attempt)
    WHERE jobs.workspace_id = $1 AND jobs.id = mine.id AND jobs.attempt = mine.attempt
    RETURNING jobs.workspace_id, jobs.id, jobs.attempt";

/// Renews leases, one statement per workspace, and returns those that are still held. The jobs of the others
/// were cancelled or claimed by another worker: their handlers must stop.
///
/// After an error, it is unknown which leases are held; those of a node that cannot be reached count as held.
pub async fn renew(connection: &mut PgConnection, leases: &[Lease]) -> Result<Vec<Lease>> {
    renew_by(RENEW, connection, leases).await
}

/// Renews leases with a statement like [`RENEW`].
pub(crate) async fn renew_by(
    statement: &'static str,
    connection: &mut PgConnection,
    leases: &[Lease],
) -> Result<Vec<Lease>> {
    let now: DateTime<Utc> = sqlx::query_scalar("SELECT now()").fetch_one(&mut *connection).await?;
    let mut held = Vec::with_capacity(leases.len());
    for (workspace_id, ids, attempts) in by_workspace(leases) {
        let mine = || ids.iter().zip(&attempts).map(|(&id, &attempt)| Lease { workspace_id, id, attempt });
        // Planned afresh also on connections that keep plans: a late renewal loses leases.
        let renewed = sqlx::query_as::<_, Lease>(statement).persistent(false);
        let renewed = renewed.bind(workspace_id).bind(&ids).bind(&attempts).bind(now + LEASE);
        match renewed.fetch_all(&mut *connection).await.map_err(Error::from) {
            Ok(renewed) => held.extend(renewed),
            Err(error) if error.class() == ErrorClass::Node => held.extend(mine()),
            Err(error) => return Err(error),
        }
    }
    Ok(held)
}

/// The ids and attempts of each workspace's leases, in the order in which all statements lock rows, so that
/// they never deadlock.
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

/// The crashes and errors that still count after a committed step.
#[derive(Debug, FromRow)]
pub struct Recorded {
    /// See [`Claimed::crashes`].
    pub crashes: i16,
    /// See [`Claimed::retry_state`].
    pub retry_state: Option<Json<RetryState>>,
}

/// The statement of [`progress`]. A step that records the same progress and result again, because a later
/// attempt repeats it, is no progress: earlier errors still count.
const PROGRESS: &str = "
    UPDATE jobs SET progress_done = $3, progress_total = $4, result = $5::text::json, cursor = $7,
        failures = CASE WHEN progress_done = $3 AND result::text = $5 AND cursor IS NOT DISTINCT FROM $7 THEN failures ELSE 0 END,
        crashes = CASE WHEN progress_done = $3 AND result::text = $5 AND cursor IS NOT DISTINCT FROM $7 THEN crashes ELSE 0 END,
        error = CASE WHEN progress_done = $3 AND result::text = $5 AND cursor IS NOT DISTINCT FROM $7 THEN error END,
        retry_state = CASE WHEN progress_done = $3 AND result::text = $5 AND cursor IS NOT DISTINCT FROM $7 THEN retry_state END
    WHERE workspace_id = $6 AND id = $1 AND attempt = $2
    RETURNING crashes, retry_state";

/// Records the progress of a step, the result so far and the cursor, as the last statement of the step's
/// transaction: it locks the job's row, and renewing and cancelling wait for the commit. New progress
/// resets the counts of errors and crashes.
///
/// # Errors
/// [`Error::Superseded`] if the attempt is no longer the current one; the caller rolls back.
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
    /// The job succeeded with this result; `None` keeps the result that the last step recorded.
    Succeeded(Option<Value>),
    /// The job failed: a retry would not help.
    Failed(String),
    /// The attempt failed, and the job is retried after the delay.
    Retry {
        /// The error.
        error: String,
        /// How long to wait.
        delay: Duration,
        /// Whether the error counts as a failure. A condition of the database does not.
        counts: bool,
        /// All errors since a step last recorded progress.
        state: RetryState,
    },
    /// The job resumes after the delay; no error occurred.
    Snooze(Duration),
    /// The job yielded its slot to another workspace. It keeps its position in the queue, and callers still
    /// see it as running.
    Yielded,
}

impl Outcome {
    /// Whether the job has ended.
    fn is_end(&self) -> bool {
        matches!(self, Self::Succeeded(_) | Self::Failed(_))
    }
}

/// The end of an attempt.
#[derive(Debug, Clone, PartialEq)]
pub struct Ended {
    /// The lease of the attempt.
    pub lease: Lease,
    /// How it ended.
    pub outcome: Outcome,
    /// Which events the job has.
    pub reporting: Reporting,
}

impl Ended {
    /// The end of an attempt that has no event.
    pub fn silently(lease: Lease, outcome: Outcome) -> Self {
        Self { lease, outcome, reporting: Reporting::None }
    }
}

/// The statement of [`finish`] for succeeded and failed jobs of one workspace. WHERE must not use the status,
/// since the planner would then use the index of leases; and whether a job has finished is compared with what has
/// ended, since the planner would otherwise expect a single such job, and compare all jobs of the workspace with all
/// that have ended.
pub const END: &str = "
    UPDATE jobs
    SET status = ended.status, lease_until = NULL, yielded = false, finished_at = now(),
        result = coalesce(ended.result::json, jobs.result), error = ended.error,
        failures = CASE WHEN ended.status = 'failed' THEN jobs.failures + 1 ELSE jobs.failures END
    FROM unnest($2::uuid[], $3::integer[], $4::text[], $5::text[], $6::text[])
        AS ended (id, attempt, status, result, error)
    WHERE jobs.workspace_id = $1 AND jobs.id = ended.id AND jobs.attempt = ended.attempt
        AND (jobs.finished_at IS NULL) = (ended.id IS NOT NULL)
    RETURNING jobs.id";

/// The statement of [`finish`] for jobs of one workspace that are queued again with the same delay and error.
pub const REQUEUE: &str = "
    UPDATE jobs
    SET status = 'queued', lease_until = NULL, yielded = false, run_at = now() + make_interval(secs => $4),
        error = $5, failures = jobs.failures + $6, retries = jobs.retries + $6,
        retry_state = coalesce($7::jsonb, jobs.retry_state)
    FROM unnest($2::uuid[], $3::integer[]) AS mine (id, attempt)
    WHERE jobs.workspace_id = $1 AND jobs.id = mine.id AND jobs.attempt = mine.attempt";

/// The statement of [`finish`] for jobs of one workspace that yielded.
pub const YIELD: &str = "
    UPDATE jobs SET status = 'queued', lease_until = NULL, yielded = true
    FROM unnest($2::uuid[], $3::integer[]) AS mine (id, attempt)
    WHERE jobs.workspace_id = $1 AND jobs.id = mine.id AND jobs.attempt = mine.attempt";

/// Records how attempts ended, many of a workspace in one statement. An attempt that is no longer the
/// current one of its job changes nothing. After an error the call can be repeated. While a node cannot be
/// reached, the outcomes of the others are recorded before the error is returned.
pub async fn finish(connection: &mut PgConnection, ended: &[Ended]) -> Result<()> {
    let mut ended: Vec<&Ended> = ended.iter().collect();
    ended.sort_unstable_by_key(|ended| ended.lease);
    let mut missed = Ok(());
    for ended in ended.chunk_by(|one, other| one.lease.workspace_id == other.lease.workspace_id) {
        match finish_workspace(connection, ended).await {
            Err(error) if error.class() == ErrorClass::Node => missed = Err(error),
            finished => finished?,
        }
    }
    missed
}

async fn finish_workspace(connection: &mut PgConnection, ended: &[&Ended]) -> Result<()> {
    let (silent, reported): (Vec<&Ended>, Vec<&Ended>) =
        ended.iter().partition(|ended| ended.reporting == Reporting::None);
    end(connection, &silent).await?;
    end_reported(connection, &reported).await?;
    // Jobs with the same outcome are queued again in one statement.
    for same in ended.chunk_by(|one, other| one.outcome == other.outcome) {
        let leases: Vec<Lease> = same.iter().map(|ended| ended.lease).collect();
        requeue(connection, &leases, &same[0].outcome).await?;
    }
    Ok(())
}

/// Ends jobs of one workspace, and records their events in the same transaction.
async fn end_reported(connection: &mut PgConnection, ended: &[&Ended]) -> Result<()> {
    let Some(Ended { lease: Lease { workspace_id, .. }, .. }) = ended.iter().find(|ended| ended.outcome.is_end())
    else {
        return Ok(());
    };
    let mut transaction = connection.begin().await?;
    // A job whose outcome was recorded before is not reported again.
    let ids = end(&mut transaction, ended).await?;
    for reporting in [Reporting::End, Reporting::Records] {
        let alike = ended.iter().filter(|ended| ended.reporting == reporting).map(|ended| ended.lease.id);
        let alike: Vec<Uuid> = alike.filter(|id| ids.contains(id)).collect();
        if !alike.is_empty() {
            report_end(&mut transaction, *workspace_id, None, &alike, |_| reporting).await?;
        }
    }
    Ok(transaction.commit().await?)
}

/// Ends the jobs of one workspace that succeeded or failed, and returns their ids.
async fn end(connection: &mut PgConnection, ended: &[&Ended]) -> Result<Vec<Uuid>> {
    let (mut ids, mut attempts, mut statuses) = (Vec::new(), Vec::new(), Vec::new());
    let (mut results, mut errors) = (Vec::new(), Vec::new());
    for Ended { lease, outcome, .. } in ended {
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
    let Some(Ended { lease, .. }) = ended.first().filter(|_| !ids.is_empty()) else { return Ok(Vec::new()) };
    let ended = sqlx::query_scalar(END)
        .bind(lease.workspace_id)
        .bind(ids)
        .bind(attempts)
        .bind(statuses)
        .bind(results)
        .bind(errors)
        .fetch_all(connection)
        .await?;
    Ok(ended)
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

/// How long a payload may be unreadable before the job fails.
const UNREADABLE_FOR: TimeDelta = TimeDelta::days(1);
/// After this time without a report, a payload no longer counts as unreadable since the first report.
const UNREADABLE_AGAIN: TimeDelta = TimeDelta::hours(1);

/// Records that a worker cannot read the payload of a job. Returns whether the payload has been unreadable
/// for a day, by the database's clock.
///
/// # Errors
/// [`Error::Superseded`] if the attempt is no longer the current one.
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
    let is_recent = last.is_some_and(|last| now - last < UNREADABLE_AGAIN);
    let since = first.filter(|_| is_recent).unwrap_or(now);
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
