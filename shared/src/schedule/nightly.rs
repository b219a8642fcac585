//! The nightly run of a workspace, which starts other jobs and reports how they ended.

use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::{FromRow, PgConnection};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::error::Result;
use crate::insight::health::SnapshotHealth;
use crate::insight::themes::{self, FindThemes};
use crate::queue::{self, Job, JobStatus, Page, Pages, Payload};
use crate::workflows::feedback_reminders::RemindFeedback;
use crate::workflows::followups::ProcessFollowups;
use crate::workflows::nurture::NurtureLeads;

/// How many rows one page of cleaning up deletes.
const CLEANED_PAGE: i64 = 10_000;

/// The nightly run of a workspace.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Nightly {
    /// The local date of the run.
    pub date: NaiveDate,
}

impl Payload for Nightly {
    const KIND: &'static str = "nightly";
    const QUEUE: &'static str = "workflows";

    type Result = Night;
}

/// The job that deletes obsolete rows of a workspace.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CleanUp {}

impl Payload for CleanUp {
    const KIND: &'static str = "clean_up";
    const QUEUE: &'static str = "workflows";

    type Result = Cleaned;
}

/// The result of a [`CleanUp`] job so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = CleanUpResult)]
pub struct Cleaned {
    /// Rows deleted.
    pub deleted: u64,
}

/// The kinds of the jobs of a nightly run, in the order in which they start.
const PARTS: [&str; 6] = [
    NurtureLeads::KIND,
    ProcessFollowups::KIND,
    RemindFeedback::KIND,
    SnapshotHealth::KIND,
    FindThemes::KIND,
    CleanUp::KIND,
];

/// The result of a nightly run so far.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = NightlyResult)]
pub struct Night {
    /// The local date of the run.
    pub date: NaiveDate,
    /// The jobs that it started, in their order.
    pub runs: Vec<Run>,
    /// The number of obsolete rows deleted.
    pub cleaned: u64,
    /// Whether all jobs have finished, successfully or not. A retry starts the failed ones again.
    pub ended: bool,
}

/// A job that a nightly run started, or found already running.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, FromRow, ToSchema)]
#[schema(as = NightlyPart)]
pub struct Run {
    /// The id of the job.
    pub job_id: Uuid,
    /// The kind of the job.
    pub kind: String,
    /// The status of the job.
    pub status: JobStatus,
    /// The result of the job.
    #[schema(value_type = Option<Object>)]
    pub result: Option<Value>,
    /// Why the job failed, or why it waits for a retry.
    pub error: Option<String>,
    /// When the job is retried, if it waits after an error.
    #[serde(default)]
    pub retry_at: Option<DateTime<Utc>>,
}

impl From<Job> for Run {
    fn from(job: Job) -> Self {
        let Job { id, kind, status, result, error, retry_at, .. } = job;
        Self { job_id: id, kind, status, result, error, retry_at }
    }
}

impl Night {
    /// The nightly run of a job, as far as its result records it.
    pub fn of(job: &Job, date: NaiveDate) -> Self {
        let existing = job.result.clone().and_then(|result| serde_json::from_value(result).ok());
        let mut night = existing.unwrap_or(Self { date, runs: Vec::new(), cleaned: 0, ended: false });
        if night.ended {
            // A retry.
            night.runs.retain(|run| run.status == JobStatus::Succeeded);
            night.ended = false;
        }
        night
    }

    /// The number of finished jobs.
    pub fn done(&self) -> usize {
        self.runs.iter().filter(|run| run.status.is_finished()).count()
    }

    /// The number of jobs.
    pub fn total(&self) -> usize {
        self.runs.len().max(PARTS.len())
    }

    /// The kinds of the jobs that finished without success.
    pub fn failed(&self) -> Vec<&str> {
        let failed = |run: &&Run| run.status.is_finished() && run.status != JobStatus::Succeeded;
        self.runs.iter().filter(failed).map(|run| run.kind.as_str()).collect()
    }

    /// The kinds of the jobs that were not started yet.
    pub fn missing(&self) -> Vec<&'static str> {
        PARTS.into_iter().filter(|kind| !self.runs.iter().any(|run| run.kind == *kind)).collect()
    }

    /// Starts the job of this kind, or adopts one that is already running.
    pub async fn begin(
        &mut self,
        connection: &mut PgConnection,
        workspace_id: Uuid,
        request_id: Option<&str>,
        kind: &str,
    ) -> Result<()> {
        let dry_run = false;
        let job = match kind {
            NurtureLeads::KIND => {
                queue::start_run(connection, workspace_id, request_id, &NurtureLeads::enrolled()).await
            }
            ProcessFollowups::KIND => {
                queue::start_run(connection, workspace_id, request_id, &ProcessFollowups { dry_run }).await
            }
            RemindFeedback::KIND => {
                queue::start_run(connection, workspace_id, request_id, &RemindFeedback { dry_run }).await
            }
            SnapshotHealth::KIND => {
                queue::start_run(connection, workspace_id, request_id, &SnapshotHealth { dry_run }).await
            }
            FindThemes::KIND => themes::start(connection, workspace_id, request_id, dry_run).await,
            _ => queue::start_run(connection, workspace_id, request_id, &CleanUp {}).await,
        }?;
        self.runs.push(job.into());
        let order = |run: &Run| PARTS.iter().position(|kind| *kind == run.kind);
        self.runs.sort_by_key(order);
        Ok(())
    }

    /// Updates the runs to the present state of their jobs.
    pub async fn look(&mut self, connection: &mut PgConnection, workspace_id: Uuid) -> Result<()> {
        let ids: Vec<Uuid> = self.runs.iter().map(|run| run.job_id).collect();
        let existing: Vec<Run> = sqlx::query_as(
            "SELECT id AS job_id, kind, CASE WHEN yielded AND status = 'queued' THEN 'running' ELSE status END AS status,
                 result, error, CASE WHEN status = 'queued' AND NOT yielded AND error IS NOT NULL THEN run_at END AS retry_at
             FROM jobs WHERE workspace_id = $1 AND id = ANY ($2)",
        )
        .bind(workspace_id)
        .bind(ids)
        .fetch_all(connection)
        .await?;
        for run in &mut self.runs {
            if let Some(now) = existing.iter().find(|now| now.job_id == run.job_id) {
                run.clone_from(now);
            }
        }
        let cleaned = self.runs.iter().find(|run| run.kind == CleanUp::KIND).and_then(|run| run.result.clone());
        if let Some(Cleaned { deleted }) = cleaned.and_then(|result| serde_json::from_value(result).ok()) {
            self.cleaned = deleted;
        }
        Ok(())
    }
}

impl Pages for CleanUp {
    /// The rows that are left are where it resumes.
    type Cursor = ();
    type Tally = Cleaned;

    fn begin(&self) -> Cleaned {
        Cleaned::default()
    }

    fn done(&self, cleaned: &Cleaned) -> i64 {
        i64::try_from(cleaned.deleted).unwrap_or(i64::MAX)
    }

    async fn page(&self, page: &mut Page<'_>, _: Option<()>, cleaned: &mut Cleaned) -> Result<Option<()>> {
        let deleted = clean_up(page.connection, page.job.workspace_id).await?;
        cleaned.deleted += deleted;
        Ok((deleted > 0).then_some(()))
    }
}

/// Deletes a page of obsolete rows of a workspace: nurture steps of deleted leads that can no longer be
/// restored, and scheduled runs older than 400 days. Returns the number of deleted rows.
async fn clean_up(connection: &mut PgConnection, workspace_id: Uuid) -> Result<u64> {
    let steps = sqlx::query(
        "DELETE FROM nurture_steps WHERE ctid = ANY (ARRAY(
             SELECT taken.ctid FROM nurture_steps AS taken
             WHERE workspace_id = $1
                 AND NOT EXISTS (SELECT FROM leads WHERE leads.workspace_id = $1 AND leads.id = taken.lead_id)
                 AND NOT EXISTS (SELECT FROM history WHERE history.workspace_id = $1 AND history.record_id = taken.lead_id)
             LIMIT $2
         ))",
    )
    .bind(workspace_id)
    .bind(CLEANED_PAGE)
    .execute(&mut *connection)
    .await?;
    let runs = sqlx::query("DELETE FROM scheduled_runs WHERE workspace_id = $1 AND date < current_date - 400")
        .bind(workspace_id)
        .execute(connection)
        .await?;
    Ok(steps.rows_affected() + runs.rows_affected())
}
