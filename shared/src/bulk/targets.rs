//! The records that a bulk change has still to process.

use sqlx::{PgConnection, QueryBuilder};
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::query::List;
use crate::records::history::Actor;

/// Stores the ids of all records of a list for a job, in chunks of this size. Returns the number of records.
pub(super) async fn keep(
    connection: &mut PgConnection,
    (workspace_id, job_id): (Uuid, Uuid),
    list: &List,
    chunk: i64,
) -> Result<i64> {
    let mut sql = QueryBuilder::new("WITH matching AS (");
    list.push_ids(&mut sql, workspace_id);
    sql.push(") INSERT INTO bulk_targets (workspace_id, job_id, seq, ids) SELECT ").push_bind(workspace_id);
    sql.push(", ").push_bind(job_id);
    sql.push(", seq, array_agg(id ORDER BY id) FROM (SELECT id, (row_number() OVER (ORDER BY id) - 1) / ");
    sql.push_bind(chunk).push(" AS seq FROM matching) AS numbered GROUP BY seq RETURNING cardinality(ids)");
    let sizes: Vec<i32> = sql.build_query_scalar().fetch_all(connection).await?;
    Ok(sizes.into_iter().map(i64::from).sum())
}

/// Counts the records that the job has still to process.
pub(super) async fn count(connection: &mut PgConnection, job: &Actor) -> Result<i64> {
    let count = sqlx::query_scalar(
        "SELECT coalesce(sum(cardinality(ids)), 0)::bigint FROM bulk_targets WHERE workspace_id = $1 AND job_id = $2",
    );
    Ok(count.bind(job.workspace_id).bind(job.id).fetch_one(connection).await?)
}

/// Deletes a chunk, and returns its ids.
///
/// # Errors
/// [`Error::Superseded`] if the chunk was already processed.
pub(super) async fn take(connection: &mut PgConnection, job: &Actor, seq: i64) -> Result<Vec<Uuid>> {
    let deleted = sqlx::query_scalar(
        "DELETE FROM bulk_targets WHERE workspace_id = $1 AND job_id = $2 AND seq = $3 RETURNING ids",
    );
    let ids: Option<Vec<Uuid>> =
        deleted.bind(job.workspace_id).bind(job.id).bind(seq).fetch_optional(connection).await?;
    ids.ok_or(Error::Superseded)
}
