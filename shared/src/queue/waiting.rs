//! The jobs that wait after errors, for operators.

use sqlx::{FromRow, PgConnection};

use crate::error::Result;

/// Jobs that wait for a retry after the same error.
#[derive(Debug, Clone, FromRow)]
pub struct Waiting {
    /// The kind of job.
    pub kind: String,
    /// The error, as the API shows it.
    pub error: String,
    /// How many jobs there are.
    pub jobs: i64,
}

/// Returns the jobs of all workspaces that wait for a retry, grouped by kind and error.
pub async fn waiting(connection: &mut PgConnection) -> Result<Vec<Waiting>> {
    Ok(sqlx::query_as(
        "SELECT kind, error, count(*) AS jobs FROM jobs WHERE status = 'queued' AND error IS NOT NULL
         GROUP BY kind, error ORDER BY jobs DESC, kind, error",
    )
    .fetch_all(connection)
    .await?)
}
