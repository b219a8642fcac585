//! `crm-api schedules`

use anyhow::Result;
use clap::Subcommand;
use shared::operations::schedules::{self, OperatorSchedule};
use sqlx::PgConnection;

use super::options;
use super::show::{Show, show};
use super::table::{Table, time};

#[derive(Debug, Subcommand)]
pub(super) enum ScheduleCommand {
    /// List the schedules of all workspaces, each with its next and its last run.
    List {
        /// Only schedules of this workspace.
        #[arg(long, value_name = "NAME_OR_ID")]
        workspace: Option<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show a schedule, with its last ten runs.
    Show(Show),
}

impl ScheduleCommand {
    pub(super) async fn run(self, connection: &mut PgConnection) -> Result<()> {
        match self {
            Self::List { workspace, json } => {
                let schedules = schedules::list(connection, workspace.as_deref()).await.map_err(options)?;
                show(&schedules, json, || print(&schedules))
            }
            Self::Show(options) => options.run(connection, "schedule", schedules::show).await,
        }
    }
}

fn print(schedules: &[OperatorSchedule]) {
    let mut table = Table::new(["id", "workspace", "kind", "status", "next run", "last run", "ended as"]);
    for OperatorSchedule { workspace, schedule, last_runs, .. } in schedules {
        let last = last_runs.first();
        table.row([
            schedule.id.to_string(),
            workspace.clone(),
            schedule.kind.clone(),
            schedule.status.as_str().to_owned(),
            time(schedule.next_runs.first().copied()),
            time(last.map(|run| run.created_at)),
            last.and_then(|run| run.status).map_or("-", |status| status.as_str()).to_owned(),
        ]);
    }
    table.print();
}
