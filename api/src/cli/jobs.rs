//! `crm-api jobs`

use anyhow::{Result, anyhow};
use clap::{Args, Subcommand};
use serde_json::json;
use shared::Error;
use shared::operations::command::Command;
use shared::operations::jobs::{self, JobDecision, JobFilter};
use shared::operations::selection;
use sqlx::PgConnection;
use uuid::Uuid;

use super::act::{Chosen, act, options, pairs, print_action, print_json, show};
use super::sentence;
use super::table::{Table, fields, or_dash, short, time};

#[derive(Debug, Subcommand)]
pub(super) enum JobCommand {
    /// List jobs of all workspaces, the newest first.
    List {
        #[command(flatten)]
        which: Which,
        /// How many to list at most, up to 1000.
        #[arg(long, value_name = "N", default_value = "50")]
        limit: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show a job.
    Show {
        /// The job's id.
        id: Uuid,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Count jobs.
    Count {
        #[command(flatten)]
        which: Which,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Retry jobs that failed, were cancelled or wait for a retry; each resumes after its last committed step.
    Retry {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        chosen: Chosen,
    },
    /// Cancel jobs that have not ended; what their steps committed is kept.
    Cancel {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        chosen: Chosen,
    },
}

/// The options that select jobs.
#[derive(Debug, Args)]
pub(super) struct Which {
    /// Only jobs of this workspace.
    #[arg(long, value_name = "NAME_OR_ID")]
    workspace: Option<String>,
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
    /// Only jobs that were created at this time or later.
    #[arg(long, value_name = "DATE_OR_TIMESTAMP")]
    created_after: Option<String>,
    /// Only jobs that were created before this time.
    #[arg(long, value_name = "DATE_OR_TIMESTAMP")]
    created_before: Option<String>,
    /// Only jobs that were created longer ago than this: 90s, 15m, 2h or 7d.
    #[arg(long, value_name = "AGE")]
    older_than: Option<String>,
}

impl Which {
    fn pairs(self) -> Vec<(String, String)> {
        let Self { workspace, queue, kind, status, worker, error, created_after, created_before, older_than } = self;
        pairs([
            ("workspace", workspace),
            ("queue", queue),
            ("kind", kind),
            ("status", status),
            ("worker", worker),
            ("error", error),
            ("created_after", created_after),
            ("created_before", created_before),
            ("older_than", older_than),
        ])
    }
}

impl JobCommand {
    pub(super) async fn run(self, connection: &mut PgConnection) -> Result<()> {
        match self {
            Self::List { which, limit, json } => {
                let mut pairs = which.pairs();
                pairs.push(("limit".to_owned(), limit));
                let (filter, limit) = selection::list::<JobFilter>(&pairs).map_err(options)?;
                let jobs = jobs::list(connection, &filter, limit).await.map_err(options)?;
                show(&jobs, json, || print(&jobs))
            }
            Self::Show { id, json } => {
                let job = jobs::show(connection, id).await.map_err(|error| match error {
                    Error::NotFound => anyhow!("there is no job {id}"),
                    error => sentence(error),
                })?;
                if json { print_json(&job) } else { fields(&job) }
            }
            Self::Count { which, json } => {
                let filter = selection::count::<JobFilter>(&which.pairs()).map_err(options)?;
                let count = jobs::count(connection, &filter).await.map_err(options)?;
                show(&json!({ "count": count }), json, || println!("{count}"))
            }
            Self::Retry { which, chosen } => {
                let command = Command::Jobs(JobDecision::Retry, chosen.selection(which.pairs())?);
                print_action(&act(connection, command, chosen.json).await?, "retried", chosen.json)
            }
            Self::Cancel { which, chosen } => {
                let command = Command::Jobs(JobDecision::Cancel, chosen.selection(which.pairs())?);
                print_action(&act(connection, command, chosen.json).await?, "cancelled", chosen.json)
            }
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
