//! The command line: the server, migrations, workspaces and API keys.

mod act;
mod audit;
mod cells;
mod config;
mod doctor;
mod emails;
mod jobs;
mod keys;
mod mail;
mod operators;
mod queues;
mod schedules;
mod select;
mod show;
mod table;
mod workers;
mod workspaces;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use chrono::{DateTime, Utc};
use clap::{Parser, Subcommand};
use serde_json::json;
use shared::Error;
use shared::accounts::workspaces::{self as all_workspaces, Workspace};
use shared::accounts::{api_keys, sessions};
use shared::migrate::Progress;
use shared::platform::config::Settings;
use shared::platform::db;
use shared::platform::listen::{self, AdminPort};
use shared::platform::telemetry;
use sqlx::{Connection, PgConnection};
use tokio::signal::unix::{SignalKind, signal};
use uuid::Uuid;

pub use self::act::Unchanged;
use self::audit::AuditArguments;
use self::config::ConfigCommand;
use self::doctor::DoctorCommand;
use self::emails::EmailCommand;
use self::jobs::JobCommand;
use self::keys::KeyCommand;
use self::mail::MailCommand;
use self::operators::OperatorCommand;
use self::queues::{KindCommand, QueueCommand};
use self::schedules::ScheduleCommand;
use self::workers::WorkerCommand;
use self::workspaces::WorkspaceCommand;
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
    /// List, count, retry and cancel jobs of all workspaces.
    #[command(subcommand)]
    Jobs(JobCommand),
    /// List, count, resend, mark as sent and cancel emails of all workspaces.
    #[command(subcommand)]
    Emails(EmailCommand),
    /// List, pause and resume queues.
    #[command(subcommand)]
    Queues(QueueCommand),
    /// List, pause and resume kinds of jobs.
    #[command(subcommand)]
    Kinds(KindCommand),
    /// List and drain workers.
    #[command(subcommand)]
    Workers(WorkerCommand),
    /// List schedules of all workspaces, with their next and last runs.
    #[command(subcommand)]
    Schedules(ScheduleCommand),
    /// Manage operators; each has a key of the operator API on the admin port.
    #[command(subcommand)]
    Operators(OperatorCommand),
    /// List what operators did or, with --workspace, what happened in a workspace; the newest first.
    Audit(AuditArguments),
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
            Command::Workspaces(command) => command.run(&mut connect(&settings()?.database.url).await?).await,
            Command::Keys(command) => command.run(&mut connect(&settings()?.database.url).await?).await,
            Command::SignInLink { key_id } => {
                let settings = settings()?;
                print_link(&mut connect(&settings.database.url).await?, &settings, key_id).await
            }
            Command::Mail(command) => {
                let settings = settings()?;
                command.run(&mut connect(&settings.database.url).await?, &settings).await
            }
            Command::Jobs(command) => command.run(&mut connect(&settings()?.database.url).await?).await,
            Command::Emails(command) => command.run(&mut connect(&settings()?.database.url).await?).await,
            Command::Queues(command) => command.run(&mut connect(&settings()?.database.url).await?).await,
            Command::Kinds(command) => command.run(&mut connect(&settings()?.database.url).await?).await,
            Command::Workers(command) => command.run(&mut connect(&settings()?.database.url).await?).await,
            Command::Schedules(command) => command.run(&mut connect(&settings()?.database.url).await?).await,
            Command::Operators(command) => command.run(&mut connect(&settings()?.database.url).await?).await,
            Command::Audit(arguments) => arguments.run(&mut connect(&settings()?.database.url).await?).await,
        }?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Prints a link to the console.
async fn print_link(connection: &mut PgConnection, settings: &Settings, key_id: Uuid) -> Result<()> {
    let create = async |connection: &mut PgConnection, _| {
        let workspace_id = api_keys::workspace_of(&mut *connection, key_id).await?;
        let mut transaction = connection.begin().await?;
        let link = sessions::link(&mut transaction, workspace_id, key_id).await?;
        transaction.commit().await?;
        Ok(link)
    };
    let link = act::audited(connection, "sign_in_links.create", json!({ "key_id": key_id }), create).await;
    let missing = "there is no valid key with this id; `crm-api keys list` shows them";
    let link = link.map_err(or_missing(missing.to_owned()))?;
    println!("{}/console/sign-in?link={}", settings.public_url, link.reveal());
    Ok(())
}

/// Brings the database up to this version, and prints the progress of long distributions and backfills.
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
    let telemetry = telemetry::start("crm-api", &settings)?;
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
    let served = server::serve(AppState::new(settings).map_err(sentence)?, listener, admin, shutdown).await;
    telemetry.end().await;
    served
}

async fn connect(url: &str) -> Result<PgConnection> {
    let connected = PgConnection::connect(url).await;
    let mut connection = connected.map_err(|error| sentence(Error::while_connecting(error)))?;
    if !db::pending_migrations(&mut connection).await.map_err(sentence)?.is_empty() {
        bail!("the database schema is out of date; run crm-api migrate first");
    }
    Ok(connection)
}

async fn find_workspace(connection: &mut PgConnection, id_or_name: &str) -> Result<Workspace> {
    let found = all_workspaces::get(connection, id_or_name).await;
    found.map_err(or_missing(format!("there is no workspace {id_or_name:?}")))
}

fn day(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%d").to_string()
}

/// One sentence for the operator: this one about something that does not exist, or that of another error.
fn or_missing(missing: String) -> impl FnOnce(Error) -> anyhow::Error {
    |error| match error {
        Error::NotFound => anyhow!(missing),
        error => sentence(error),
    }
}

/// One sentence about invalid options, by the names that they have on the command line.
fn options(error: Error) -> anyhow::Error {
    let Error::Invalid(faults) = error else { return sentence(error) };
    let faults = faults.into_iter().map(|fault| format!("--{} {}", fault.field.replace('_', "-"), fault.message));
    anyhow!("{}", faults.collect::<Vec<_>>().join(", "))
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
