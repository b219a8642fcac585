//! `crm-api queues` and `crm-api kinds`

use anyhow::Result;
use clap::{Args, Subcommand};
use shared::operations::command::{Command, Paused};
use shared::operations::queues::{self, Load};
use sqlx::PgConnection;

use super::act::act;
use super::sentence;
use super::show::{print_json, show};
use super::table::{Table, or_dash, seconds, time};

#[derive(Debug, Subcommand)]
pub(super) enum QueueCommand {
    /// List the queues: what is due, will be due and is running, the oldest due, how many jobs ended in the last
    /// minute, and when everything due is done at that rate.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Pause a queue within 2 seconds: running jobs end, and nothing new is begun.
    Pause {
        /// The queue: imports, mail, webhooks or workflows.
        queue: String,
        #[command(flatten)]
        options: PauseOptions,
    },
    /// Resume a queue.
    Resume {
        /// The queue.
        queue: String,
        /// Print the action as JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum KindCommand {
    /// List the kinds of jobs, each with what waits and runs.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Pause a kind of job within 2 seconds: running jobs end, and no new one is begun.
    Pause {
        /// The kind, as `kinds list` prints it.
        kind: String,
        #[command(flatten)]
        options: PauseOptions,
    },
    /// Resume a kind of job.
    Resume {
        /// The kind.
        kind: String,
        /// Print the action as JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub(super) struct PauseOptions {
    /// Why, for others to read.
    #[arg(long)]
    reason: Option<String>,
    /// Print the action as JSON.
    #[arg(long)]
    json: bool,
}

impl QueueCommand {
    pub(super) async fn run(self, connection: &mut PgConnection) -> Result<()> {
        match self {
            Self::List { json } => print(&queues::list(connection).await.map_err(sentence)?, json),
            Self::Pause { queue, options } => pause(connection, Paused::Queue(queue), options).await,
            Self::Resume { queue, json } => resume(connection, Paused::Queue(queue), json).await,
        }
    }
}

impl KindCommand {
    pub(super) async fn run(self, connection: &mut PgConnection) -> Result<()> {
        match self {
            Self::List { json } => print(&queues::kinds(connection).await.map_err(sentence)?, json),
            Self::Pause { kind, options } => pause(connection, Paused::Kind(kind), options).await,
            Self::Resume { kind, json } => resume(connection, Paused::Kind(kind), json).await,
        }
    }
}

/// Pauses something, and says so.
pub(super) async fn pause(connection: &mut PgConnection, paused: Paused, options: PauseOptions) -> Result<()> {
    let PauseOptions { reason, json } = options;
    let name = name(&paused);
    let action = act(connection, Command::Pause(paused, reason), json).await?;
    show(&action, json, || println!("Paused {name}."))
}

/// Resumes something, and says whether it was paused.
pub(super) async fn resume(connection: &mut PgConnection, paused: Paused, json: bool) -> Result<()> {
    let name = name(&paused);
    let action = act(connection, Command::Resume(paused), json).await?;
    if json {
        return print_json(&action);
    }
    let was_paused = action.result.as_ref().is_some_and(|result| result["was_paused"] == true);
    println!("{}", if was_paused { format!("Resumed {name}.") } else { format!("{name} was not paused.") });
    Ok(())
}

fn name(paused: &Paused) -> String {
    match paused {
        Paused::Queue(name) | Paused::Kind(name) | Paused::Workspace(name) => name.clone(),
    }
}

fn print(loads: &[Load], json: bool) -> Result<()> {
    if json {
        return print_json(&loads);
    }
    let mut table =
        Table::new(["name", "due", "future", "running", "oldest due", "per minute", "done in", "paused since"]);
    for load in loads {
        table.row([
            load.name.clone(),
            load.due.to_string(),
            or_dash(load.future),
            or_dash(load.running),
            seconds(load.oldest_due_s),
            or_dash(load.per_minute),
            seconds(load.eta_s),
            time(load.paused_since),
        ]);
    }
    table.print();
    Ok(())
}
