//! Workspaces by their load.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use super::filter::workspace_id;
use super::pauses;
use crate::accounts::workspaces;
use crate::error::{Error, Result};

/// A workspace, as operators see it.
#[derive(Debug, Clone, Serialize)]
pub struct WorkspaceLoad {
    /// The workspace's id.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// Since when it is suspended.
    pub suspended_at: Option<DateTime<Utc>>,
    /// Since when it is paused.
    pub paused_since: Option<DateTime<Utc>>,
    /// Why it is paused.
    pub pause_reason: Option<String>,
    /// What waits and runs in it.
    #[serde(flatten)]
    pub waiting: Waiting,
}

/// What waits and runs in a workspace.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Waiting {
    /// Jobs that are due.
    pub due_jobs: i64,
    /// Jobs that workers hold.
    pub running_jobs: i64,
    /// For how many seconds its oldest job has been due.
    pub oldest_due_s: Option<f64>,
    /// Emails that wait to be sent.
    pub waiting_emails: i64,
    /// Emails of which nobody knows whether they were sent.
    pub unknown_emails: i64,
}

#[derive(Debug, FromRow)]
struct Jobs {
    workspace_id: Uuid,
    due: i64,
    running: i64,
    oldest_due_s: Option<f64>,
}

/// All workspaces, those with most work first.
pub async fn list(connection: &mut PgConnection) -> Result<Vec<WorkspaceLoad>> {
    let mut waiting = waiting(connection).await?;
    let pauses = pauses::list(connection).await?;
    let mut loads = Vec::new();
    for workspace in workspaces::list(connection).await? {
        let id = workspace.id.to_string();
        let pause = pauses.iter().find(|pause| pause.target == "workspace" && pause.name == id);
        loads.push(WorkspaceLoad {
            id: workspace.id,
            name: workspace.name,
            created_at: workspace.created_at,
            suspended_at: workspace.suspended_at,
            paused_since: pause.map(|pause| pause.created_at),
            pause_reason: pause.and_then(|pause| pause.reason.clone()),
            waiting: waiting.remove(&workspace.id).unwrap_or_default(),
        });
    }
    // Stable, so those without any work stay sorted by name.
    loads.sort_by_key(|load| {
        let Waiting { due_jobs, running_jobs, waiting_emails, .. } = load.waiting;
        std::cmp::Reverse(due_jobs + running_jobs + waiting_emails)
    });
    Ok(loads)
}

/// The workspace with this name or id.
///
/// # Errors
/// [`Error::Invalid`] if there is none.
pub async fn show(connection: &mut PgConnection, workspace: &str) -> Result<WorkspaceLoad> {
    let id = workspace_id(connection, workspace).await?;
    list(connection).await?.into_iter().find(|load| load.id == id).ok_or(Error::NotFound)
}

async fn waiting(connection: &mut PgConnection) -> Result<HashMap<Uuid, Waiting>> {
    let mut waiting: HashMap<Uuid, Waiting> = HashMap::new();
    let jobs: Vec<Jobs> = sqlx::query_as(
        "SELECT workspace_id, count(*) FILTER (WHERE status = 'queued' AND run_at <= now()) AS due,
             count(*) FILTER (WHERE status = 'running') AS running,
             extract(epoch FROM now() - min(run_at) FILTER (WHERE status = 'queued' AND run_at <= now()))::float8 AS oldest_due_s
         FROM (SELECT workspace_id, status, run_at FROM jobs WHERE status = 'queued' AND crashes = 0
               UNION ALL
               SELECT workspace_id, status, run_at FROM jobs WHERE status = 'queued' AND crashes > 0
               UNION ALL
               SELECT workspace_id, status, run_at FROM jobs WHERE lease_until IS NOT NULL) AS unfinished
         GROUP BY workspace_id",
    )
    .fetch_all(&mut *connection)
    .await?;
    for Jobs { workspace_id, due, running, oldest_due_s } in jobs {
        let own = Waiting { due_jobs: due, running_jobs: running, oldest_due_s, ..Waiting::default() };
        waiting.insert(workspace_id, own);
    }
    let emails: Vec<(Uuid, i64, i64)> = sqlx::query_as(
        "SELECT workspace_id, count(*) FILTER (WHERE state <> 'unknown'), count(*) FILTER (WHERE state = 'unknown')
         FROM (SELECT workspace_id, state FROM emails WHERE state IN ('queued', 'deferred') AND lease_until IS NULL
               UNION ALL
               SELECT workspace_id, state FROM emails WHERE lease_until IS NOT NULL
               UNION ALL
               SELECT workspace_id, state FROM emails WHERE state = 'unknown') AS open
         GROUP BY workspace_id",
    )
    .fetch_all(connection)
    .await?;
    for (workspace_id, waiting_emails, unknown_emails) in emails {
        let own = waiting.entry(workspace_id).or_default();
        (own.waiting_emails, own.unknown_emails) = (waiting_emails, unknown_emails);
    }
    Ok(waiting)
}
