//! Checks of the server and of what it allows the programs.

use std::time::Instant;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{FromRow, PgConnection};

use super::Finding;
use crate::error::Result;
use crate::operations::workers::{self, WorkerState};
use crate::platform::config::{Database, Settings};

/// The oldest version with all that the schema uses.
const OLDEST: i32 = 150_000;
/// From this difference on, times are corrected.
const NOTABLE: TimeDelta = TimeDelta::seconds(5);
/// From this difference on, a worker claims nothing.
const EXCESSIVE: TimeDelta = TimeDelta::seconds(60);
/// Connections of crm-api besides its pool: to cancel statements, for rate limits and for metrics.
const API_EXTRA: i64 = 3;

pub(super) async fn version(connection: &mut PgConnection) -> Result<Vec<Finding>> {
    const CHECK: &str = "database.version";
    let read = "SELECT current_setting('server_version_num')::int, current_setting('server_version')";
    let (number, name): (i32, String) = sqlx::query_as(read).fetch_one(connection).await?;
    let found = if number >= OLDEST {
        Finding::ok(CHECK, format!("PostgreSQL {name}."))
    } else {
        Finding::fault(CHECK, format!("PostgreSQL {name} is too old."), "Upgrade PostgreSQL to version 15 or later.")
    };
    Ok(vec![found])
}

#[derive(FromRow)]
struct ServerSettings {
    fsync: String,
    full_page_writes: String,
    synchronous_commit: String,
    autovacuum: String,
    encoding: String,
}

pub(super) async fn settings(connection: &mut PgConnection) -> Result<Vec<Finding>> {
    const CHECK: &str = "database.settings";
    let set: ServerSettings = sqlx::query_as(
        "SELECT current_setting('fsync') AS fsync, current_setting('full_page_writes') AS full_page_writes,
             current_setting('synchronous_commit') AS synchronous_commit, current_setting('autovacuum') AS autovacuum,
             current_setting('server_encoding') AS encoding",
    )
    .fetch_one(connection)
    .await?;
    let mut found = Vec::new();
    let mut must = |holds: bool, name: &str, consequence: &str| {
        if !holds {
            let message = format!("{name} is off: {consequence}.");
            found.push(Finding::fault(CHECK, message, format!("Turn {name} on in PostgreSQL.")));
        }
    };
    must(set.fsync == "on", "fsync", "a crash of the machine can destroy the database");
    must(set.full_page_writes == "on", "full_page_writes", "a crash of the machine can destroy the database");
    let crash = "a crash of the server loses accepted requests, and sent emails are sent again";
    must(set.synchronous_commit != "off", "synchronous_commit", crash);
    must(set.autovacuum == "on", "autovacuum", "tables grow, and queries become slow");
    if set.encoding != "UTF8" {
        let message = format!("The encoding of the database is {}.", set.encoding);
        found.push(Finding::fault(CHECK, message, "Create the database anew with ENCODING 'UTF8'."));
    }
    if found.is_empty() {
        found.push(Finding::ok(CHECK, "What is committed survives a crash."));
    }
    Ok(found)
}

#[derive(FromRow)]
struct Role {
    name: String,
    is_superuser: bool,
    may_monitor: bool,
    is_standby: bool,
    is_read_only: bool,
    lacking: Vec<String>,
}

pub(super) async fn role(connection: &mut PgConnection) -> Result<Vec<Finding>> {
    const CHECK: &str = "database.role";
    let role: Role = sqlx::query_as(
        "SELECT rolname::text AS name, rolsuper AS is_superuser,
             pg_has_role(oid, 'pg_monitor', 'USAGE') AS may_monitor, pg_is_in_recovery() AS is_standby,
             current_setting('default_transaction_read_only') = 'on' AS is_read_only,
             ARRAY(SELECT relname::text FROM pg_class
                 WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p')
                     AND NOT (has_table_privilege(pg_class.oid, 'SELECT')
                         AND (relname = '_sqlx_migrations' OR has_table_privilege(pg_class.oid, 'INSERT')
                             AND has_table_privilege(pg_class.oid, 'UPDATE')
                             AND has_table_privilege(pg_class.oid, 'DELETE')))
                 ORDER BY relname) AS lacking
         FROM pg_roles WHERE rolname = current_user",
    )
    .fetch_one(connection)
    .await?;
    let name = &role.name;
    let mut found = Vec::new();
    if role.is_standby || role.is_read_only {
        let what = if role.is_standby { "The server is a standby" } else { "default_transaction_read_only is on" };
        let message = format!("{what}: nothing can be written.");
        found.push(Finding::fault(CHECK, message, "Correct database.url, so that it names the primary."));
    }
    if !role.lacking.is_empty() {
        let message = format!("The role {name} may not read and write {} tables.", role.lacking.len());
        let action = format!("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {name};");
        found.push(Finding::fault(CHECK, message, action).with_details(role.lacking));
    }
    if role.is_superuser {
        let message = format!("The programs connect as {name}, a superuser.");
        found.push(Finding::warning(CHECK, message, "Give them a role that owns nothing but this database."));
    }
    if found.is_empty() {
        let metrics = if role.may_monitor { "" } else { "; without pg_monitor, metrics lack the replication lag" };
        found.push(Finding::ok(CHECK, format!("The role {name} may read and write all tables{metrics}.")));
    }
    Ok(found)
}

#[derive(FromRow)]
struct Session {
    statement_timeout: String,
    idle_timeout: String,
    time_zone: String,
    isolation: String,
}

/// What the programs ask for when they connect, and a pooler or a role may override.
pub(super) async fn session(connection: &mut PgConnection, database: &Database) -> Result<Vec<Finding>> {
    const CHECK: &str = "database.session";
    let session: Session = sqlx::query_as(
        "SELECT current_setting('statement_timeout') AS statement_timeout,
             current_setting('idle_in_transaction_session_timeout') AS idle_timeout,
             current_setting('TimeZone') AS time_zone,
             current_setting('default_transaction_isolation') AS isolation",
    )
    .fetch_one(connection)
    .await?;
    let wanted = [
        ("statement_timeout", &session.statement_timeout, "30s"),
        ("idle_in_transaction_session_timeout", &session.idle_timeout, "15s"),
        ("TimeZone", &session.time_zone, "UTC"),
        ("default_transaction_isolation", &session.isolation, "read committed"),
    ];
    let different = wanted.iter().filter(|(_, present, wanted)| present.as_str() != *wanted);
    let mut found: Vec<Finding> = different
        .map(|(name, present, wanted)| {
            let message = format!("{name} is {present} in the sessions of the programs, and not {wanted}.");
            let action = format!("ALTER ROLE … SET {name} = '{wanted}'; and have the pooler connect again.");
            Finding::warning(CHECK, message, action)
        })
        .collect();
    if !found.is_empty() && !database.pooler {
        let action = "Set database.pooler = true if a pooler such as PgBouncer stands before PostgreSQL.";
        found.push(Finding::warning(CHECK, "Something overrides what the programs ask for.", action));
    }
    if found.is_empty() {
        found.push(Finding::ok(CHECK, "Sessions have the time limits that the programs ask for."));
    }
    Ok(found)
}

/// Compares the connections that the server has with those that the programs may open.
pub(super) async fn connections(connection: &mut PgConnection, settings: &Settings) -> Result<Vec<Finding>> {
    const CHECK: &str = "database.connections";
    let read = "SELECT current_setting('max_connections')::bigint
                     - current_setting('superuser_reserved_connections')::bigint,
                 count(*) FILTER (WHERE backend_type = 'client backend')
             FROM pg_stat_activity";
    let (most, open): (i64, i64) = sqlx::query_as(read).fetch_one(&mut *connection).await?;
    let workers = workers::list(connection).await?;
    let here = workers.iter().filter(|worker| !matches!(worker.state, WorkerState::Lost | WorkerState::Stopped));
    let (count, workers) = (here.clone().count(), here.map(|worker| i64::from(worker.connections)).sum::<i64>());
    let api = i64::from(settings.database.max_connections) + API_EXTRA;
    let shown = format!(
        "The workers ({count}) open up to {workers} connections, and each crm-api up to {api}. The server has {most}, of \
         which {open} are open."
    );
    let action = "Raise max_connections of PostgreSQL, lower database.max_connections, or use a pooler.";
    let found = if settings.database.pooler {
        Finding::ok(CHECK, format!("{shown} A pooler shares them."))
    } else if api + workers > most {
        Finding::fault(CHECK, format!("The programs may open more connections than there are. {shown}"), action)
    } else if open * 10 > most * 9 {
        Finding::warning(CHECK, format!("Nearly all connections are open. {shown}"), action)
    } else {
        Finding::ok(CHECK, shown)
    };
    Ok(vec![found])
}

pub(super) async fn clock(connection: &mut PgConnection) -> Result<Vec<Finding>> {
    const CHECK: &str = "clock";
    let began = Instant::now();
    let there: DateTime<Utc> = sqlx::query_scalar("SELECT clock_timestamp()").fetch_one(connection).await?;
    let half = TimeDelta::from_std(began.elapsed() / 2).unwrap_or_default();
    let skew = Utc::now() - half - there;
    let seconds = skew.abs().num_milliseconds() as f64 / 1_000.0;
    let direction = if skew > TimeDelta::zero() { "ahead of" } else { "behind" };
    let message = format!("The clock of this machine is {seconds:.1} s {direction} the database's.");
    let action = "Start NTP on both machines.";
    let found = match skew.abs() {
        skew if skew >= EXCESSIVE => Finding::fault(CHECK, format!("{message} Workers here claim nothing."), action),
        skew if skew >= NOTABLE => Finding::warning(CHECK, message, action),
        _ => Finding::ok(CHECK, "The clock of this machine agrees with the database's."),
    };
    Ok(vec![found])
}

pub(super) async fn size(connection: &mut PgConnection) -> Result<Vec<Finding>> {
    const CHECK: &str = "database.size";
    let read = "SELECT pg_database_size(current_database()), has_function_privilege('pg_ls_waldir()', 'EXECUTE')";
    let (database, may_see_log): (i64, bool) = sqlx::query_as(read).fetch_one(&mut *connection).await?;
    let log: Option<i64> = if may_see_log {
        let read = "SELECT coalesce(sum(size), 0)::bigint FROM pg_ls_waldir()";
        Some(sqlx::query_scalar(read).fetch_one(connection).await?)
    } else {
        None
    };
    let log = log.map_or_else(String::new, |bytes| format!(", and {} of write-ahead log", in_units(bytes)));
    Ok(vec![Finding::ok(CHECK, format!("The database has {}{log}.", in_units(database)))])
}

/// A number of bytes as people read it.
fn in_units(bytes: i64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut number, mut unit) = (bytes as f64, 0);
    while number >= 1024.0 && unit + 1 < UNITS.len() {
        number /= 1024.0;
        unit += 1;
    }
    format!("{number:.1} {}", UNITS[unit])
}
