//! Pauses: workers claim nothing of a paused queue, kind of job or workspace.
//!
//! Running jobs end. Workers look every second, and are notified, so a pause takes effect within two.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use crate::accounts::workspaces;
use crate::error::{Error, Result};
use crate::jobs;
use crate::platform::db;
use crate::queue::notify::notify_now;
use crate::queue::{QUEUES, STEERING};
use crate::values::{Field, Name};

/// What can be paused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A queue, `mail` and `webhooks` among them.
    Queue(String),
    /// A kind of job.
    Kind(String),
    /// A workspace: its jobs, emails and webhooks.
    Workspace(Uuid),
}

impl Target {
    /// Checks that the target exists.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an unknown queue or kind, [`Error::NotFound`] for an unknown workspace.
    async fn check(&self, connection: &mut PgConnection) -> Result<()> {
        match self {
            Self::Queue(name) if !QUEUES.contains(&name.as_str()) => {
                let message = format!("must be one of {}", QUEUES.join(", "));
                Err(Error::invalid("queue", "invalid", message))
            }
            Self::Kind(kind) if jobs::queue_of(kind).is_none() => {
                Err(Error::invalid("kind", "invalid", "is not a kind of job"))
            }
            Self::Workspace(id) => workspaces::get(connection, &id.to_string()).await.map(drop),
            Self::Queue(_) | Self::Kind(_) => Ok(()),
        }
    }

    /// `queue`, `kind` or `workspace`, and its name.
    fn columns(&self) -> (&'static str, String) {
        match self {
            Self::Queue(name) => ("queue", name.clone()),
            Self::Kind(kind) => ("kind", kind.clone()),
            Self::Workspace(id) => ("workspace", id.to_string()),
        }
    }
}

/// Something that is paused.
#[derive(Debug, Clone, PartialEq, Eq, FromRow, Serialize)]
pub struct Pause {
    /// `queue`, `kind` or `workspace`.
    pub target: String,
    /// The queue, the kind, or the id of the workspace.
    pub name: String,
    /// Why, if the operator said so.
    pub reason: Option<String>,
    /// Since when.
    pub created_at: DateTime<Utc>,
}

/// Pauses something. Returns the pause, which keeps its time if there was one already; a new reason replaces the one
/// before.
///
/// # Errors
/// [`Error::Invalid`] or [`Error::NotFound`] for what does not exist.
pub async fn pause(connection: &mut PgConnection, target: &Target, reason: Option<&str>) -> Result<Pause> {
    target.check(connection).await?;
    let reason = reason.map(|reason| Name::from_text(reason.trim()).map_err(|fault| fault.of("reason")));
    let reason = reason.transpose().map_err(|fault| Error::Invalid(vec![fault]))?;
    let (kind, name) = target.columns();
    let paused = sqlx::query_as(
        "INSERT INTO pauses (target, name, reason, created_at) VALUES ($1, $2, $3, $4)
         ON CONFLICT (target, name) DO UPDATE SET reason = coalesce(excluded.reason, pauses.reason)
         RETURNING target, name, reason, created_at",
    );
    let paused = paused.bind(kind).bind(name).bind(reason).bind(db::now()).fetch_one(&mut *connection).await?;
    notify_now(connection, &[STEERING]).await?;
    Ok(paused)
}

/// Resumes something. Returns whether it was paused.
///
/// # Errors
/// As [`pause`].
pub async fn resume(connection: &mut PgConnection, target: &Target) -> Result<bool> {
    let (kind, name) = target.columns();
    let resumed = sqlx::query("DELETE FROM pauses WHERE target = $1 AND name = $2").bind(kind).bind(name);
    let was_paused = resumed.execute(&mut *connection).await?.rows_affected() > 0;
    if !was_paused {
        target.check(connection).await?;
    }
    notify_now(connection, &[STEERING]).await?;
    Ok(was_paused)
}

/// What is paused.
pub async fn list(connection: &mut PgConnection) -> Result<Vec<Pause>> {
    let select = "SELECT target, name, reason, created_at FROM pauses ORDER BY target, name";
    Ok(sqlx::query_as(select).fetch_all(connection).await?)
}
