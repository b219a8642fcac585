//! `crm-worker run`: starts a run of a workspace for an external scheduler, and can wait for its
//! end.

use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use shared::Error;
use shared::accounts::workspaces;
use shared::platform::config::Settings;
use shared::platform::db::{self, Pool, PoolConnection, Transaction};
use shared::queue::{self, Job, JobStatus};
use shared::schedule::nightly;
use shared::workflows::brake::Start;
use shared::workflows::feedback_reminders::RemindFeedback;
use shared::workflows::followups::ProcessFollowups;
use shared::workflows::nurture::NurtureLeads;
use uuid::Uuid;

const POLL: Duration = Duration::from_millis(500);
/// The run failed or was cancelled.
const FAILED: u8 = 1;
/// The arguments are invalid. clap exits with the same code.
const WRONG: u8 = 2;
/// The timeout has passed while the run continues.
const NOT_IN_TIME: u8 = 3;

/// Start a run, which workers execute, and print its job as JSON.
///
/// A nightly run takes place once for each local date of the workspace: starting it again, also
/// after the schedule has started it, returns the same job, and retries it if it failed. Of each
/// other run, only one is in progress at a time. nurture_leads sends to enrolled leads, and enrols
/// nobody.
///
/// Exit codes: 0 the run was started, or with --wait it succeeded; 1 the run failed or could not be
/// started; 2 the arguments are invalid; 3 the run continues after --timeout-s.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    run: Run,
    /// The workspace.
    #[arg(long, value_name = "NAME_OR_ID")]
    workspace: String,
    /// Wait until the run ends.
    #[arg(long)]
    wait: bool,
    /// The longest time to wait.
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
            print(&job)?;
            return Ok(ExitCode::SUCCESS);
        }
        let patience = self.timeout_s.map_or(Duration::MAX, Duration::from_secs);
        // After the timeout, the job is printed as last read.
        tokio::time::timeout(patience, until_ended(&pool, workspace_id, &mut job)).await.unwrap_or(Ok(()))?;
        print(&job)?;
        Ok(ExitCode::from(match job.status {
            JobStatus::Succeeded => 0,
            JobStatus::Failed | JobStatus::Cancelled => FAILED,
            JobStatus::Queued | JobStatus::Running => NOT_IN_TIME,
        }))
    }
}

impl Run {
    async fn begin(self, pool: &Pool, workspace_id: Uuid) -> shared::Result<Job> {
        let mut transaction = Transaction::begin(pool).await?;
        let (dry_run, start) = (false, Start::default());
        let job = match self {
            Self::Nightly => nightly::run_today(&mut transaction, workspace_id, None).await,
            Self::NurtureLeads => {
                queue::start_run(&mut transaction, workspace_id, None, &NurtureLeads::enrolled()).await
            }
            Self::RemindFeedback => {
                queue::start_run(&mut transaction, workspace_id, None, &RemindFeedback { dry_run, start }).await
            }
            Self::ProcessFollowups => {
                queue::start_run(&mut transaction, workspace_id, None, &ProcessFollowups { dry_run, start }).await
            }
        }?;
        // Workers are not notified, because this process may end before that. They poll every second.
        transaction.commit().await?;
        Ok(job)
    }
}

/// Waits until the job ends, and while the database is unavailable.
async fn until_ended(pool: &Pool, workspace_id: Uuid, job: &mut Job) -> Result<()> {
    while !job.status.is_finished() {
        tokio::time::sleep(POLL).await;
        let found = async { queue::get(&mut *pool.acquire().await?, workspace_id, job.id).await };
        match found.await {
            Ok(found) => *job = found,
            Err(Error::Unavailable(error)) => tracing::debug!(%error, "cannot read the job"),
            Err(error) => return Err(sentence(error)),
        }
    }
    Ok(())
}

/// Prints the job. A reader that closed the pipe is not an error, since the run continues.
fn print(job: &Job) -> Result<()> {
    let json = serde_json::to_string(job).context("cannot write the job as JSON")?;
    match writeln!(io::stdout(), "{json}") {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).context("cannot print the job"),
        _ => Ok(()),
    }
}

async fn connection(pool: &Pool) -> Result<PoolConnection> {
    pool.acquire().await.map_err(sentence)
}

fn sentence(error: Error) -> anyhow::Error {
    match error {
        Error::Unavailable(error) => anyhow::anyhow!("the database cannot be reached: {error}"),
        Error::Conflict(conflict) => anyhow::anyhow!("{}", conflict.error.message),
        other => other.into(),
    }
}
