//! `crm-api workspaces`

use anyhow::{Result, anyhow};
use clap::Subcommand;
use serde_json::json;
use shared::Error;
use shared::accounts::workspaces::{self, OwnLimit, Workspace};
use shared::mail::senders;
use shared::operations::command::{Command, Paused};
use shared::operations::moving::{self, Progress, Refusal};
use shared::operations::workspaces::{self as loads, WorkspaceLoad};
use sqlx::PgConnection;

use super::act::{act, audited};
use super::queues::PauseOptions;
use super::show::{print_json, show, show_fields};
use super::table::{Table, seconds};
use super::{connect, day, find_workspace, or_missing, queues, sentence};

#[derive(Debug, Subcommand)]
pub(super) enum WorkspaceCommand {
    /// Create a workspace and print its id.
    Create {
        /// A unique name.
        name: String,
    },
    /// List all workspaces, those with most work first.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show a workspace, and what waits in it.
    Show {
        /// The workspace.
        #[arg(value_name = "NAME_OR_ID")]
        workspace: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Suspend a workspace: its keys get 403, and its jobs, schedules, emails and webhooks wait.
    Suspend {
        /// The workspace.
        #[arg(value_name = "NAME_OR_ID")]
        workspace: String,
        /// Print the action as JSON.
        #[arg(long)]
        json: bool,
    },
    /// End the suspension of a workspace.
    Unsuspend {
        /// The workspace.
        #[arg(value_name = "NAME_OR_ID")]
        workspace: String,
        /// Print the action as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Pause the work of a workspace within 2 seconds: running jobs end, and nothing new is begun. Its keys work.
    Pause {
        /// The workspace.
        #[arg(value_name = "NAME_OR_ID")]
        workspace: String,
        #[command(flatten)]
        options: PauseOptions,
    },
    /// Resume the work of a workspace.
    Resume {
        /// The workspace.
        #[arg(value_name = "NAME_OR_ID")]
        workspace: String,
        /// Print the action as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Allow a workspace to send email from addresses of a domain; subdomains are not included.
    AllowSender {
        /// The workspace.
        #[arg(value_name = "NAME_OR_ID")]
        workspace: String,
        /// The domain, such as example.com.
        domain: String,
    },
    /// Stop a workspace from sending email from addresses of a domain; queued messages are sent
    /// from the operator's address.
    RemoveSender {
        /// The workspace.
        #[arg(value_name = "NAME_OR_ID")]
        workspace: String,
        /// The domain, such as example.com.
        domain: String,
    },
    /// Set the rate limit of a workspace's API keys, or show it. Without a limit of its own, a
    /// workspace has that of the settings.
    Limit {
        /// The workspace.
        #[arg(value_name = "NAME_OR_ID")]
        workspace: String,
        /// Requests per minute of each key; 0 is no limit.
        #[arg(long, value_name = "REQUESTS", value_parser = clap::value_parser!(i32).range(0..))]
        per_minute: Option<i32>,
        /// Requests that a key can send at once.
        #[arg(long, value_name = "REQUESTS", value_parser = clap::value_parser!(i32).range(1..))]
        burst: Option<i32>,
        /// Remove the workspace's own limit.
        #[arg(long, conflicts_with_all = ["per_minute", "burst"])]
        default: bool,
    },
    /// Move a suspended workspace to another cell. Stop this cell's programs before; the workspace stays suspended.
    Move {
        /// The workspace.
        #[arg(value_name = "NAME_OR_ID")]
        workspace: String,
        /// The other cell's database; its password may be in `~/.pgpass`.
        #[arg(long, value_name = "DATABASE_URL")]
        to: String,
    },
    /// List the domains that only this workspace may send from.
    Senders {
        /// The workspace.
        #[arg(value_name = "NAME_OR_ID")]
        workspace: String,
    },
}

impl WorkspaceCommand {
    pub(super) async fn run(self, connection: &mut PgConnection) -> Result<()> {
        match self {
            Self::Create { name } => create(connection, &name).await,
            Self::List { json } => {
                let loads = loads::list(connection).await.map_err(sentence)?;
                show(&loads, json, || print(&loads))
            }
            Self::Show { workspace, json } => {
                let workspace = find_workspace(connection, &workspace).await?;
                let load = loads::show(connection, &workspace.id.to_string()).await.map_err(sentence)?;
                show_fields(&load, json)
            }
            Self::Suspend { workspace, json } => suspend(connection, workspace, Command::Suspend, json).await,
            Self::Unsuspend { workspace, json } => suspend(connection, workspace, Command::Unsuspend, json).await,
            Self::Pause { workspace, options } => {
                find_workspace(connection, &workspace).await?;
                queues::pause(connection, Paused::Workspace(workspace), options).await
            }
            Self::Resume { workspace, json } => {
                find_workspace(connection, &workspace).await?;
                queues::resume(connection, Paused::Workspace(workspace), json).await
            }
            Self::AllowSender { workspace, domain } => allow_sender(connection, &workspace, &domain).await,
            Self::RemoveSender { workspace, domain } => remove_sender(connection, &workspace, &domain).await,
            Self::Limit { workspace, per_minute, burst, default } => {
                let workspace = find_workspace(connection, &workspace).await?;
                if default || per_minute.is_some() || burst.is_some() {
                    limit(connection, &workspace, per_minute, burst).await?;
                }
                println!("{}", limit_of(connection, &workspace).await?);
                Ok(())
            }
            Self::Move { workspace, to } => move_to(connection, &workspace, &to).await,
            Self::Senders { workspace } => {
                let workspace = find_workspace(connection, &workspace).await?;
                for domain in senders::list(connection, workspace.id).await.map_err(sentence)? {
                    println!("{domain}");
                }
                Ok(())
            }
        }
    }
}

async fn create(connection: &mut PgConnection, name: &str) -> Result<()> {
    let create = async |connection: &mut PgConnection, _| workspaces::create(connection, name).await;
    let created = audited(connection, "workspaces.create", json!({ "name": name }), create).await;
    let workspace = created.map_err(|error| match error {
        Error::Conflict(_) => anyhow!("the workspace {name:?} already exists"),
        error => sentence(error),
    })?;
    println!("{}", workspace.id);
    Ok(())
}

/// Suspends a workspace or ends its suspension.
async fn suspend(
    connection: &mut PgConnection,
    workspace: String,
    command: impl FnOnce(String) -> Command,
    json: bool,
) -> Result<()> {
    let found = find_workspace(connection, &workspace).await?;
    let action = act(connection, command(workspace), json).await?;
    if json {
        return print_json(&action);
    }
    let is_suspended = action.result.is_some_and(|result| !result["suspended_at"].is_null());
    let state = if is_suspended { "is suspended" } else { "is not suspended" };
    println!("{} {state}.", found.name);
    Ok(())
}

async fn allow_sender(connection: &mut PgConnection, workspace: &str, domain: &str) -> Result<()> {
    let workspace = find_workspace(connection, workspace).await?;
    let arguments = json!({ "workspace": workspace.id, "domain": domain });
    let allow = async |connection: &mut PgConnection, _| senders::allow(connection, workspace.id, domain).await;
    println!("{}", audited(connection, "workspaces.allow_sender", arguments, allow).await.map_err(sentence)?);
    Ok(())
}

async fn remove_sender(connection: &mut PgConnection, workspace: &str, domain: &str) -> Result<()> {
    let workspace = find_workspace(connection, workspace).await?;
    let arguments = json!({ "workspace": workspace.id, "domain": domain });
    let remove = async |connection: &mut PgConnection, _| senders::remove(connection, workspace.id, domain).await;
    let removed = audited(connection, "workspaces.remove_sender", arguments, remove).await;
    let missing = format!("the workspace {:?} is not allowed to send from {domain}", workspace.name);
    println!("{}", removed.map_err(or_missing(missing))?);
    Ok(())
}

/// Sets the limit of a workspace; without a number of requests or a burst, removes it.
async fn limit(
    connection: &mut PgConnection,
    workspace: &Workspace,
    per_minute: Option<i32>,
    burst: Option<i32>,
) -> Result<()> {
    let limit = match (per_minute, burst) {
        (None, None) => OwnLimit::default(),
        _ => {
            let before = workspaces::own_limit(connection, workspace.id).await.map_err(sentence)?;
            OwnLimit { per_minute: per_minute.or(before.per_minute), burst: burst.or(before.burst) }
        }
    };
    let arguments = json!({ "workspace": workspace.id, "per_minute": limit.per_minute, "burst": limit.burst });
    let set = async |connection: &mut PgConnection, _| workspaces::set_own_limit(connection, workspace.id, limit).await;
    audited(connection, "workspaces.limit", arguments, set).await.map_err(sentence)
}

async fn move_to(connection: &mut PgConnection, workspace: &str, to: &str) -> Result<()> {
    let workspace = find_workspace(connection, workspace).await?;
    let mut there = connect(to).await?;
    let report = |progress: &Progress| eprintln!("{progress}");
    let run = async |connection: &mut PgConnection, _| moving::run(connection, &mut there, workspace.id, report).await;
    let moved = audited(connection, "workspaces.move", json!({ "workspace": workspace.id }), run).await;
    let rows = moved.map_err(|refusal| match refusal {
        Refusal::Failed(error) => sentence(error),
        refusal => anyhow!("{refusal}"),
    })?;
    println!("{} and its {rows} rows are in the other cell. There, end its suspension.", workspace.name);
    Ok(())
}

fn print(loads: &[WorkspaceLoad]) {
    let mut table = Table::new(["id", "created", "due", "running", "oldest due", "emails", "unknown", "state", "name"]);
    for WorkspaceLoad { id, name, created_at, suspended_at, paused_since, waiting, .. } in loads {
        let state = match (suspended_at, paused_since) {
            (Some(at), _) => format!("suspended {}", day(*at)),
            (None, Some(at)) => format!("paused {}", day(*at)),
            (None, None) => "-".to_owned(),
        };
        table.row([
            id.to_string(),
            day(*created_at),
            waiting.due_jobs.to_string(),
            waiting.running_jobs.to_string(),
            seconds(waiting.oldest_due_s),
            waiting.waiting_emails.to_string(),
            waiting.unknown_emails.to_string(),
            state,
            name.clone(),
        ]);
    }
    table.print();
}

async fn limit_of(connection: &mut PgConnection, workspace: &Workspace) -> Result<String> {
    let OwnLimit { per_minute, burst } = workspaces::own_limit(connection, workspace.id).await.map_err(sentence)?;
    let show = |number: Option<i32>| number.map_or_else(|| "default".to_owned(), |number| number.to_string());
    Ok(match per_minute {
        Some(0) => "no limit".to_owned(),
        _ => format!("requests per minute: {}, burst: {}", show(per_minute), show(burst)),
    })
}
