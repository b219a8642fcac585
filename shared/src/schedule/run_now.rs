//! A run that a caller starts.

use sqlx::PgConnection;
use uuid::Uuid;

use super::change::Maker;
use super::model::lock;
use super::nightly;
use super::runs::{self, Key, Of};
use super::work::{Work, inside_params};
use crate::error::{Error, Result};
use crate::platform::db;
use crate::queue::Job;

/// Starts the job of a schedule now, whatever its times are. The nightly run of the present date takes place once: it
/// is returned, and retried if it failed. Needs a transaction.
///
/// # Errors
/// Those of the request that starts such a job; [`Error::NotFound`]; [`Error::Forbidden`] if the key may not start it.
pub async fn run_now(connection: &mut PgConnection, (actor, scopes): Maker<'_>, id: Uuid) -> Result<Job> {
    let workspace_id = actor.workspace_id;
    let schedule = lock(connection, workspace_id, id).await?;
    if schedule.is_nightly() {
        return nightly::run_today(connection, workspace_id, actor.request_id.as_deref()).await;
    }
    let work = Work::read(workspace_id, &schedule.kind, &schedule.params, true).map_err(inside_params)?;
    work.check_scopes(connection, workspace_id, scopes).await?;
    let job = work.start(connection, actor).await.map_err(inside_params)?;
    let of = Of { workspace_id, schedule_id: id, now: db::database_now(connection).await? };
    let run = runs::record(connection, of, Key::default(), None).await?;
    let run_id = run.ok_or_else(|| Error::internal("a run without a slot has a duplicate"))?;
    runs::record_start(connection, workspace_id, run_id, Ok(job.id)).await?;
    Ok(job)
}
