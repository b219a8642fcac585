//! The ledger of long work: enqueue, claim, renew, finish, rescue, cancel, retry, prune.
//!
//! A job is a row. Whoever needs work done enqueues it in the transaction of what it refers to, so
//! an accepted request and its job are one fact. A worker claims due jobs in batches, holds each
//! under a lease that it renews, and writes under the number of its attempt. That number only ever
//! rises, with each claim, cancellation and rescue, and is the fence: a write of an attempt that is
//! no longer the present one meets no row and is thrown away.
//!
//! All times are the database's, so the clocks of workers do not matter.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;
use sqlx::types::Json;
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::words;

/// How long a claimed job is held without a sign of life from its worker.
pub const LEASE: Duration = Duration::from_secs(15);
/// How often a worker renews its leases; several renewals may be lost before a lease is.
pub const RENEW_EVERY: Duration = Duration::from_secs(4);
/// How often a worker looks for leases that ran out.
pub const RESCUE_EVERY: Duration = Duration::from_secs(2);
/// Deaths of its process in a row, with no step committed between them, that condemn a job.
pub const MAX_CRASHES: i16 = 5;
/// Errors in a row, with no step committed between them, that fail a job.
pub const MAX_FAILURES: i16 = 8;

/// Every kind of job that callers can meet, with the queue it waits in.
pub const KINDS: &[(&str, &str)] = &[("import_leads", "imports")];
/// Every queue.
pub const QUEUES: &[&str] = &["imports"];

words! {
    /// Where a job stands.
    JobStatus {
        /// Waiting for its time or for a worker.
        Queued = "queued",
        /// Held by a worker.
        Running = "running",
        /// Done.
        Succeeded = "succeeded",
        /// Given up, readable and retryable.
        Failed = "failed",
        /// Ended by a caller; what its steps had committed stays.
        Cancelled = "cancelled",
    }
}

impl JobStatus {
    /// Whether the job has ended.
    pub fn is_finished(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

/// What a kind of job is told to do. Each lives in the file of its noun.
pub trait Payload: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The kind's name, in the `jobs` table and for callers.
    const KIND: &'static str;
    /// The queue its jobs wait in.
    const QUEUE: &'static str;
}

/// A job as callers see it.
#[derive(Debug, Clone, Serialize)]
pub struct Job {
    /// Made by the program, in the order of time.
    pub id: Uuid,
    /// What is to be done.
    pub kind: String,
    /// Where it stands.
    pub status: JobStatus,
    /// How far it is.
    pub progress: Progress,
    /// What it did: complete when it succeeded, what was done so far before.
    pub result: Option<Value>,
    /// Why it failed, or why its last try did.
    pub error: Option<String>,
    /// Rises with each claim, cancellation and rescue.
    pub attempt: i32,
    /// When it was accepted.
    pub created_at: DateTime<Utc>,
    /// When a worker first began it.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
    /// What it is about.
    pub subject: Option<Subject>,
}

/// How far a job is, in units of its kind (an import: rows).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// Units done.
    pub done: i64,
    /// Units in all, if known.
    pub total: Option<i64>,
}

/// The record a job is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Subject {
    /// The kind of record, in the singular: `feedback`, `lead`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its id.
    pub id: Uuid,
}

impl<'r> FromRow<'r, sqlx::postgres::PgRow> for Job {
    fn from_row(row: &'r sqlx::postgres::PgRow) -> sqlx::Result<Self> {
        use sqlx::Row;
        let subject_type: Option<String> = row.try_get("subject_type")?;
        let subject_id: Option<Uuid> = row.try_get("subject_id")?;
        Ok(Self {
            id: row.try_get("id")?,
            kind: row.try_get("kind")?,
            status: row.try_get("status")?,
            progress: Progress { done: row.try_get("progress_done")?, total: row.try_get("progress_total")? },
            result: row.try_get("result")?,
            error: row.try_get("error")?,
            attempt: row.try_get("attempt")?,
            created_at: row.try_get("created_at")?,
            started_at: row.try_get("started_at")?,
            finished_at: row.try_get("finished_at")?,
            subject: subject_type.zip(subject_id).map(|(kind, id)| Subject { kind, id }),
        })
    }
}

/// A job that is about to be enqueued.
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
    ///
    /// # Errors
    /// [`Error::Internal`] if the payload cannot be written as JSON.
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

    /// With an id that the caller has made, since what the job refers to carries it.
    pub fn id(self, id: Uuid) -> Self {
        Self { id, ..self }
    }

    /// At most one unfinished job of the workspace has this key.
    pub fn dedupe_key(self, key: impl Into<String>) -> Self {
        Self { dedupe_key: Some(key.into()), ..self }
    }

    /// The record it is about.
    pub fn subject(self, kind: impl Into<String>, id: Uuid) -> Self {
        Self { subject: Some(Subject { kind: kind.into(), id }), ..self }
    }

    /// How many units of work it has.
    pub fn total(self, total: i64) -> Self {
        Self { total: Some(total), ..self }
    }

    /// Due only after a while.
    pub fn delay(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }

    /// The request that caused it, for the logs of the worker.
    pub fn request_id(self, request_id: impl Into<String>) -> Self {
        Self { request_id: Some(request_id.into()), ..self }
    }
}

/// Stores a job, in the caller's transaction, and returns it.
///
/// If an unfinished job of the workspace has the same dedupe key, that one is returned instead.
/// After the commit the caller rings the [`Doorbell`](crate::doorbell::Doorbell) of the queue.
///
/// # Errors
/// [`Error::Unavailable`] when the database is away.
pub async fn enqueue(connection: &mut PgConnection, job: NewJob) -> Result<Job> {
    loop {
        let inserted = sqlx::query_as(
            "INSERT INTO jobs (id, workspace_id, queue, kind, payload, dedupe_key, subject_type, subject_id,
                 progress_total, run_at, request_id)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, now() + make_interval(secs => $10), $11)
             ON CONFLICT (workspace_id, dedupe_key) WHERE dedupe_key IS NOT NULL AND finished_at IS NULL DO NOTHING
             RETURNING *",
        )
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
        let standing =
            sqlx::query_as("SELECT * FROM jobs WHERE workspace_id = $1 AND dedupe_key = $2 AND finished_at IS NULL")
                .bind(job.workspace_id)
                .bind(&job.dedupe_key)
                .fetch_optional(&mut *connection)
                .await?;
        // None: the standing job ended between the two statements, and the key is free now.
        if let Some(standing) = standing {
            return Ok(standing);
        }
    }
}

/// Stores many jobs of one kind without dedupe keys, as fast as the database takes them, and
/// returns their ids in the order of the payloads.
///
/// # Errors
/// [`Error::Unavailable`] when the database is away.
pub async fn enqueue_all<P: Payload>(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    payloads: &[P],
) -> Result<Vec<Uuid>> {
    let ids: Vec<Uuid> = payloads.iter().map(|_| Uuid::now_v7()).collect();
    let payloads: Vec<Json<&P>> = payloads.iter().map(Json).collect();
    sqlx::query(
        "INSERT INTO jobs (id, workspace_id, queue, kind, payload)
         SELECT id, $1, $2, $3, payload FROM unnest($4::uuid[], $5::jsonb[]) AS new (id, payload)",
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

/// The right to write for a job: its id and the attempt under which it was claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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
    /// Errors since the last committed step.
    pub failures: i16,
    /// Deaths of its process since the last committed step.
    pub crashes: i16,
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

    /// Whether the job's process died last time: it must run alone then, so that a job that kills
    /// its process takes no other with it, and is found.
    pub fn must_run_alone(&self) -> bool {
        self.crashes > 0
    }
}

/// The statement of [`claim`]; its plan is tested.
///
/// `active` is a loose index scan: one probe of the index for each workspace with queued jobs. Each
/// of them gets an equal share of the batch, so a workspace with a million jobs delays no other by
/// more than one batch. When there are more workspaces than places, chance decides each time.
pub const CLAIM: &str = "
    WITH RECURSIVE active (workspace_id) AS (
        (SELECT workspace_id FROM jobs WHERE queue = $1 AND status = 'queued' ORDER BY workspace_id LIMIT 1)
        UNION ALL
        SELECT (SELECT workspace_id FROM jobs
                WHERE queue = $1 AND status = 'queued' AND workspace_id > active.workspace_id
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
    WHERE id = ANY (ARRAY(
        SELECT due.id FROM turn CROSS JOIN LATERAL (
            SELECT id FROM jobs
            WHERE queue = $1 AND status = 'queued' AND workspace_id = turn.workspace_id AND run_at <= now()
            ORDER BY run_at, id LIMIT turn.share FOR UPDATE SKIP LOCKED
        ) AS due
        LIMIT $2
    ))
    RETURNING id, workspace_id, kind, attempt, failures, crashes, payload, request_id";

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

/// The statement of [`renew`]; its plan is tested.
///
/// A lease that ran out is still renewed while nobody has taken the job. The status stands in SET
/// only: a job that was finished or handed back meanwhile, under the same attempt, gets no lease.
pub const RENEW: &str = "
    UPDATE jobs SET lease_until = CASE WHEN status = 'running' THEN now() + make_interval(secs => $3) END
    FROM unnest($1::uuid[], $2::integer[]) AS mine (id, attempt)
    WHERE jobs.id = mine.id AND jobs.attempt = mine.attempt
    RETURNING jobs.id";

/// Renews leases, all in one statement, and returns the ids of the jobs that are still held. The
/// others were cancelled or taken over: their handlers must stop.
///
/// # Errors
/// [`Error::Unavailable`] when the database is away; nothing is known about the leases then.
pub async fn renew(connection: &mut PgConnection, leases: &[Lease]) -> Result<Vec<Uuid>> {
    let ids: Vec<Uuid> = leases.iter().map(|lease| lease.id).collect();
    let attempts: Vec<i32> = leases.iter().map(|lease| lease.attempt).collect();
    Ok(sqlx::query_scalar(RENEW).bind(ids).bind(attempts).bind(LEASE.as_secs_f64()).fetch_all(connection).await?)
}

/// Records the progress of a step, as the last statement of the step's transaction.
///
/// Last, because it locks the job's row: until the commit, renewing and cancelling wait for it.
/// A committed step also clears the counts of failures and crashes: the job gets on.
///
/// # Errors
/// [`Error::Superseded`] when the attempt is no longer the present one; the caller rolls back.
pub async fn progress(connection: &mut PgConnection, lease: Lease, progress: Progress, result: &Value) -> Result<()> {
    let updated = sqlx::query(
        "UPDATE jobs SET progress_done = $3, progress_total = $4, result = $5, failures = 0, crashes = 0, error = NULL
         WHERE id = $1 AND attempt = $2",
    )
    .bind(lease.id)
    .bind(lease.attempt)
    .bind(progress.done)
    .bind(progress.total)
    .bind(result)
    .execute(connection)
    .await?;
    if updated.rows_affected() == 1 { Ok(()) } else { Err(Error::Superseded) }
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Done, with its result; `None` keeps the result that the last step recorded.
    Succeeded(Option<Value>),
    /// Given up: trying again would not help.
    Failed(String),
    /// An error that may pass: again after the delay, with one failure more on its account.
    Retry {
        /// The error.
        error: String,
        /// How long to wait.
        delay: Duration,
    },
    /// Nothing is wrong, but it is not the time yet: again after the delay.
    Snooze(Duration),
}

/// The statement of [`finish`]; its plan is tested. It never names the status in WHERE, see the
/// index of leases.
pub const FINISH: &str = "
    UPDATE jobs
    SET status = ended.status, lease_until = NULL,
        result = coalesce(ended.result, jobs.result),
        error = ended.error,
        failures = jobs.failures + ended.failures,
        run_at = CASE WHEN ended.status = 'queued' THEN now() + make_interval(secs => ended.delay) ELSE jobs.run_at END,
        finished_at = CASE WHEN ended.status = 'queued' THEN NULL ELSE now() END
    FROM unnest($1::uuid[], $2::integer[], $3::text[], $4::jsonb[], $5::text[], $6::smallint[], $7::float8[])
        AS ended (id, attempt, status, result, error, failures, delay)
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
    let (mut failures, mut delays) = (Vec::with_capacity(n), Vec::with_capacity(n));
    for (lease, outcome) in ended {
        let (status, result, error, failure, delay) = match outcome {
            Outcome::Succeeded(result) => (JobStatus::Succeeded, result.as_ref(), None, 0_i16, Duration::ZERO),
            Outcome::Failed(error) => (JobStatus::Failed, None, Some(error.as_str()), 1, Duration::ZERO),
            Outcome::Retry { error, delay } => (JobStatus::Queued, None, Some(error.as_str()), 1, *delay),
            Outcome::Snooze(delay) => (JobStatus::Queued, None, None, 0, *delay),
        };
        ids.push(lease.id);
        attempts.push(lease.attempt);
        statuses.push(status.as_str());
        results.push(result.map(Json));
        errors.push(error);
        failures.push(failure);
        delays.push(delay.as_secs_f64());
    }
    sqlx::query(FINISH)
        .bind(ids)
        .bind(attempts)
        .bind(statuses)
        .bind(results)
        .bind(errors)
        .bind(failures)
        .bind(delays)
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
        ORDER BY lease_until LIMIT 1000 FOR UPDATE SKIP LOCKED
    ))
    RETURNING id, kind, queue, status";

/// Gives jobs whose lease ran out back to their queue, or fails those that did so too often.
///
/// # Errors
/// [`Error::Unavailable`] when the database is away.
pub async fn rescue(connection: &mut PgConnection) -> Result<Vec<Rescued>> {
    Ok(sqlx::query_as(RESCUE).bind(MAX_CRASHES).bind(LEASE.as_secs_f64()).fetch_all(connection).await?)
}

/// One job of a workspace.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn get(connection: &mut PgConnection, workspace_id: Uuid, id: Uuid) -> Result<Job> {
    Ok(sqlx::query_as("SELECT * FROM jobs WHERE id = $1 AND workspace_id = $2")
        .bind(id)
        .bind(workspace_id)
        .fetch_one(connection)
        .await?)
}

/// Ends a job that has not ended yet; one that has is returned as it is. A worker that has it loses
/// its lease and stops at its next step, whose transaction is thrown away.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn cancel(connection: &mut PgConnection, workspace_id: Uuid, id: Uuid) -> Result<Job> {
    let cancelled = sqlx::query_as(
        "UPDATE jobs SET status = 'cancelled', attempt = attempt + 1, lease_until = NULL, finished_at = now()
         WHERE id = $1 AND workspace_id = $2 AND finished_at IS NULL RETURNING *",
    )
    .bind(id)
    .bind(workspace_id)
    .fetch_optional(&mut *connection)
    .await?;
    match cancelled {
        Some(job) => Ok(job),
        None => get(connection, workspace_id, id).await,
    }
}

/// Queues a failed or cancelled job again; it goes on where its last committed step ended. One that
/// has not ended is returned as it is, so a caller who lost the answer can ask again.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Conflict`] for a job that succeeded, or when another job does the
/// same work by now.
pub async fn retry(connection: &mut PgConnection, workspace_id: Uuid, id: Uuid) -> Result<(Job, &'static str)> {
    let queued = sqlx::query_as(
        "UPDATE jobs SET status = 'queued', failures = 0, crashes = 0, error = NULL, finished_at = NULL, run_at = now()
         WHERE id = $1 AND workspace_id = $2 AND status IN ('failed', 'cancelled') RETURNING *",
    )
    .bind(id)
    .bind(workspace_id)
    .fetch_optional(&mut *connection)
    .await?;
    let job: Job = match queued {
        Some(job) => job,
        None => get(connection, workspace_id, id).await?,
    };
    if job.status == JobStatus::Succeeded {
        return Err(Error::Conflict("a job that succeeded is not run again".into()));
    }
    let queue = KINDS.iter().find(|(kind, _)| *kind == job.kind).map_or("", |(_, queue)| queue);
    Ok((job, queue))
}

/// Deletes up to `limit` jobs that ended at least `keep` ago, oldest first, with all that hangs on
/// them, and returns how many there were.
///
/// # Errors
/// [`Error::Unavailable`] when the database is away.
pub async fn prune(connection: &mut PgConnection, keep: Duration, limit: i64) -> Result<u64> {
    // Ids rise with time, so the primary key leads to the old jobs without an index of its own.
    let made_before = Utc::now() - chrono::Duration::from_std(keep).unwrap_or(chrono::Duration::MAX);
    let seconds = u64::try_from(made_before.timestamp()).unwrap_or(0);
    let first_kept = Uuid::new_v7(uuid::Timestamp::from_unix_time(seconds, 0, 0, 0));
    let pruned = sqlx::query(
        "DELETE FROM jobs WHERE id = ANY (ARRAY(
             SELECT id FROM jobs WHERE id < $1 AND finished_at < now() - make_interval(secs => $2)
             ORDER BY id LIMIT $3 FOR UPDATE SKIP LOCKED
         ))",
    )
    .bind(first_kept)
    .bind(keep.as_secs_f64())
    .bind(limit)
    .execute(connection)
    .await?;
    Ok(pruned.rows_affected())
}

/// How much waits in a queue and how much is held, for operators.
#[derive(Debug, FromRow)]
pub struct Depth {
    /// The queue.
    pub queue: String,
    /// Jobs that wait for a worker or for their time.
    pub queued: i64,
    /// Jobs held by workers.
    pub running: i64,
    /// For how many seconds the longest waiting due job has been due.
    pub oldest_due_s: f64,
}

/// Counts what is unfinished, queue by queue.
///
/// # Errors
/// [`Error::Unavailable`] when the database is away.
pub async fn depths(connection: &mut PgConnection) -> Result<Vec<Depth>> {
    Ok(sqlx::query_as(
        "SELECT queue, count(*) FILTER (WHERE status = 'queued') AS queued, count(*) FILTER (WHERE status = 'running') AS running,
             coalesce(greatest(extract(epoch FROM now() - min(run_at) FILTER (WHERE status = 'queued')), 0), 0)::float8 AS oldest_due_s
         FROM (SELECT queue, status, run_at FROM jobs WHERE status = 'queued'
               UNION ALL
               SELECT queue, status, run_at FROM jobs WHERE lease_until IS NOT NULL) AS unfinished
         GROUP BY queue",
    )
    .fetch_all(connection)
    .await?)
}

/// A payload as JSON text is what [`Claimed`] carries; this is how the worker reads it.
///
/// # Errors
/// [`Error::Internal`] for a payload of another version of the program.
pub fn payload<P: Payload>(claimed: &Claimed) -> Result<P> {
    Ok(serde_json::from_str(claimed.payload.0.get())?)
}

/// Waits double with each failure, from one second to five minutes, and are spread by a half up and
/// down, so that jobs that failed together do not come back together.
pub fn backoff(failures: i16) -> Duration {
    let seconds = f64::from(1_u32 << failures.clamp(0, 9)).min(300.0);
    Duration::from_secs_f64(seconds * rand::random_range(0.5..1.5))
}
