//! The command line: the server, migrations, workspaces and API keys.

mod config;
mod doctor;
mod keys;
mod mail;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use chrono::{DateTime, Utc};
use clap::{Parser, Subcommand};
use shared::Error;
use shared::accounts::workspaces::{self, OwnLimit, Workspace};
use shared::accounts::{api_keys, sessions};
use shared::mail::senders;
use shared::platform::backfill::Progress;
use shared::platform::config::Settings;
use shared::platform::db;
use shared::platform::listen::{self, AdminPort};
use shared::platform::telemetry;
use sqlx::{Connection, PgConnection};
use tokio::signal::unix::{SignalKind, signal};
use uuid::Uuid;

use self::config::ConfigCommand;
use self::doctor::DoctorCommand;
use self::keys::KeyCommand;
use self::mail::MailCommand;
use crate::http::server;
use crate::{AppState, openapi};

/// The CRM's HTTP API and its administration commands.
#[derive(Debug, Parser)]
#[command(name = "crm-api", version)]
pub struct Cli {
    /// A settings file, applied over the built-in settings; also CRM_CONFIG.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the API (the default command).
    Serve,
    /// Bring the database up to this version; safe to interrupt, and to run repeatedly and concurrently.
    Migrate,
    Doctor(DoctorCommand),
    /// Check or show the settings of both programs; needs no database.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print the OpenAPI 3.1 document; needs no database.
    Openapi,
    /// Manage workspaces; each has its own records.
    #[command(subcommand)]
    Workspaces(WorkspaceCommand),
    /// Manage API keys; each gives access to one workspace.
    #[command(subcommand)]
    Keys(KeyCommand),
    /// Print a link that signs in to the console once, within 10 minutes, with what a key may do.
    SignInLink {
        /// The key.
        #[arg(value_name = "KEY_ID")]
        key_id: Uuid,
    },
    /// Hold and release email, after a restore for example.
    #[command(subcommand)]
    Mail(MailCommand),
}

#[derive(Debug, Subcommand)]
enum WorkspaceCommand {
    /// Create a workspace and print its id.
    Create {
        /// A unique name.
        name: String,
    },
    /// List all workspaces.
    List,
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
    /// List the domains that only this workspace may send from.
    Senders {
        /// The workspace.
        #[arg(value_name = "NAME_OR_ID")]
        workspace: String,
    },
}

impl Cli {
    /// Runs the command. The error is one sentence for the operator.
    ///
    /// # Errors
    /// Invalid settings, an unavailable database, or a name that is taken or unknown.
    pub async fn run(self) -> Result<ExitCode> {
        let settings = || Settings::load(self.config.as_deref());
        match self.command.unwrap_or(Command::Serve) {
            Command::Serve => run_server(settings()?).await,
            Command::Openapi => {
                print!("{}", openapi::pretty()?);
                Ok(())
            }
            Command::Migrate => migrate(&settings()?).await,
            Command::Doctor(command) => command.run(self.config.as_deref()).await,
            Command::Config(command) => return command.run(self.config.as_deref()),
            Command::Workspaces(command) => command.run(&mut connect(&settings()?).await?).await,
            Command::Keys(command) => command.run(&mut connect(&settings()?).await?).await,
            Command::SignInLink { key_id } => {
                let settings = settings()?;
                print_link(&mut connect(&settings).await?, &settings, key_id).await
            }
            Command::Mail(command) => {
                let settings = settings()?;
                command.run(&mut connect(&settings).await?, &settings).await
            }
        }?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Prints a link to the console.
async fn print_link(connection: &mut PgConnection, settings: &Settings, key_id: Uuid) -> Result<()> {
    let made = async {
        let workspace_id = api_keys::workspace_of(&mut *connection, key_id).await?;
        let mut transaction = connection.begin().await?;
        let link = sessions::link(&mut transaction, workspace_id, key_id).await?;
        transaction.commit().await?;
        Ok(link)
    };
    let link = made.await.map_err(|error| match error {
        Error::NotFound => anyhow!("there is no valid key with this id; `crm-api keys list` shows them"),
        error => sentence(error),
    })?;
    println!("{}/console/sign-in?link={}", settings.public_url, link.reveal());
    Ok(())
}

/// Brings the database up to this version, and prints the progress of long backfills.
async fn migrate(settings: &Settings) -> Result<()> {
    const EVERY: Duration = Duration::from_secs(2);
    let mut printed = Instant::now();
    let report = |progress: &Progress| {
        if printed.elapsed() >= EVERY {
            printed = Instant::now();
            eprintln!("{progress}");
        }
    };
    shared::migrate::run(&settings.database, report).await.map_err(sentence)
}

async fn run_server(settings: Settings) -> Result<()> {
    let _logging = telemetry::start(&settings.log)?;
    let address = settings.api.listen;
    // The descriptor limit bounds `api.max_connections`.
    if let Err(error) = rlimit::increase_nofile_limit(u64::MAX) {
        tracing::warn!(%error, "the file descriptor limit could not be raised");
    }
    let bind_timeout = Duration::from_secs(settings.api.bind_timeout_s);
    let bound = listen::within(bind_timeout, address).await;
    let listener = bound.map_err(|error| anyhow!("cannot listen on {address}: {error}"))?;
    let admin = AdminPort::At(settings.api_admin());
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let shutdown = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    server::serve(AppState::new(settings).map_err(sentence)?, listener, admin, shutdown).await
}

async fn connect(settings: &Settings) -> Result<PgConnection> {
    let connected = PgConnection::connect(&settings.database.url).await;
    let mut connection = connected.map_err(|error| sentence(Error::while_connecting(error)))?;
    if !db::pending_migrations(&mut connection).await.map_err(sentence)?.is_empty() {
        bail!("the database schema is out of date; run crm-api migrate first");
    }
    Ok(connection)
}

impl WorkspaceCommand {
    async fn run(self, connection: &mut PgConnection) -> Result<()> {
        match self {
            Self::Create { name } => {
                let workspace = workspaces::create(connection, &name).await.map_err(|error| match error {
                    Error::Conflict(_) => anyhow!("the workspace {name:?} already exists"),
                    error => sentence(error),
                })?;
                println!("{}", workspace.id);
            }
            Self::List => {
                let listed = workspaces::list(connection).await.map_err(sentence)?;
                for Workspace { id, name, created_at, suspended_at } in listed {
                    let suspended = if suspended_at.is_some() { "  suspended" } else { "" };
                    println!("{id}  {}  {name}{suspended}", day(created_at));
                }
            }
            Self::AllowSender { workspace, domain } => {
                let workspace = find_workspace(connection, &workspace).await?;
                println!("{}", senders::allow(connection, workspace.id, &domain).await.map_err(sentence)?);
            }
            Self::RemoveSender { workspace, domain } => {
                let workspace = find_workspace(connection, &workspace).await?;
                let removed =
                    senders::remove(connection, workspace.id, &domain).await.map_err(|error| match error {
                        Error::NotFound => {
                            anyhow!("the workspace {:?} is not allowed to send from {domain}", workspace.name)
                        }
                        error => sentence(error),
                    })?;
                println!("{removed}");
            }
            Self::Limit { workspace, per_minute, burst, default } => {
                let workspace = find_workspace(connection, &workspace).await?;
                if default {
                    let none = OwnLimit::default();
                    workspaces::set_own_limit(connection, workspace.id, none).await.map_err(sentence)?;
                } else if per_minute.is_some() || burst.is_some() {
                    let before = workspaces::own_limit(connection, workspace.id).await.map_err(sentence)?;
                    let (per_minute, burst) = (per_minute.or(before.per_minute), burst.or(before.burst));
                    let limit = OwnLimit { per_minute, burst };
                    workspaces::set_own_limit(connection, workspace.id, limit).await.map_err(sentence)?;
                }
                println!("{}", limit_of(connection, &workspace).await?);
            }
            Self::Senders { workspace } => {
                let workspace = find_workspace(connection, &workspace).await?;
                for domain in senders::list(connection, workspace.id).await.map_err(sentence)? {
                    println!("{domain}");
                }
            }
        }
        Ok(())
    }
}

async fn limit_of(connection: &mut PgConnection, workspace: &Workspace) -> Result<String> {
    let OwnLimit { per_minute, burst } = workspaces::own_limit(connection, workspace.id).await.map_err(sentence)?;
    let show = |number: Option<i32>| number.map_or_else(|| "default".to_owned(), |number| number.to_string());
    Ok(match per_minute {
        Some(0) => "no limit".to_owned(),
        _ => format!("requests per minute: {}, burst: {}", show(per_minute), show(burst)),
    })
}

async fn find_workspace(connection: &mut PgConnection, id_or_name: &str) -> Result<Workspace> {
    workspaces::get(connection, id_or_name).await.map_err(|error| match error {
        Error::NotFound => anyhow!("there is no workspace {id_or_name:?}"),
        error => sentence(error),
    })
}

fn day(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%d").to_string()
}

/// One sentence for the operator, without internals.
fn sentence(error: Error) -> anyhow::Error {
    match error {
        Error::Unavailable(cause) => anyhow!("the database cannot be reached: {cause}"),
        Error::Invalid(faults) => {
            let faults: Vec<String> = faults.iter().map(|fault| format!("{} {}", fault.field, fault.message)).collect();
            anyhow!("{}", faults.join(", "))
        }
        error => anyhow!("{error}"),
    }
}
