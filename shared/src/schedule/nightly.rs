//! The nightly run of a workspace, which starts other jobs and reports how they ended.

use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::{FromRow, PgConnection};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::accounts::nightly::KIND;
use crate::error::{Error, Reason, Result};
use crate::insight::health::SnapshotHealth;
use crate::insight::themes::{self, FindThemes};
use crate::platform::db;
use crate::queue::{self, Job, JobStatus, NewJob, Page, Pages, Payload};
use crate::schedule::model::lock_nightly;
use crate::schedule::runs::{self, Key, Of};
use crate::workflows::brake::Start;
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
    const KIND: &'static str = KIND;
    const QUEUE: &'static str = "workflows";
    const WRITES_EMAIL: bool = true;

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
        let (dry_run, start) = (false, Start::default());
        let job = match kind {
            NurtureLeads::KIND => {
                queue::start_run(connection, workspace_id, request_id, &NurtureLeads::enrolled()).await
            }
            ProcessFollowups::KIND => {
                queue::start_run(connection, workspace_id, request_id, &ProcessFollowups { dry_run, start }).await
            }
            RemindFeedback::KIND => {
                queue::start_run(connection, workspace_id, request_id, &RemindFeedback { dry_run, start }).await
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

/// Starts the nightly run of the workspace's present date, or returns its job, which is retried if it failed or was
/// cancelled. Needs a transaction.
///
/// # Errors
/// [`Error::Conflict`] if the run of the date has no job any more, or was set aside.
pub async fn run_today(connection: &mut PgConnection, workspace_id: Uuid, request_id: Option<&str>) -> Result<Job> {
    let schedule = lock_nightly(connection, workspace_id).await?;
    let now = db::database_now(connection).await?;
    let date = now.with_timezone(&schedule.timing.zone).date_naive();
    let (of, key) = (Of { workspace_id, schedule_id: schedule.id, now }, Key { slot: None, date: Some(date) });
    let Some(run_id) = runs::record(connection, of, key, None).await? else {
        return resume(connection, workspace_id, schedule.id, date).await;
    };
    let job = NewJob::new(workspace_id, &Nightly { date })?.request_id(request_id);
    let job = queue::enqueue(connection, job).await?;
    runs::record_start(connection, workspace_id, run_id, Ok(job.id)).await?;
    sqlx::query(
        "UPDATE schedules SET last_date = greatest(last_date, $3), due_at = now() WHERE workspace_id = $1 AND id = $2",
    )
    .bind(workspace_id)
    .bind(schedule.id)
    .bind(date)
    .execute(connection)
    .await?;
    Ok(job)
}

/// Returns the job of a date's run, which is retried if it failed or was cancelled.
async fn resume(connection: &mut PgConnection, workspace_id: Uuid, schedule_id: Uuid, date: NaiveDate) -> Result<Job> {
    let job_id: Option<Uuid> = sqlx::query_scalar(
        "SELECT job_id FROM scheduled_runs WHERE workspace_id = $1 AND schedule_id = $2 AND date = $3",
    )
    .bind(workspace_id)
    .bind(schedule_id)
    .bind(date)
    .fetch_one(&mut *connection)
    .await?;
    let gone = || {
        Error::conflict(Reason::AlreadyRun, "date", format!("the run of {date} was set aside, or its job was deleted"))
    };
    let job = match job_id {
        Some(id) => queue::get(connection, workspace_id, id).await,
        None => return Err(gone()),
    };
    match job {
        Ok(job) if matches!(job.status, JobStatus::Failed | JobStatus::Cancelled) => {
            queue::retry(connection, workspace_id, job.id).await
        }
        Err(Error::NotFound) => Err(gone()),
        job => job,
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
/// restored, and runs of schedules that are kept no longer. Returns the number of deleted rows.
async fn clean_up(connection: &mut PgConnection, workspace_id: Uuid) -> Result<u64> {
    let steps = sqlx::query(
        "DELETE FROM nurture_steps WHERE workspace_id = $1 AND ctid = ANY (ARRAY(
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
    let runs = sqlx::query(
        "DELETE FROM scheduled_runs WHERE workspace_id = $1 AND id = ANY (ARRAY(
             SELECT id FROM scheduled_runs
             WHERE workspace_id = $1 AND created_at < now() - make_interval(days => $2)
                 AND (date IS NULL OR created_at < now() - make_interval(days => $3))
             ORDER BY id LIMIT $4
         ))",
    )
    .bind(workspace_id)
    .bind(runs::KEPT_DAYS)
    .bind(runs::NIGHTS_KEPT_DAYS)
    .bind(CLEANED_PAGE)
    .execute(connection)
    .await?;
    Ok(steps.rows_affected() + runs.rows_affected())
}
