//! Workspaces.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{Connection, FromRow, PgConnection};
use uuid::Uuid;

use super::nightly;
use crate::error::{Error, Reason, Result};
use crate::platform::db;
use crate::queue::STEERING;
use crate::queue::notify::notify_now;
use crate::values::{Field, Name};

/// The tenant that owns records. Workspaces are isolated from each other.
#[derive(Debug, Clone, FromRow, Serialize)]
pub struct Workspace {
    /// The id of the workspace.
    pub id: Uuid,
    /// The name, unique among all workspaces.
    pub name: String,
    /// When the workspace was created.
    pub created_at: DateTime<Utc>,
    /// Since when it is suspended.
    pub suspended_at: Option<DateTime<Utc>>,
}

macro_rules! columns {
    () => {
        "id, name, created_at, suspended_at"
    };
}

/// All workspaces, ordered by name.
pub async fn list(connection: &mut PgConnection) -> Result<Vec<Workspace>> {
    Ok(sqlx::query_as(concat!("SELECT ", columns!(), " FROM workspaces ORDER BY name")).fetch_all(connection).await?)
}

/// The ids of all workspaces, in order.
pub async fn ids(connection: &mut PgConnection) -> Result<Vec<Uuid>> {
    Ok(sqlx::query_scalar("SELECT id FROM workspaces ORDER BY id").fetch_all(connection).await?)
}

/// The workspace with this id or name.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn get(connection: &mut PgConnection, id_or_name: &str) -> Result<Workspace> {
    Ok(sqlx::query_as(concat!("SELECT ", columns!(), " FROM workspaces WHERE id = $1 OR (name = $2 AND $1 IS NULL)"))
        .bind(Uuid::try_parse(id_or_name).ok())
        .bind(id_or_name)
        .fetch_one(connection)
        .await?)
}

/// Creates a workspace, with its nightly run.
///
/// # Errors
/// [`Error::Conflict`] if the name is taken, [`Error::Invalid`] if it is invalid.
pub async fn create(connection: &mut PgConnection, name: &str) -> Result<Workspace> {
    let name = parse_name(name)?;
    if Uuid::try_parse(name.as_ref()).is_ok() {
        return Err(Error::invalid("name", "invalid", "must not look like an id"));
    }
    let created = sqlx::query_as(concat!(
        "INSERT INTO workspaces (id, name) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING RETURNING ",
        columns!()
    ));
    let mut transaction = connection.begin().await?;
    let created = created.bind(Uuid::now_v7()).bind(name).fetch_optional(&mut *transaction).await?;
    let created: Workspace =
        created.ok_or_else(|| Error::conflict(Reason::Taken, "name", "another workspace has this name"))?;
    nightly::create(&mut transaction, created.id).await?;
    transaction.commit().await?;
    Ok(created)
}

/// Suspends a workspace: its API keys and sessions get 403, and its jobs, schedules, emails and webhooks wait. People can
/// still unsubscribe and answer requests for feedback. Its running jobs return to their queues after their current
/// steps. Suspending it again changes nothing.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn suspend(connection: &mut PgConnection, id: Uuid) -> Result<Workspace> {
    let suspend =
        concat!("UPDATE workspaces SET suspended_at = coalesce(suspended_at, $2) WHERE id = $1 RETURNING ", columns!());
    let suspended = sqlx::query_as(suspend).bind(id).bind(db::now()).fetch_one(&mut *connection).await?;
    notify_now(connection, &[STEERING]).await?;
    Ok(suspended)
}

/// Ends the suspension of a workspace. What waited is due at once; a schedule makes up what its `catch_up` says.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn unsuspend(connection: &mut PgConnection, id: Uuid) -> Result<Workspace> {
    let unsuspend = concat!("UPDATE workspaces SET suspended_at = NULL WHERE id = $1 RETURNING ", columns!());
    let unsuspended = sqlx::query_as(unsuspend).bind(id).fetch_one(&mut *connection).await?;
    notify_now(connection, &[STEERING]).await?;
    Ok(unsuspended)
}

fn parse_name(name: &str) -> Result<Name> {
    Name::from_text(name.trim()).map_err(|fault| Error::Invalid(vec![fault.of("name")]))
}

/// The rate limit that an operator set for the keys of a workspace. What is not set is as in the settings of
/// the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, FromRow)]
pub struct OwnLimit {
    /// Requests per minute of each key; 0 is no limit.
    #[sqlx(rename = "rate_limit_per_minute")]
    pub per_minute: Option<i32>,
    /// Requests that a key can send at once.
    #[sqlx(rename = "rate_limit_burst")]
    pub burst: Option<i32>,
}

/// Returns the rate limit that was set for the keys of a workspace.
pub async fn own_limit(connection: &mut PgConnection, id: Uuid) -> Result<OwnLimit> {
    let select = "SELECT rate_limit_per_minute, rate_limit_burst FROM workspaces WHERE id = $1";
    Ok(sqlx::query_as(select).bind(id).fetch_one(connection).await?)
}

/// Sets the rate limit for the keys of a workspace.
pub async fn set_own_limit(connection: &mut PgConnection, id: Uuid, limit: OwnLimit) -> Result<()> {
    sqlx::query("UPDATE workspaces SET rate_limit_per_minute = $2, rate_limit_burst = $3 WHERE id = $1")
        .bind(id)
        .bind(limit.per_minute)
        .bind(limit.burst)
        .execute(connection)
        .await?;
    Ok(())
}
