//! Backfills: rows that are rewritten in batches after a migration changed the schema.
//!
//! A migration inserts a row into `backfills` for each workspace whose rows must be rewritten. [`run`]
//! does the work. Each batch is one transaction of one workspace, which also stores how far the work
//! is, so an interrupted run resumes after its last committed batch, and several processes can run at
//! once. The last batch deletes the row.

use std::fmt;

use futures_util::future::BoxFuture;
use sqlx::{Connection, PgConnection, SqlStr};
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::platform::db;

/// The number of rows in a batch.
pub const BATCH: i64 = 2_000;

/// Rewrites the rows of a table.
pub trait Backfill: Sync {
    /// The name in the table `backfills`.
    fn name(&self) -> &'static str;

    /// The statement that counts the rows of the workspace `$1`, to report progress.
    fn count(&self) -> SqlStr;

    /// Rewrites the next [`BATCH`] rows of the workspace after this id, in the order of ids. Returns how
    /// many rows there were, and the last one; `None` if no row follows. A row that is visited again
    /// must not change.
    fn rewrite<'a>(
        &'a self,
        connection: &'a mut PgConnection,
        workspace_id: Uuid,
        after: Uuid,
    ) -> BoxFuture<'a, Result<Option<Batch>>>;
}

/// The rows of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch {
    /// The number of rows.
    pub rows: i64,
    /// The id of the last one.
    pub last: Uuid,
}

impl Batch {
    /// The batch with these rows, in the order of their ids; `None` without any.
    pub fn of(ids: &[Uuid]) -> Option<Self> {
        let last = *ids.last()?;
        Some(Self { rows: i64::try_from(ids.len()).unwrap_or(BATCH), last })
    }
}

/// How far a backfill of a workspace is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The name of the backfill.
    pub name: &'static str,
    /// The workspace.
    pub workspace_id: Uuid,
    /// The number of rows visited.
    pub done: i64,
    /// The number of rows when the run began.
    pub total: i64,
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, workspace_id, done, total } = self;
        write!(f, "{name} of workspace {workspace_id}: {done} of {} rows", total.max(done))
    }
}

/// Runs the backfills that are left, and reports each batch.
///
/// # Errors
/// [`Error::Internal`] for a backfill that this program does not have.
pub async fn run(
    connection: &mut PgConnection,
    backfills: &[&dyn Backfill],
    mut report: impl FnMut(&Progress),
) -> Result<()> {
    while let Some((workspace_id, name)) = next(connection).await? {
        let Some(backfill) = backfills.iter().find(|backfill| backfill.name() == name) else {
            return Err(Error::internal(format!("this version has no backfill {name:?}")));
        };
        let count = sqlx::query_scalar(backfill.count()).bind(workspace_id);
        let total = count.fetch_one(&mut *connection).await?;
        while let Some(done) = step(connection, *backfill, workspace_id).await? {
            report(&Progress { name: backfill.name(), workspace_id, done, total });
        }
    }
    Ok(())
}

/// The backfills that are left, each once. Unknown ones, on a node that cannot be reached, are not pending.
pub async fn pending(connection: &mut PgConnection) -> Result<Vec<String>> {
    let pending = sqlx::query_scalar("SELECT DISTINCT name FROM backfills ORDER BY name").fetch_all(connection);
    db::or_nothing(pending.await)
}

async fn next(connection: &mut PgConnection) -> Result<Option<(Uuid, String)>> {
    let next = "SELECT workspace_id, name FROM backfills ORDER BY workspace_id, name LIMIT 1";
    Ok(sqlx::query_as(next).fetch_optional(connection).await?)
}

/// Rewrites one batch and returns the number of rows visited so far; `None` at the end.
async fn step(connection: &mut PgConnection, backfill: &dyn Backfill, workspace_id: Uuid) -> Result<Option<i64>> {
    let mut transaction = connection.begin().await?;
    db::plan_afresh(&mut transaction).await?;
    // The lock makes other processes that run the same backfill wait for this batch.
    let position: Option<(Uuid, i64)> =
        sqlx::query_as("SELECT after_id, done FROM backfills WHERE workspace_id = $1 AND name = $2 FOR UPDATE")
            .bind(workspace_id)
            .bind(backfill.name())
            .fetch_optional(&mut *transaction)
            .await?;
    let Some((after, done)) = position else { return Ok(None) };
    let batch = backfill.rewrite(&mut transaction, workspace_id, after).await?;
    let done = match batch {
        Some(Batch { rows, last }) => {
            let done = done + rows;
            sqlx::query("UPDATE backfills SET after_id = $3, done = $4 WHERE workspace_id = $1 AND name = $2")
                .bind(workspace_id)
                .bind(backfill.name())
                .bind(last)
                .bind(done)
                .execute(&mut *transaction)
                .await?;
            Some(done)
        }
        None => {
            sqlx::query("DELETE FROM backfills WHERE workspace_id = $1 AND name = $2")
                .bind(workspace_id)
                .bind(backfill.name())
                .execute(&mut *transaction)
                .await?;
            None
        }
    };
    transaction.commit().await?;
    Ok(done)
}
