//! `crm-api workers`

use anyhow::Result;
use clap::Subcommand;
use serde_json::Value;
use shared::operations::command::Command;
use shared::operations::workers;
use sqlx::PgConnection;
use uuid::Uuid;

use super::act::act;
use super::sentence;
use super::show::{Show, print_json};
use super::table::{Table, fields};

#[derive(Debug, Subcommand)]
pub(super) enum WorkerCommand {
    /// List the workers: where they run, their version, what they hold, and when they were last heard from.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show a worker.
    Show(Show),
    /// Let a worker claim nothing more. It gives back what it holds; once it is drained, it can be stopped.
    Drain {
        /// The worker's id.
        id: Uuid,
        /// Print the action as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Let a worker claim again.
    Undrain {
        /// The worker's id.
        id: Uuid,
        /// Print the action as JSON.
        #[arg(long)]
        json: bool,
    },
}

impl WorkerCommand {
    pub(super) async fn run(self, connection: &mut PgConnection) -> Result<()> {
        match self {
            Self::List { json } => {
                let workers = workers::list(connection).await.map_err(sentence)?;
                if json { print_json(&workers) } else { print(&serde_json::to_value(&workers)?) }
            }
            Self::Show(options) => options.run(connection, "worker", workers::get).await,
            Self::Drain { id, json } => steer(connection, Command::Drain(id), json).await,
            Self::Undrain { id, json } => steer(connection, Command::Undrain(id), json).await,
        }
    }
}

async fn steer(connection: &mut PgConnection, command: Command, json: bool) -> Result<()> {
    let action = act(connection, command, json).await?;
    if json {
        return print_json(&action);
    }
    fields(&action.result)
}

/// Prints the fields that a line has room for.
fn print(workers: &Value) -> Result<()> {
    let mut table =
        Table::new(["id", "state", "host", "pid", "version", "queues", "jobs", "emails", "webhooks", "heartbeat"]);
    for worker in workers.as_array().into_iter().flatten() {
        let text = |name: &str| match &worker[name] {
            Value::Null => "-".to_owned(),
            Value::String(text) => text.clone(),
            Value::Array(words) => words.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(","),
            value => value.to_string(),
        };
        table.row(
            ["id", "state", "host", "pid", "version", "queues", "jobs", "emails", "webhook_queues", "heartbeat_at"]
                .map(text),
        );
    }
    table.print();
    Ok(())
}
