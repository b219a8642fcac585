//! A job, as the API shows it, and what a kind of job declares.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sqlx::FromRow;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::query::Item;
use crate::string_enum;
use crate::values::etag::Tagged;

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
    /// Whether it writes emails, unless it is a dry run. It then waits while email is on hold.
    const WRITES_EMAIL: bool = false;
    /// Whether it writes records, so that events report what it wrote.
    const WRITES_RECORDS: bool = false;
    /// Whether a caller can confirm the number of emails that it may write.
    const CONFIRMABLE: bool = false;
    /// The schema of its result.
    type Result: ToSchema;

    /// Whether one job of the kind at a time works in a workspace. A later one, with other parameters, begins when
    /// those before it have ended. Dry runs, which write nothing, do not wait.
    const TAKES_TURNS: bool = false;

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

/// The columns of [`Job`], in a literal.
macro_rules! columns {
    () => {
        "id, kind, status, progress_done, progress_total, result, error, yielded, retries, run_at, \
            created_at, started_at, finished_at, subject_type, subject_id"
    };
}

pub(super) use columns;

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

impl Item for Job {}

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
