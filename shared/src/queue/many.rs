//! Cancelling and retrying many jobs of a workspace in one statement.

use sqlx::PgConnection;
use uuid::Uuid;

use super::job::columns;
use super::{Job, requeued, retriable};
use crate::error::{Error, Result};

/// Cancels those of the jobs that have not ended, as [`cancel`](super::cancel) does, and returns their ids.
pub async fn cancel_all(connection: &mut PgConnection, workspace_id: Uuid, ids: &[Uuid]) -> Result<Vec<Uuid>> {
    Ok(sqlx::query_scalar(
        "UPDATE jobs SET status = 'cancelled', attempt = attempt + 1, lease_until = NULL, finished_at = now()
         WHERE workspace_id = $1 AND id = ANY ($2) AND finished_at IS NULL
         RETURNING id",
    )
    .bind(workspace_id)
    .bind(ids)
    .fetch_all(connection)
    .await?)
}

/// Retries those of the jobs that a [`retry`](super::retry) would change, and returns them. Of several that do the same
/// work only the newest is retried, and none if another job already does it.
///
/// # Errors
/// [`Error::Repeat`] if a job that does the same work as one of these was enqueued meanwhile.
pub async fn retry_all(connection: &mut PgConnection, workspace_id: Uuid, ids: &[Uuid]) -> Result<Vec<Job>> {
    let retried = sqlx::query_as(concat!(
        "UPDATE jobs SET ",
        requeued!(),
        " WHERE workspace_id = $1 AND id = ANY (ARRAY(
             SELECT DISTINCT ON (coalesce(dedupe_key, id::text)) id FROM jobs AS retried
             WHERE workspace_id = $1 AND id = ANY ($2) AND ",
        retriable!(),
        "    AND NOT EXISTS (
                 SELECT FROM jobs AS other
                 WHERE other.workspace_id = $1 AND other.dedupe_key = retried.dedupe_key AND other.finished_at IS NULL
                     AND other.id <> retried.id
             )
             ORDER BY coalesce(dedupe_key, id::text), id DESC
         )) AND ",
        retriable!(),
        " RETURNING ",
        columns!()
    ));
    retried.bind(workspace_id).bind(ids).fetch_all(connection).await.map_err(|error| {
        match Error::breaks(&error, "jobs_dedupe_key") {
            true => Error::Repeat("another job began to do the same work".to_owned()),
            false => error.into(),
        }
    })
}
