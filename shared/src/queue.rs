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
pub(crate) mod fronts;
mod lease;
pub(crate) mod marks;
pub mod notify;
pub(crate) mod rescue;
mod retry;
mod run;

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sqlx::types::Json;
use sqlx::{FromRow, PgConnection};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::error::{Error, Reason, Result};
use crate::string_enum;
use crate::values::etag::Tagged;

pub use claim::*;
pub use fronts::Sweep;
pub use lease::*;
pub use marks::{Marks, Position, Ranges, SWEEP_EVERY};
pub use rescue::{CONDEMN, LOOK, Looked, RESCUE, Rescued, rescue};
pub use retry::{MAX_DEFECTS, MAX_ERRORS, Next, RetryState};
pub use run::{Page, Pages, Resumed, Run, resume};

/// Every queue. [`mail`](crate::mail::QUEUE) holds emails instead of jobs.
pub const QUEUES: &[&str] = &["imports", "mail", "workflows"];

string_enum! {
    /// The status of a job.
    JobStatus {
        /// Waiting for its due time or for a worker.
        Queued = "queued",
        /// Leased by a worker.
        Running = "running",
        /// The job finished its work.
        Succeeded = "succeeded",
        /// The job failed; it can be read and retried.
        Failed = "failed",
        /// Cancelled by a caller; its committed steps remain.
        Cancelled = "cancelled",
    }
}

impl JobStatus {
    /// Whether the job has ended.
    pub fn is_finished(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

/// The input of a kind of job. Each payload is declared in the module of its records.
pub trait Payload: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The kind's name, in the `jobs` table and for callers.
    const KIND: &'static str;
    /// The queue of its jobs.
    const QUEUE: &'static str;
    /// The schema of its result.
    type Result: ToSchema;

    /// Whether it only reports what it would do. A caller is waiting for the result, so a dry run
    /// is not retried for long.
    fn is_dry_run(&self) -> bool {
        false
    }
}

/// A job's status in the API: a job that yielded its slot to another workspace is still running.
pub const STATUS: &str = "CASE WHEN yielded AND status = 'queued' THEN 'running' ELSE status END";

/// A job's `retry_at` in the API.
pub const RETRY_AT: &str = "CASE WHEN status = 'queued' AND NOT yielded AND error IS NOT NULL THEN run_at END";
/// A job's `attempt` in the API.
pub const ATTEMPT: &str = "CASE WHEN started_at IS NULL THEN 0 ELSE retries + 1 END";

macro_rules! columns {
    () => {
        "id, kind, status, progress_done, progress_total, result, error, yielded, retries, run_at, \
            created_at, started_at, finished_at, subject_type, subject_id"
    };
}

/// The columns of [`Job`], for the statement of a list.
pub const COLUMNS: &str = columns!();

/// A job, as the API shows it.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Job {
    /// The job's id; ids rise with time.
    pub id: Uuid,
    /// The kind of job.
    pub kind: String,
    /// The job's status.
    pub status: JobStatus,
    /// The job's progress.
    pub progress: Progress,
    /// The result: complete once the job succeeded, and the work done so far until then.
    pub result: Option<Value>,
    /// Why the job or its last attempt failed. Cleared once an attempt gets past the point of the
    /// error.
    pub error: Option<String>,
    /// When a job that waits after an error is retried.
    pub retry_at: Option<DateTime<Utc>>,
    /// The number of the current or last attempt: 0 before the first, and one more after each
    /// failure and each death of a worker.
    pub attempt: i32,
    /// When it was accepted.
    pub created_at: DateTime<Utc>,
    /// When a worker first started it.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
    /// The record that the job is about.
    pub subject: Option<Subject>,
}

/// A job's progress, in units of its kind (rows, for an import).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct Progress {
    /// Units done.
    pub done: i64,
    /// Units in all, if known.
    pub total: Option<i64>,
}

/// The record that a job is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Subject {
    /// The kind of record, in the singular: `feedback`, `lead`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its id.
    pub id: Uuid,
}

impl Tagged for Job {}

impl<'r> FromRow<'r, sqlx::postgres::PgRow> for Job {
    fn from_row(row: &'r sqlx::postgres::PgRow) -> sqlx::Result<Self> {
        use sqlx::Row;
        let subject_type: Option<String> = row.try_get("subject_type")?;
        let subject_id: Option<Uuid> = row.try_get("subject_id")?;
        let (run_at, error): (DateTime<Utc>, Option<String>) = (row.try_get("run_at")?, row.try_get("error")?);
        let started_at: Option<DateTime<Utc>> = row.try_get("started_at")?;
        let status = match row.try_get("status")? {
            JobStatus::Queued if row.try_get("yielded")? => JobStatus::Running,
            status => status,
        };
        Ok(Self {
            id: row.try_get("id")?,
            kind: row.try_get("kind")?,
            status,
            progress: Progress { done: row.try_get("progress_done")?, total: row.try_get("progress_total")? },
            result: row.try_get("result")?,
            retry_at: (status == JobStatus::Queued && error.is_some()).then_some(run_at),
            error,
            attempt: if started_at.is_some() { row.try_get::<i32, _>("retries")? + 1 } else { 0 },
            created_at: row.try_get("created_at")?,
            started_at,
            finished_at: row.try_get("finished_at")?,
            subject: subject_type.zip(subject_id).map(|(kind, id)| Subject { kind, id }),
        })
    }
}

/// A job to enqueue.
#[derive(Debug, Clone)]
pub struct NewJob {
    id: Uuid,
    workspace_id: Uuid,
    kind: &'static str,
    queue: &'static str,
    payload: Value,
    dedupe_key: Option<String>,
    subject: Option<Subject>,
    total: Option<i64>,
    delay: Duration,
    request_id: Option<String>,
}

impl NewJob {
    /// A job of the payload's kind, due at once.
    pub fn new<P: Payload>(workspace_id: Uuid, payload: &P) -> Result<Self> {
        Ok(Self {
            id: Uuid::now_v7(),
            workspace_id,
            kind: P::KIND,
            queue: P::QUEUE,
            payload: serde_json::to_value(payload)?,
            dedupe_key: None,
            subject: None,
            total: None,
            delay: Duration::ZERO,
            request_id: None,
        })
    }

    /// A job for the whole workspace. One such job is active at a time, plus one dry run.
    pub fn run<P: Payload>(workspace_id: Uuid, payload: &P) -> Result<Self> {
        let key = if payload.is_dry_run() { format!("{}:dry", P::KIND) } else { P::KIND.to_owned() };
        Ok(Self::new(workspace_id, payload)?.dedupe_key(key))
    }

    /// Sets the id, for callers that already stored it in the records the job refers to.
    pub fn id(self, id: Uuid) -> Self {
        Self { id, ..self }
    }

    /// At most one unfinished job of the workspace has this key.
    pub fn dedupe_key(self, key: impl Into<String>) -> Self {
        Self { dedupe_key: Some(key.into()), ..self }
    }

    /// The record that the job is about.
    pub fn subject(self, kind: impl Into<String>, id: Uuid) -> Self {
        Self { subject: Some(Subject { kind: kind.into(), id }), ..self }
    }

    /// How many units of work it has.
    pub fn total(self, total: i64) -> Self {
        Self { total: Some(total), ..self }
    }

    /// Makes the job due after a delay.
    pub fn delay(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }

    /// The request that caused the job, if any, for the worker's logs.
    pub fn request_id(self, request_id: Option<&str>) -> Self {
        Self { request_id: request_id.map(str::to_owned), ..self }
    }
}

/// Stores a job in the caller's transaction, and returns it. If an unfinished job of the workspace
/// has the same dedupe key, that job is returned instead. After the commit, the caller notifies the
/// queue through the [`Notifier`](crate::queue::notify::Notifier).
pub async fn enqueue(connection: &mut PgConnection, job: NewJob) -> Result<Job> {
    loop {
        let inserted = sqlx::query_as(concat!(
            "INSERT INTO jobs (id, workspace_id, queue, kind, payload, dedupe_key, subject_type, subject_id,
                 progress_total, run_at, request_id)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, now() + make_interval(secs => $10), $11)
             ON CONFLICT (workspace_id, dedupe_key) WHERE dedupe_key IS NOT NULL AND finished_at IS NULL DO NOTHING
             RETURNING ",
            columns!()
        ))
        .bind(job.id)
        .bind(job.workspace_id)
        .bind(job.queue)
        .bind(job.kind)
        .bind(&job.payload)
        .bind(&job.dedupe_key)
        .bind(job.subject.as_ref().map(|subject| &subject.kind))
        .bind(job.subject.as_ref().map(|subject| subject.id))
        .bind(job.total)
        .bind(job.delay.as_secs_f64())
        .bind(&job.request_id)
        .fetch_optional(&mut *connection)
        .await?;
        if let Some(inserted) = inserted {
            return Ok(inserted);
        }
        let existing = sqlx::query_as(concat!(
            "SELECT ",
            columns!(),
            " FROM jobs WHERE workspace_id = $1 AND dedupe_key = $2 AND finished_at IS NULL"
        ))
        .bind(job.workspace_id)
        .bind(&job.dedupe_key)
        .fetch_optional(&mut *connection)
        .await?;
        // No row: the existing job ended between the two statements, and the key is free now.
        if let Some(existing) = existing {
            return Ok(existing);
        }
    }
}

/// Stores the job of a run over a whole workspace, or returns the one that is active. One run is
/// active at a time, plus one dry run.
pub async fn start_run<P: Payload>(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    request_id: Option<&str>,
    payload: &P,
) -> Result<Job> {
    enqueue(connection, NewJob::run(workspace_id, payload)?.request_id(request_id)).await
}

/// Stores many jobs of one kind without dedupe keys in one statement, and returns their ids in the
/// order of the payloads.
pub async fn enqueue_all<P: Payload>(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    payloads: &[P],
) -> Result<Vec<Uuid>> {
    let ids: Vec<Uuid> = payloads.iter().map(|_| Uuid::now_v7()).collect();
    let payloads: Vec<Json<&P>> = payloads.iter().map(Json).collect();
    sqlx::query(
        "INSERT INTO jobs (workspace_id, id, queue, kind, payload)
         SELECT $1, id, $2, $3, payload FROM unnest($4::uuid[], $5::jsonb[]) AS new (id, payload)",
    )
    .bind(workspace_id)
    .bind(P::QUEUE)
    .bind(P::KIND)
    .bind(&ids)
    .bind(payloads)
    .execute(connection)
    .await?;
    Ok(ids)
}

/// Returns a job of the workspace.
pub async fn get(connection: &mut PgConnection, workspace_id: Uuid, id: Uuid) -> Result<Job> {
    Ok(sqlx::query_as(concat!("SELECT ", columns!(), " FROM jobs WHERE id = $1 AND workspace_id = $2"))
        .bind(id)
        .bind(workspace_id)
        .fetch_one(connection)
        .await?)
}

/// Cancels an unfinished job; a finished job is returned unchanged. A worker that runs the job
/// loses its lease and stops at its next step, whose transaction is rolled back.
pub async fn cancel(connection: &mut PgConnection, workspace_id: Uuid, id: Uuid) -> Result<Job> {
    let cancelled = sqlx::query_as(concat!(
        "UPDATE jobs SET status = 'cancelled', attempt = attempt + 1, lease_until = NULL, finished_at = now()
         WHERE id = $1 AND workspace_id = $2 AND finished_at IS NULL
         RETURNING ",
        columns!()
    ))
    .bind(id)
    .bind(workspace_id)
    .fetch_optional(&mut *connection)
    .await?;
    match cancelled {
        Some(job) => Ok(job),
        None => get(connection, workspace_id, id).await,
    }
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
        true => Error::conflict(Reason::AlreadyRunning, "id", "another job is already doing the same work"),
        false => error.into(),
    })?;
    let job: Job = match queued {
        Some(job) => job,
        None => get(connection, workspace_id, id).await?,
    };
    if job.status == JobStatus::Succeeded {
        return Err(Error::conflict(Reason::JobSucceeded, "status", "the job succeeded and cannot be retried"));
    }
    Ok(job)
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

/// How many jobs wait in a queue and how many are running, for operators.
#[derive(Debug, Clone, FromRow)]
pub struct Depth {
    /// The queue.
    pub queue: String,
    /// Jobs that wait for a worker or for their due time.
    pub queued: i64,
    /// Jobs leased by workers.
    pub running: i64,
    /// For how many seconds the longest waiting due job has been due.
    pub oldest_due_s: f64,
}

/// Counts the unfinished jobs of each queue, including empty queues.
pub async fn depths(connection: &mut PgConnection) -> Result<Vec<Depth>> {
    let mut depths: Vec<Depth> = sqlx::query_as(
        "SELECT queue, count(*) FILTER (WHERE status = 'queued') AS queued, count(*) FILTER (WHERE status = 'running') AS running,
             coalesce(greatest(extract(epoch FROM now() - min(run_at) FILTER (WHERE status = 'queued')), 0), 0)::float8 AS oldest_due_s
         FROM (SELECT queue, status, run_at FROM jobs WHERE status = 'queued' AND crashes = 0
               UNION ALL
               SELECT queue, status, run_at FROM jobs WHERE status = 'queued' AND crashes > 0
               UNION ALL
               SELECT queue, status, run_at FROM jobs WHERE lease_until IS NOT NULL) AS unfinished
         GROUP BY queue",
    )
    .fetch_all(connection)
    .await?;
    for queue in QUEUES {
        if !depths.iter().any(|depth| depth.queue == *queue) {
            depths.push(Depth { queue: (*queue).to_owned(), queued: 0, running: 0, oldest_due_s: 0.0 });
        }
    }
    Ok(depths)
}

/// Jobs that wait for a retry after the same error.
#[derive(Debug, Clone, FromRow)]
pub struct Waiting {
    /// The kind of job.
    pub kind: String,
    /// The error, as the API shows it.
    pub error: String,
    /// How many jobs there are.
    pub jobs: i64,
}

/// Returns the jobs of all workspaces that wait for a retry, grouped by kind and error.
pub async fn waiting(connection: &mut PgConnection) -> Result<Vec<Waiting>> {
    Ok(sqlx::query_as(
        "SELECT kind, error, count(*) AS jobs FROM jobs WHERE status = 'queued' AND error IS NOT NULL
         GROUP BY kind, error ORDER BY jobs DESC, kind, error",
    )
    .fetch_all(connection)
    .await?)
}
