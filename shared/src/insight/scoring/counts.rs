//! The number of customers in each segment and band.

use std::collections::HashMap;

use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use crate::crm::customers::{Band, Segment};
use crate::error::Result;
use crate::insight::filters::{Filters, Sql};

/// A workspace with more rows of counts than these gets them merged.
const MANY: i64 = 500;

/// The scored customers of a segment and band.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromRow)]
pub struct ScoreCount {
    /// The segment.
    pub segment: Segment,
    /// The band; `None` for customers without one.
    pub band: Option<Band>,
    /// The number of customers.
    pub customers: i64,
    /// The sum of their health scores.
    pub health: i64,
}

/// The scored customers that match the filters. Without filters, stored sums are read: a few hundred small
/// rows, however many customers there are.
pub async fn counts(connection: &mut PgConnection, workspace_id: Uuid, filters: &Filters) -> Result<Vec<ScoreCount>> {
    if !filters.is_empty() {
        return filtered(connection, workspace_id, filters).await;
    }
    Ok(sqlx::query_as(
        "SELECT segment, band, sum(customers)::bigint AS customers, sum(health)::bigint AS health FROM score_counts
         WHERE workspace_id = $1 GROUP BY segment, band HAVING sum(customers) > 0",
    )
    .bind(workspace_id)
    .fetch_all(connection)
    .await?)
}

async fn filtered(connection: &mut PgConnection, workspace_id: Uuid, filters: &Filters) -> Result<Vec<ScoreCount>> {
    let mut sql = Sql::new(
        "SELECT segment, band, count(*) AS customers, coalesce(sum(health), 0)::bigint AS health
         FROM customer_scores AS scores WHERE workspace_id = ",
    );
    sql.push_bind(workspace_id);
    filters.push_customer_of(&mut sql, workspace_id, "scores.customer_id");
    sql.push(" GROUP BY segment, band");
    Ok(sql.build_query_as().fetch_all(connection).await?)
}

/// The number of customers that match the filters in each segment of the last snapshot.
pub(crate) async fn segments_before(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    filters: &Filters,
) -> Result<HashMap<Segment, i64>> {
    let mut sql = Sql::new(
        "SELECT previous_segment, count(*) FROM customer_scores AS scores
         WHERE previous_segment IS NOT NULL AND workspace_id = ",
    );
    sql.push_bind(workspace_id);
    filters.push_customer_of(&mut sql, workspace_id, "scores.customer_id");
    sql.push(" GROUP BY previous_segment");
    let rows: Vec<(Segment, i64)> = sql.build_query_as().fetch_all(connection).await?;
    Ok(rows.into_iter().collect())
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
