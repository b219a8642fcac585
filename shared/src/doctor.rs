//! What is wrong with the database and with stored data, for `crm-api doctor`.
//!
//! Each check has a transaction of its own, which only reads, and a time limit. A check that fails or takes
//! too long is reported, and the others run nevertheless.

mod distribution;
mod duplicates;
mod server;
mod stored;

use std::time::Duration;

use serde::Serialize;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::time::timeout;

use crate::error::{Error, Result};
use crate::platform::config::Settings;
use crate::platform::db::{self, Pool};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Nothing is wrong.
    Ok,
    /// It works, and is probably not wanted.
    Warning,
    /// It does not work, or endangers data.
    Fault,
}

impl Level {
    /// The word for the level.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Fault => "fault",
        }
    }
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The name of the check.
    pub check: &'static str,
    /// How bad it is.
    pub level: Level,
    /// What was found: one sentence.
    pub message: String,
    /// What to do: one sentence. `None` if nothing is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// The single records that the finding is about.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<String>,
}

impl Finding {
    /// Nothing is wrong.
    pub fn ok(check: &'static str, message: impl Into<String>) -> Self {
        Self { check, level: Level::Ok, message: message.into(), action: None, details: Vec::new() }
    }

    /// It works, and is probably not wanted.
    pub fn warning(check: &'static str, message: impl Into<String>, action: impl Into<String>) -> Self {
        Self { level: Level::Warning, action: Some(action.into()), ..Self::ok(check, message) }
    }

    /// It does not work, or endangers data.
    pub fn fault(check: &'static str, message: impl Into<String>, action: impl Into<String>) -> Self {
        Self { level: Level::Fault, action: Some(action.into()), ..Self::ok(check, message) }
    }

    /// Adds the records that the finding is about.
    #[must_use]
    pub fn with_details(self, details: Vec<String>) -> Self {
        Self { details, ..self }
    }
}

/// The name of the check of the connection itself.
const CONNECTION: &str = "database";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Check {
    Version,
    Server,
    Role,
    Session,
    Clock,
    Size,
    Schema,
    Distribution,
    Connections,
    Workers,
    Hold,
    Secrets,
    Duplicates,
}

/// In this order. Those after the schema need all tables.
const CHECKS: [Check; 13] = [
    Check::Version,
    Check::Server,
    Check::Role,
    Check::Session,
    Check::Clock,
    Check::Size,
    Check::Schema,
    Check::Distribution,
    Check::Connections,
    Check::Workers,
    Check::Hold,
    Check::Secrets,
    Check::Duplicates,
];

impl Check {
    fn name(self) -> &'static str {
        match self {
            Self::Version => "database.version",
            Self::Server => "database.settings",
            Self::Role => "database.role",
            Self::Session => "database.session",
            Self::Connections => "database.connections",
            Self::Clock => "clock",
            Self::Workers => "workers",
            Self::Size => "database.size",
            Self::Schema => "schema",
            Self::Distribution => "database.nodes",
            Self::Hold => "mail.hold",
            Self::Secrets => "webhooks.secrets",
            Self::Duplicates => "records.emails",
        }
    }

    async fn run(self, connection: &mut PgConnection, settings: &Settings) -> Result<Vec<Finding>> {
        match self {
            Self::Version => server::version(connection).await,
            Self::Server => server::settings(connection).await,
            Self::Role => server::role(connection).await,
            Self::Session => server::session(connection, &settings.database).await,
            Self::Connections => server::connections(connection, settings).await,
            Self::Clock => server::clock(connection).await,
            Self::Size => server::size(connection).await,
            Self::Schema => stored::schema(connection).await,
            Self::Distribution => distribution::check(connection).await,
            Self::Workers => stored::workers(connection).await,
            Self::Hold => stored::hold(connection, settings.own_url()).await,
            Self::Secrets => stored::secrets(connection, &settings.webhooks).await,
            Self::Duplicates => stored::duplicates(connection).await,
        }
    }
}

/// Examines the database. Each check, and each attempt to connect, takes at most `limit`.
pub async fn examine(settings: &Settings, limit: Duration) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Err(reason) = examine_all(settings, limit, &mut findings).await {
        findings.push(no_database(&reason));
    }
    findings
}

/// # Errors
/// Why the database cannot be reached, or can no longer.
async fn examine_all(settings: &Settings, limit: Duration, findings: &mut Vec<Finding>) -> Result<(), String> {
    let pool = db::pool(&settings.database, "crm-api doctor").map_err(|error| error.to_string())?;
    let mut connection = connect(&pool, limit).await?;
    findings.push(Finding::ok(CONNECTION, "The database answers."));
    for check in CHECKS {
        let failed = match timeout(limit, run(check, &mut connection, settings, limit)).await {
            Ok(Ok(found)) => {
                findings.extend(found);
                None
            }
            Ok(Err(error)) => Some(not_finished(check, &error.to_string())),
            Err(_) => Some(too_slow(check, limit)),
        };
        if let Some(failed) = failed {
            findings.push(failed);
            // An answer may be pending on the old one.
            connection = connect(&pool, limit).await?;
        }
        let is_fault = findings.last().is_some_and(|last| last.level == Level::Fault);
        if check == Check::Schema && is_fault {
            break;
        }
    }
    Ok(())
}

async fn connect(pool: &Pool, limit: Duration) -> Result<PgConnection, String> {
    match timeout(limit, pool.connect()).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(Error::Unavailable(cause))) => Err(cause.to_string()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} s", limit.as_secs())),
    }
}

/// Runs a check in a transaction, so that a pooler does not keep its time limit for others.
async fn run(check: Check, open: &mut PgConnection, settings: &Settings, limit: Duration) -> Result<Vec<Finding>> {
    // What does not depend on a transaction is read outside of one.
    if check == Check::Session {
        return check.run(open, settings).await;
    }
    let mut transaction = open.begin().await?;
    let milliseconds = limit.as_millis();
    let limited = format!("SET TRANSACTION READ ONLY; SET LOCAL statement_timeout = {milliseconds}");
    sqlx::raw_sql(AssertSqlSafe(limited)).execute(&mut *transaction).await?;
    let found = check.run(&mut transaction, settings).await;
    transaction.rollback().await?;
    found
}

fn no_database(reason: &str) -> Finding {
    Finding::fault(
        CONNECTION,
        format!("The database cannot be reached: {reason}. Its other checks did not run."),
        "Start PostgreSQL, or correct database.url.",
    )
}

fn not_finished(check: Check, reason: &str) -> Finding {
    Finding::warning(check.name(), format!("The check failed: {reason}."), "Run crm-api doctor again.")
}

fn too_slow(check: Check, limit: Duration) -> Finding {
    let seconds = limit.as_secs();
    Finding::warning(
        check.name(),
        format!("The check did not end within {seconds} s."),
        format!("Run crm-api doctor --timeout-s {}.", seconds.saturating_mul(20)),
    )
}
