//! Kinds of jobs of which one at a time works in a workspace.
//!
//! Such jobs are accepted at any time. One begins when those before it have ended: it takes the turn of its
//! kind, a row of `active_runs`, and keeps it through all its attempts until it ends.

use sqlx::PgConnection;
use uuid::Uuid;

use super::Claimed;
use crate::error::Result;

/// Takes the turn for a claimed job, or returns `false` if another job has it or is before this one. A job that
/// has not begun then counts as not started. Needs a transaction.
pub async fn take_turn(connection: &mut PgConnection, job: &Claimed) -> Result<bool> {
    // The update locks the row, so that the following statements see what the last holder has committed.
    let holder: Uuid = sqlx::query_scalar(
        "INSERT INTO active_runs (workspace_id, kind, job_id) VALUES ($1, $2, $3)
         ON CONFLICT (workspace_id, kind) DO UPDATE SET job_id = active_runs.job_id RETURNING job_id",
    )
    .bind(job.workspace_id)
    .bind(&job.kind)
    .bind(Uuid::nil())
    .fetch_one(&mut *connection)
    .await?;
    if holder == job.id {
        return Ok(true);
    }
    if is_behind_others(connection, job, holder).await? {
        wait(connection, job).await?;
        return Ok(false);
    }
    sqlx::query("UPDATE active_runs SET job_id = $3 WHERE workspace_id = $1 AND kind = $2")
        .bind(job.workspace_id)
        .bind(&job.kind)
        .bind(job.id)
        .execute(connection)
        .await?;
    Ok(true)
}

/// Whether the holder of the turn, or an earlier job of the kind, has not ended. Dry runs take no turns.
async fn is_behind_others(connection: &mut PgConnection, job: &Claimed, holder: Uuid) -> Result<bool> {
    Ok(sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM jobs WHERE workspace_id = $1 AND id = $4 AND finished_at IS NULL)
             OR EXISTS (
                 SELECT FROM jobs
                 WHERE workspace_id = $1 AND kind = $2 AND id < $3 AND finished_at IS NULL AND dedupe_key IS NOT NULL
                     AND NOT starts_with(dedupe_key, $2 || ':dry')
             )",
    )
    .bind(job.workspace_id)
    .bind(&job.kind)
    .bind(job.id)
    .bind(holder)
    .fetch_one(connection)
    .await?)
}

async fn wait(connection: &mut PgConnection, job: &Claimed) -> Result<()> {
    sqlx::query(
        "UPDATE jobs SET started_at = NULL WHERE workspace_id = $1 AND id = $2 AND attempt = $3 AND cursor IS NULL",
    )
    .bind(job.workspace_id)
    .bind(job.id)
    .bind(job.attempt)
    .execute(connection)
    .await?;
    Ok(())
}
