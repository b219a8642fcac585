//! The schedules of all workspaces, with their next and last runs.

use serde::Serialize;
use sqlx::PgConnection;
use uuid::Uuid;

use super::filter::workspace_id;
use super::found::names;
use crate::accounts::workspaces;
use crate::error::{Error, Result};
use crate::schedule::{self, Schedule, ScheduledRun};

/// How many of its last runs a schedule shows.
const SHOWN_RUNS: i64 = 10;

/// A schedule, as operators see it.
#[derive(Debug, Clone, Serialize)]
pub struct OperatorSchedule {
    /// Its workspace.
    pub workspace_id: Uuid,
    /// The name of its workspace.
    pub workspace: String,
    /// The schedule.
    #[serde(flatten)]
    pub schedule: Schedule,
    /// Its last runs, the newest first: one in lists.
    pub last_runs: Vec<ScheduledRun>,
}

/// The schedules of a workspace, or of all of them.
///
/// # Errors
/// [`Error::Invalid`] for an unknown workspace.
pub async fn list(connection: &mut PgConnection, workspace: Option<&str>) -> Result<Vec<OperatorSchedule>> {
    let names = names(connection).await?;
    let ids = match workspace {
        Some(workspace) => vec![workspace_id(connection, workspace).await?],
        None => workspaces::ids(connection).await?,
    };
    let mut schedules = Vec::new();
    for workspace_id in ids {
        let mut last = schedule::last_runs(connection, workspace_id).await?;
        for schedule in schedule::list(connection, workspace_id).await? {
            schedules.push(OperatorSchedule {
                workspace_id,
                workspace: names.get(&workspace_id).cloned().unwrap_or_default(),
                last_runs: last.remove(&schedule.id).into_iter().collect(),
                schedule,
            });
        }
    }
    Ok(schedules)
}

/// Returns a schedule of any workspace, with its last ten runs.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn show(connection: &mut PgConnection, id: Uuid) -> Result<OperatorSchedule> {
    let located = "SELECT schedules.workspace_id FROM workspaces
         JOIN schedules ON schedules.workspace_id = workspaces.id AND schedules.id = $1";
    let found: Option<Uuid> = sqlx::query_scalar(located).bind(id).fetch_optional(&mut *connection).await?;
    let workspace_id = found.ok_or(Error::NotFound)?;
    let mut last_runs = schedule::list_runs(connection, workspace_id, id, None, SHOWN_RUNS).await?;
    // Results of jobs may have values of records.
    last_runs.iter_mut().for_each(|run| run.result = None);
    Ok(OperatorSchedule {
        workspace_id,
        workspace: names(connection).await?.remove(&workspace_id).unwrap_or_default(),
        schedule: schedule::get(connection, workspace_id, id).await?,
        last_runs,
    })
}
