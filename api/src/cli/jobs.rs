//! `crm-api jobs`

use anyhow::Result;
use clap::{Args, Subcommand};
use shared::operations::command::Command;
use shared::operations::jobs::{self, JobDecision, JobFilter};
use sqlx::PgConnection;

use super::select::{Change, Common, Count, List, Options};
use super::show::Show;
use super::table::{Table, or_dash, short, time};

#[derive(Debug, Subcommand)]
pub(super) enum JobCommand {
    /// List jobs of all workspaces, the newest first.
    List(List<Which>),
    /// Show a job.
    Show(Show),
    /// Count jobs.
    Count(Count<Which>),
    /// Retry jobs that failed, were cancelled or wait for a retry; each resumes after its last committed step.
    Retry(Change<Which>),
    /// Cancel jobs that have not ended; what their steps committed is kept.
    Cancel(Change<Which>),
}

/// The options that select jobs.
#[derive(Debug, Args)]
pub(super) struct Which {
    #[command(flatten)]
    common: Common,
    /// Only jobs of this queue.
    #[arg(long)]
    queue: Option<String>,
    /// Only jobs of this kind.
    #[arg(long)]
    kind: Option<String>,
    /// Only jobs in this state: queued, running, succeeded, failed, cancelled; of the queued ones also due, future, or
    /// waiting (for a retry).
    #[arg(long)]
    status: Option<String>,
    /// Only jobs that this worker holds, or held last.
    #[arg(long, value_name = "WORKER_ID")]
    worker: Option<String>,
    /// Only jobs whose error contains this text.
    #[arg(long, value_name = "TEXT")]
    error: Option<String>,
}

impl Options for Which {
    type Filter = JobFilter;

    fn pairs(self) -> Vec<(String, String)> {
        let Self { common, queue, kind, status, worker, error } = self;
        common.pairs([("queue", queue), ("kind", kind), ("status", status), ("worker", worker), ("error", error)])
    }
}

impl JobCommand {
    pub(super) async fn run(self, connection: &mut PgConnection) -> Result<()> {
        let deciding = |decision| move |selection| Command::Jobs(decision, selection);
        match self {
            Self::List(options) => options.run(connection, jobs::list, print).await,
            Self::Show(options) => options.run(connection, "job", jobs::show).await,
            Self::Count(options) => options.run(connection, jobs::count).await,
            Self::Retry(options) => options.run(connection, deciding(JobDecision::Retry), "retried").await,
            Self::Cancel(options) => options.run(connection, deciding(JobDecision::Cancel), "cancelled").await,
        }
    }
}

fn print(jobs: &[jobs::JobSummary]) {
    let mut table =
        Table::new(["id", "workspace", "queue", "kind", "status", "created", "due", "attempt", "worker", "error"]);
    for job in jobs {
        table.row([
            job.id.to_string(),
            job.workspace.clone(),
            job.queue.clone(),
            job.kind.clone(),
            job.status.as_str().to_owned(),
            time(Some(job.created_at)),
            time(job.due_at),
            job.attempt.to_string(),
            or_dash(job.worker_id),
            short(job.error.as_deref()),
        ]);
    }
    table.print();
}
