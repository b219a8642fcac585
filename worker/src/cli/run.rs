//! `crm-worker run`: begins a run of a workspace for a scheduler outside, and waits for its end.

use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use shared::Error;
use shared::accounts::settings;
use shared::accounts::workspaces;
use shared::platform::config::Settings;
use shared::platform::db::{self, Pool, PoolConnection, Transaction};
use shared::queue::{self, Job, JobStatus};
use shared::schedule::nightly::Nightly;
use shared::schedule::scheduled_runs;
use shared::workflows::feedback_reminders::RemindFeedback;
use shared::workflows::followups::ProcessFollowups;
use shared::workflows::nurture::NurtureLeads;
use uuid::Uuid;

/// How often the job is looked at.
const POLL: Duration = Duration::from_millis(500);
/// The run failed, or was cancelled.
const FAILED: u8 = 1;
/// The arguments are wrong; also the code of those that cannot be read at all.
const WRONG: u8 = 2;
/// The time to wait is over; the run goes on.
const NOT_IN_TIME: u8 = 3;

/// Begins a run that workers then do, and prints its job as JSON.
///
/// A nightly run takes place once for each local date of the workspace: asked for again, and also
/// after the schedule has begun it, it is the same job. One that failed is tried again. Of the
/// other runs one is under way at a time.
///
/// Exit codes: 0 it was begun, or with --wait it succeeded; 1 it failed, or could not be begun; 2 wrong
/// arguments; 3 with --timeout-s, it goes on.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    run: Run,
    /// The workspace.
    #[arg(long, value_name = "NAME_OR_ID")]
    workspace: String,
    /// Wait for the end of it.
    #[arg(long)]
    wait: bool,
    /// Wait no longer than this.
    #[arg(long, value_name = "SECONDS", requires = "wait")]
    timeout_s: Option<u64>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Run {
    Nightly,
    NurtureLeads,
    ProcessFollowups,
    RemindFeedback,
}

impl Arguments {
    pub(super) async fn run(self, settings: &Settings) -> Result<ExitCode> {
        let pool = db::pool(&settings.database, "crm-worker run").map_err(sentence)?;
        let workspace = workspaces::get(&mut *connection(&pool).await?, &self.workspace).await;
        let workspace_id = match workspace {
            Ok(workspace) => workspace.id,
            Err(Error::NotFound) => {
                eprintln!("crm-worker: there is no workspace {:?}", self.workspace);
                return Ok(ExitCode::from(WRONG));
            }
            Err(error) => return Err(sentence(error)),
        };
        let mut job = self.run.begin(&pool, workspace_id).await.map_err(sentence)?;
        if !self.wait {
            tell(&job)?;
            return Ok(ExitCode::SUCCESS);
        }
        let patience = self.timeout_s.map_or(Duration::MAX, Duration::from_secs);
        // Out of time: the job is told as it was seen last.
        tokio::time::timeout(patience, until_ended(&pool, workspace_id, &mut job)).await.unwrap_or(Ok(()))?;
        tell(&job)?;
        Ok(ExitCode::from(match job.status {
            JobStatus::Succeeded => 0,
            JobStatus::Failed | JobStatus::Cancelled => FAILED,
            JobStatus::Queued | JobStatus::Running => NOT_IN_TIME,
        }))
    }
}

impl Run {
    async fn begin(self, pool: &Pool, workspace_id: Uuid) -> shared::Result<Job> {
        let mut step = Transaction::begin(pool).await?;
        let dry_run = false;
        let job = match self {
            Self::Nightly => nightly(&mut step, workspace_id).await,
            Self::NurtureLeads => queue::start_run(&mut step, workspace_id, None, &NurtureLeads { dry_run }).await,
            Self::RemindFeedback => queue::start_run(&mut step, workspace_id, None, &RemindFeedback { dry_run }).await,
            Self::ProcessFollowups => {
                queue::start_run(&mut step, workspace_id, None, &ProcessFollowups { dry_run }).await
            }
        }?;
        // No notification: this process may end before it is sent, and workers poll each second.
        step.commit().await?;
        Ok(job)
    }
}

/// Tonight's run: the one of the workspace's present date.
async fn nightly(connection: &mut sqlx::PgConnection, workspace_id: Uuid) -> shared::Result<Job> {
    let settings = settings::get(connection, workspace_id).await?;
    let today = scheduled_runs::today(db::database_now(connection).await?, settings.time_zone.get());
    match scheduled_runs::begin(connection, workspace_id, today, &Nightly { date: today }).await? {
        (job, _) if matches!(job.status, JobStatus::Failed | JobStatus::Cancelled) => {
            queue::retry(connection, workspace_id, job.id).await
        }
        (job, _) => Ok(job),
    }
}

/// Waits for the end of a job. A database that is away meanwhile is waited for.
async fn until_ended(pool: &Pool, workspace_id: Uuid, job: &mut Job) -> Result<()> {
    while !job.status.is_finished() {
        tokio::time::sleep(POLL).await;
        let found = async { queue::get(&mut *pool.acquire().await?, workspace_id, job.id).await };
        match found.await {
            Ok(found) => *job = found,
            Err(Error::Unavailable(error)) => tracing::debug!(%error, "the job cannot be looked at"),
            Err(error) => return Err(sentence(error)),
        }
    }
    Ok(())
}

/// Prints the job. Who stopped reading does not want to know, and the run goes on.
fn tell(job: &Job) -> Result<()> {
    let json = serde_json::to_string(job).context("the job cannot be written as JSON")?;
    match writeln!(io::stdout(), "{json}") {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).context("the job cannot be printed"),
        _ => Ok(()),
    }
}

async fn connection(pool: &Pool) -> Result<PoolConnection> {
    pool.acquire().await.map_err(sentence)
}

fn sentence(error: Error) -> anyhow::Error {
    match error {
        Error::Unavailable(error) => anyhow::anyhow!("the database cannot be reached: {error}"),
        other => other.into(),
    }
}
