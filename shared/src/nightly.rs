//! The nightly run of a workspace: the runs it begins, and how they ended.

use chrono::NaiveDate;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use crate::error::Result;
use crate::jobs::{Job, JobStatus, Payload};
use crate::{feedback, followups, health, nurture, themes};

/// The nightly run of a workspace.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Nightly {
    /// The local date it is for.
    pub date: NaiveDate,
}

impl Payload for Nightly {
    const KIND: &'static str = "nightly";
    const QUEUE: &'static str = "workflows";
}

/// What became of a night so far; the job's result.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Night {
    /// The local date it is for.
    pub date: NaiveDate,
    /// The runs it began, in their order.
    pub runs: Vec<Run>,
    /// Rows that nothing needs any more, deleted.
    pub cleaned: u64,
    /// Whether all of it has ended, well or not. A night that is tried again begins anew what failed.
    pub ended: bool,
}

/// A run that a night began, or found under way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, FromRow)]
pub struct Run {
    /// Its job.
    pub job_id: Uuid,
    /// What it does.
    pub kind: String,
    /// Where it stands.
    pub status: JobStatus,
    /// What it did.
    pub result: Option<Value>,
    /// Why it failed.
    pub error: Option<String>,
}

impl From<Job> for Run {
    fn from(job: Job) -> Self {
        Self { job_id: job.id, kind: job.kind, status: job.status, result: job.result, error: job.error }
    }
}

impl Night {
    /// The night that a job stands for, as far as it has come.
    pub fn of(job: &Job, date: NaiveDate) -> Self {
        let standing = job.result.clone().and_then(|result| serde_json::from_value(result).ok());
        standing.unwrap_or(Self { date, runs: Vec::new(), cleaned: 0, ended: false })
    }

    /// How many runs have ended.
    pub fn done(&self) -> usize {
        self.runs.iter().filter(|run| run.status.is_finished()).count()
    }

    /// The kinds of runs that did not succeed.
    pub fn failed(&self) -> Vec<&str> {
        let failed = |run: &&Run| run.status.is_finished() && run.status != JobStatus::Succeeded;
        self.runs.iter().filter(failed).map(|run| run.kind.as_str()).collect()
    }

    /// Begins the runs of the night that were not begun, and those that failed if it is tried again.
    /// One that is under way already is taken as it is.
    ///
    /// # Errors
    /// [`Error::Unavailable`](crate::Error::Unavailable) when the database is away.
    pub async fn begin(
        &mut self,
        connection: &mut PgConnection,
        workspace_id: Uuid,
        request_id: Option<&str>,
    ) -> Result<()> {
        if self.ended {
            self.runs.retain(|run| run.status == JobStatus::Succeeded);
            self.ended = false;
        }
        let begun = |kind: &str| self.runs.iter().any(|run| run.kind == kind);
        let mut new = Vec::new();
        if !begun(nurture::NurtureLeads::KIND) {
            new.push(nurture::start(connection, workspace_id, request_id, false).await?);
        }
        if !begun(followups::ProcessFollowups::KIND) {
            new.push(followups::start(connection, workspace_id, request_id, false).await?);
        }
        if !begun(feedback::RemindFeedback::KIND) {
            new.push(feedback::start_reminders(connection, workspace_id, request_id, false).await?);
        }
        if !begun(health::SnapshotHealth::KIND) {
            new.push(health::start(connection, workspace_id, request_id, false).await?);
        }
        if !begun(themes::FindThemes::KIND) {
            new.push(themes::start(connection, workspace_id, request_id, false).await?);
        }
        self.runs.extend(new.into_iter().map(Run::from));
        Ok(())
    }

    /// Looks how the runs stand now.
    ///
    /// # Errors
    /// [`Error::Unavailable`](crate::Error::Unavailable) when the database is away.
    pub async fn look(&mut self, connection: &mut PgConnection, workspace_id: Uuid) -> Result<()> {
        let ids: Vec<Uuid> = self.runs.iter().map(|run| run.job_id).collect();
        let standing: Vec<Run> = sqlx::query_as(
            "SELECT id AS job_id, kind, status, result, error FROM jobs WHERE workspace_id = $1 AND id = ANY ($2)",
        )
        .bind(workspace_id)
        .bind(ids)
        .fetch_all(connection)
        .await?;
        for run in &mut self.runs {
            if let Some(now) = standing.iter().find(|now| now.job_id == run.job_id) {
                run.clone_from(now);
            }
        }
        Ok(())
    }
}

/// Deletes up to `limit` rows of a workspace that nothing needs any more: the steps of leads that
/// are gone and cannot be restored, and slots of former years. Returns how many there were.
///
/// # Errors
/// [`Error::Unavailable`](crate::Error::Unavailable) when the database is away.
pub async fn clean_up(connection: &mut PgConnection, workspace_id: Uuid, limit: i64) -> Result<u64> {
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
    .bind(limit)
    .execute(&mut *connection)
    .await?;
    let slots = sqlx::query("DELETE FROM slots WHERE workspace_id = $1 AND date < current_date - 400")
        .bind(workspace_id)
        .execute(connection)
        .await?;
    Ok(steps.rows_affected() + slots.rows_affected())
}
