//! Moving a workspace to another cell: an installation with a database of its own.
//!
//! All its rows are copied in one transaction of the new database, and then deleted in one of the old database. What
//! was interrupted between the two is finished by the next run, which deletes only. The old cell's programs are
//! stopped meanwhile, so nothing is accepted there that the copy lacks.

mod tables;

use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::database;
use crate::error::Error;
use crate::platform::{db, distribute};

/// Lets a transaction write rows as they are: what triggers derive from them is copied, too, and each foreign key holds
/// because the rows of a workspace refer to each other alone.
const AS_THEY_ARE: &str = "SET LOCAL session_replication_role = 'replica'";
/// Whoever moves a workspace holds this advisory lock in both databases; the number is our own choice.
const LOCK: i64 = 0x6372_6d20_6d6f_7665;

/// More than the clocks of the programs may differ.
const CLOCKS: TimeDelta = TimeDelta::hours(1);

/// Why a workspace was not moved.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The workspace is in use.
    #[error("the workspace is not suspended")]
    NotSuspended,
    /// Programs of the old cell are connected to its database.
    #[error("programs of this cell are still connected to its database: {}", .0.join(", "))]
    Running(Vec<String>),
    /// Deleting what is there already would lose it.
    #[error("the other database is this one, or another move uses it")]
    SameDatabase,
    /// One of the databases is distributed.
    #[error("workspaces are moved between databases without Citus")]
    Distributed,
    /// The databases have not the same migrations.
    #[error("the other database has another version of the schema")]
    OtherVersion,
    /// Links and secrets of webhooks would become invalid.
    #[error("the databases have different rows in the table secrets")]
    OtherSecrets,
    /// The name is taken.
    #[error("the other database has another workspace of this name")]
    Taken,
    /// The workspace is in both databases, and this one is not what the other one was copied from.
    #[error("the workspace is in the other database, too, and was changed since it was copied")]
    InBoth,
    /// The role may not write rows as they are.
    #[error(
        "the role {0} needs this in its database: GRANT SET ON PARAMETER session_replication_role TO {0}, \
         which PostgreSQL has since version 15"
    )]
    Forbidden(String),
    /// Anything else.
    #[error(transparent)]
    Failed(#[from] Error),
}

impl From<sqlx::Error> for Refusal {
    fn from(error: sqlx::Error) -> Self {
        Self::Failed(error.into())
    }
}

type Result<T> = std::result::Result<T, Refusal>;

/// A table that is being copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress<'a> {
    /// The name of the table.
    pub name: &'a str,
    /// The number of tables that are copied already.
    pub done: usize,
    /// The number of tables.
    pub total: usize,
}

impl fmt::Display for Progress<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, done, total } = self;
        write!(f, "copying {name}: {} of {total} tables", done + 1)
    }
}

/// Moves a suspended workspace with all that belongs to it, and returns the number of its rows. It stays suspended.
///
/// # Errors
/// Why it was refused; then nothing was changed. After another error it may be in both databases: run it again.
pub async fn run(
    from: &mut PgConnection,
    to: &mut PgConnection,
    id: Uuid,
    mut report: impl FnMut(&Progress),
) -> Result<u64> {
    check(from, to).await?;
    let tables = tables::of_workspaces(from).await?;
    sqlx::query("SELECT pg_advisory_lock($1)").bind(LOCK).execute(&mut *from).await?;
    let mut leaving = from.begin().await?;
    // All statements of this transaction see what the first one sees.
    sqlx::raw_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ").execute(&mut *leaving).await?;
    write_as_they_are(&mut leaving).await?;
    let (name, suspended_at) = lock(&mut leaving, id).await?;

    let mut arriving = to.begin().await?;
    if !is_other(&mut arriving).await? {
        return Err(Refusal::SameDatabase);
    }
    write_as_they_are(&mut arriving).await?;
    if !is_copied(&mut leaving, &mut arriving, id, &name, suspended_at).await? {
        for (done, table) in tables.iter().enumerate() {
            report(&Progress { name: &table.name, done, total: tables.len() });
            table.copy(&mut leaving, &mut arriving, id).await?;
        }
    }
    arriving.commit().await?;

    let mut rows = 0;
    for table in tables.iter().rev() {
        rows += table.delete(&mut leaving, id).await?;
    }
    refuse_while_running(&mut leaving).await?;
    leaving.commit().await?;
    sqlx::query("SELECT pg_advisory_unlock($1)").bind(LOCK).execute(from).await?;
    Ok(rows)
}

/// Refuses what cannot be moved.
async fn check(from: &mut PgConnection, to: &mut PgConnection) -> Result<()> {
    if distribute::has_begun(from).await? || distribute::has_begun(to).await? {
        return Err(Refusal::Distributed);
    }
    if db::applied_versions(from).await? != db::applied_versions(to).await? {
        return Err(Refusal::OtherVersion);
    }
    if secrets(from).await? != secrets(to).await? {
        return Err(Refusal::OtherSecrets);
    }
    refuse_while_running(from).await
}

async fn secrets(connection: &mut PgConnection) -> Result<Vec<(String, Vec<u8>)>> {
    Ok(sqlx::query_as("SELECT name, value FROM secrets ORDER BY name").fetch_all(connection).await?)
}

async fn refuse_while_running(connection: &mut PgConnection) -> Result<()> {
    let programs = database::connections(connection).await?.by_program.into_iter().map(|connected| connected.program);
    let programs: Vec<String> = programs.filter(|program| program.starts_with("crm-")).collect();
    if programs.is_empty() { Ok(()) } else { Err(Refusal::Running(programs)) }
}

/// Whether a database is another one than that of the session with the lock.
async fn is_other(connection: &mut PgConnection) -> Result<bool> {
    Ok(sqlx::query_scalar("SELECT pg_try_advisory_xact_lock($1)").bind(LOCK).fetch_one(connection).await?)
}

async fn write_as_they_are(connection: &mut PgConnection) -> Result<()> {
    let Err(error) = sqlx::raw_sql(AS_THEY_ARE).execute(&mut *connection).await else { return Ok(()) };
    // 42501: insufficient_privilege.
    if error.as_database_error().and_then(|error| error.code()).as_deref() != Some("42501") {
        return Err(error.into());
    }
    let role = "SELECT quote_ident(current_user)";
    // The transaction has failed, and its connection is not used again.
    sqlx::raw_sql("ROLLBACK").execute(&mut *connection).await?;
    Err(Refusal::Forbidden(sqlx::query_scalar(role).fetch_one(connection).await?))
}

/// Keeps the suspension from being ended meanwhile; returns the workspace's name and when it was suspended.
async fn lock(connection: &mut PgConnection, id: Uuid) -> Result<(String, DateTime<Utc>)> {
    let lock = "SELECT name, suspended_at FROM workspaces WHERE id = $1 FOR UPDATE";
    let (name, suspended_at): (String, Option<DateTime<Utc>>) =
        sqlx::query_as(lock).bind(id).fetch_one(connection).await?;
    Ok((name, suspended_at.ok_or(Refusal::NotSuspended)?))
}

/// Whether an interrupted run has copied the workspace, which then is as it was.
async fn is_copied(
    leaving: &mut PgConnection,
    arriving: &mut PgConnection,
    id: Uuid,
    name: &str,
    suspended_at: DateTime<Utc>,
) -> Result<bool> {
    let existing = "SELECT id, suspended_at FROM workspaces WHERE id = $1 OR name = $2";
    let existing: Vec<(Uuid, Option<DateTime<Utc>>)> =
        sqlx::query_as(existing).bind(id).bind(name).fetch_all(&mut *arriving).await?;
    let Some((_, suspended_there)) = existing.iter().find(|(other, _)| *other == id) else {
        return if existing.is_empty() { Ok(false) } else { Err(Refusal::Taken) };
    };
    // Whatever was accepted here since, such as an unsubscribing, has its event. By the ids alone it would not be the
    // newest one: they are given by the clocks of several machines.
    let recent = "SELECT coalesce(array_agg(id), '{}') FROM audit_log WHERE workspace_id = $1 AND created_at >= $2";
    let recent: Vec<Uuid> = sqlx::query_scalar(recent).bind(id).bind(suspended_at - CLOCKS).fetch_one(leaving).await?;
    let has_them = "SELECT NOT EXISTS (
                        SELECT id FROM unnest($2::uuid[]) AS recent (id)
                        EXCEPT SELECT id FROM audit_log WHERE workspace_id = $1
                    )";
    let has_them: bool = sqlx::query_scalar(has_them).bind(id).bind(recent).fetch_one(arriving).await?;
    if *suspended_there == Some(suspended_at) && has_them { Ok(true) } else { Err(Refusal::InBoth) }
}
