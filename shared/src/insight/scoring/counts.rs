//! How many customers there are of each segment and band.

use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use crate::crm::customers::Band;
use crate::crm::customers::Segment;
use crate::error::Result;

/// The rows of a workspace's counts from which on they are put together.
const MANY: i64 = 500;

/// The customers with scores who are in a segment and in a band.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromRow)]
pub struct ScoreCount {
    /// The segment.
    pub segment: Segment,
    /// The band; `None`: nothing is known of them.
    pub band: Option<Band>,
    /// How many they are.
    pub customers: i64,
    /// The sum of their health.
    pub health: i64,
}

/// The counts of a workspace. They are kept beside the scores, so this reads no more than some hundred
/// small rows, however many customers there are.
///
/// # Errors
/// [`Error::Unavailable`](crate::Error::Unavailable) when the database is away.
pub async fn counts(connection: &mut PgConnection, workspace_id: Uuid) -> Result<Vec<ScoreCount>> {
    Ok(sqlx::query_as(
        "SELECT segment, band, sum(customers)::bigint AS customers, sum(health)::bigint AS health FROM score_counts
         WHERE workspace_id = $1 GROUP BY segment, band HAVING sum(customers) > 0",
    )
    .bind(workspace_id)
    .fetch_all(connection)
    .await?)
}

/// Puts the counts of a workspace together, if they are many. Each row is taken away by who adds it to another one, so
/// what others add meanwhile stays.
pub(super) async fn gather(connection: &mut PgConnection, workspace_id: Uuid) -> Result<()> {
    sqlx::query(
        "WITH taken AS (
             DELETE FROM score_counts
             WHERE workspace_id = $1 AND (SELECT count(*) FROM score_counts WHERE workspace_id = $1) > $2
             RETURNING segment, band, customers, health
         )
         INSERT INTO score_counts (workspace_id, segment, band, customers, health)
         SELECT $1, segment, band, sum(customers), sum(health) FROM taken
         GROUP BY segment, band HAVING sum(customers) <> 0 OR sum(health) <> 0",
    )
    .bind(workspace_id)
    .bind(MANY)
    .execute(connection)
    .await?;
    Ok(())
}
