//! The number of customers in each segment and band.

use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use crate::crm::customers::Band;
use crate::crm::customers::Segment;
use crate::error::Result;

/// A workspace with more rows of counts than these gets them merged.
const MANY: i64 = 500;

/// The scored customers of a segment and band.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromRow)]
pub struct ScoreCount {
    /// The segment.
    pub segment: Segment,
    /// The band; `None` for customers without data.
    pub band: Option<Band>,
    /// The number of customers.
    pub customers: i64,
    /// The sum of their health scores.
    pub health: i64,
}

/// The counts of a workspace. They are stored with the scores, so this reads a few hundred small rows,
/// however many customers there are.
pub async fn counts(connection: &mut PgConnection, workspace_id: Uuid) -> Result<Vec<ScoreCount>> {
    Ok(sqlx::query_as(
        "SELECT segment, band, sum(customers)::bigint AS customers, sum(health)::bigint AS health FROM score_counts
         WHERE workspace_id = $1 GROUP BY segment, band HAVING sum(customers) > 0",
    )
    .bind(workspace_id)
    .fetch_all(connection)
    .await?)
}

/// Merges the rows of a workspace's counts, if there are many. One statement deletes the rows and inserts
/// their sums, so rows that other transactions add in the meantime stay.
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
