//! Jobs of all workspaces: found by filter, shown, retried and cancelled.

mod change;
mod find;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use super::filter::{Common, text};
use super::found::{Summary, names};
use crate::error::{Error, Result};
use crate::query::parameters::Parameters;
use crate::queue::JobStatus;
use crate::string_enum;

pub(super) use find::locate;
pub use find::{count, list};

string_enum! {
    /// What jobs can be filtered by: their status, and what it means to operators. A job that gave its slot to another
    /// workspace is `queued` here, because no worker holds it.
    JobState {
        /// Waiting for a worker or for its due time.
        Queued = "queued",
        /// Leased by a worker.
        Running = "running",
        /// It finished its work.
        Succeeded = "succeeded",
        /// It failed.
        Failed = "failed",
        /// It was cancelled.
        Cancelled = "cancelled",
        /// Queued, and its due time has come.
        Due = "due",
        /// Queued, and its due time has not come.
        Future = "future",
        /// Queued for a retry after an error.
        Waiting = "waiting",
    }
}

impl JobState {
    /// The stored status of such jobs.
    fn status(self) -> JobStatus {
        match self {
            Self::Queued | Self::Due | Self::Future | Self::Waiting => JobStatus::Queued,
            Self::Running => JobStatus::Running,
            Self::Succeeded => JobStatus::Succeeded,
            Self::Failed => JobStatus::Failed,
            Self::Cancelled => JobStatus::Cancelled,
        }
    }
}

/// What an operator does to jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobDecision {
    /// They are retried.
    Retry,
    /// They are cancelled.
    Cancel,
}

/// Which jobs.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct JobFilter {
    #[serde(flatten)]
    common: Common,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<JobState>,
    #[serde(skip_serializing_if = "Option::is_none")]
    worker: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl JobFilter {
    /// Takes the filter from parameters: `workspace`, `queue`, `kind`, `status`, `worker`, `error` (a part of it),
    /// `created_after`, `created_before` and `older_than`.
    pub fn take(given: &mut Parameters<'_>) -> Self {
        Self {
            common: Common::take(given),
            queue: given.take_as("queue", text),
            kind: given.take_as("kind", text),
            status: given.take("status"),
            worker: given.take("worker"),
            error: given.take_as("error", text),
        }
    }

    /// Whether all jobs match.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A job, as operators see it.
#[derive(Debug, Clone, FromRow, Serialize)]
pub struct JobSummary {
    /// The job's id.
    pub id: Uuid,
    /// Its workspace.
    pub workspace_id: Uuid,
    /// The name of its workspace.
    #[sqlx(default)]
    pub workspace: String,
    /// Its queue.
    pub queue: String,
    /// Its kind.
    pub kind: String,
    /// Its status.
    pub status: JobStatus,
    /// When it is due, while it is queued. A job that waits for an earlier one of its schedule is due in the year 9999.
    pub due_at: Option<DateTime<Utc>>,
    /// The number of its present or last attempt, as callers see it.
    pub attempt: i32,
    /// How often its process died since its last committed step.
    pub crashes: i16,
    /// Why it or its last attempt failed.
    pub error: Option<String>,
    /// The worker that holds it, or that held it last.
    pub worker_id: Option<Uuid>,
    /// The request that started it.
    pub request_id: Option<String>,
    /// When it was accepted.
    pub created_at: DateTime<Utc>,
    /// When a worker first started it.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
}

/// The columns of [`JobSummary`].
macro_rules! summary {
    () => {
        "id, workspace_id, queue, kind, status, CASE WHEN status = 'queued' THEN run_at END AS due_at,
         CASE WHEN started_at IS NULL THEN 0 ELSE retries + 1 END AS attempt, crashes, error, worker_id, request_id,
         created_at, started_at, finished_at"
    };
}

impl Summary for JobSummary {
    const SELECT: &'static str = concat!("SELECT ", summary!(), " FROM jobs WHERE workspace_id = $1 AND id = ANY ($2)");

    fn id(&self) -> Uuid {
        self.id
    }

    fn of(self, workspace: String) -> Self {
        Self { workspace, ..self }
    }
}

/// A job with everything that operators need, but without its parameters and the records in its result.
#[derive(Debug, Clone, FromRow, Serialize)]
pub struct JobDetails {
    /// What lists show.
    #[sqlx(flatten)]
    #[serde(flatten)]
    pub summary: JobSummary,
    /// Until when its worker holds it, unless it renews the lease.
    pub lease_until: Option<DateTime<Utc>>,
    /// Units of work done.
    pub progress_done: i64,
    /// Units of work in all, if known.
    pub progress_total: Option<i64>,
    /// The kind of record that it is about.
    pub subject_type: Option<String>,
    /// That record's id.
    pub subject_id: Option<Uuid>,
    /// Only one unfinished job of its workspace has this key.
    pub dedupe_key: Option<String>,
    /// The result: complete once it succeeded, and the work done so far until then.
    pub result: Option<Value>,
}

/// Returns a job of any workspace.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn show(connection: &mut PgConnection, id: Uuid) -> Result<JobDetails> {
    let (workspace_id, _) = locate(connection, &[id]).await?.first().copied().ok_or(Error::NotFound)?;
    let select = concat!(
        "SELECT ",
        summary!(),
        ", lease_until, progress_done, progress_total, subject_type, subject_id, dedupe_key,
             CASE WHEN result -> 'preview' IS NULL THEN result ELSE (result::jsonb - 'preview')::json END AS result
         FROM jobs WHERE workspace_id = $1 AND id = $2"
    );
    let mut job: JobDetails = sqlx::query_as(select).bind(workspace_id).bind(id).fetch_one(&mut *connection).await?;
    job.summary.workspace = names(connection).await?.remove(&workspace_id).unwrap_or_default();
    Ok(job)
}
