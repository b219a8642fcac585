//! Writing scores and the segments that follow from them and the thresholds.

use sqlx::PgConnection;
use uuid::Uuid;

use super::{Day, Facts};
use crate::crm::customers::Band;
use crate::crm::customers::Segment;
use crate::error::Result;
use crate::insight::health::Health;
use crate::insight::segments::Thresholds;

// The scores and the segment of a row with `last_order_at`, `orders` and `quantity`, by the thresholds $2, $3
// and $4 and the grid $5. A score is 1 plus the number of thresholds reached.
macro_rules! recency {
    () => {
        "CASE WHEN orders > 0 THEN (width_bucket(last_order_at, $2::timestamptz[]) + 1)::smallint END"
    };
}
macro_rules! frequency {
    () => {
        "CASE WHEN orders > 0 THEN (width_bucket(orders, $3::bigint[]) + 1)::smallint END"
    };
}
macro_rules! monetary {
    () => {
        "CASE WHEN orders > 0 THEN (width_bucket(quantity, $4::bigint[]) + 1)::smallint END"
    };
}
macro_rules! segment {
    () => {
        "CASE WHEN orders > 0 THEN ($5::text[])[width_bucket(last_order_at, $2::timestamptz[]) * 5
             + (width_bucket(orders, $3::bigint[]) + width_bucket(quantity, $4::bigint[]) + 3) / 2] ELSE 'prospects' END"
    };
}

// Updates the counts by the changes of a statement: adds the rows of `$after`, subtracts those of `before`.
macro_rules! count {
    ($after:literal) => {
        concat!(
            "INSERT INTO score_counts (workspace_id, segment, band, customers, health)
             SELECT $1, segment, band, sum(customers), sum(health)
             FROM (
                 SELECT segment, band, 1 AS customers, coalesce(health, 0) AS health FROM ",
            $after,
            "
                 UNION ALL
                 SELECT segment, band, -1, -coalesce(health, 0) FROM before
             ) AS changed
             GROUP BY segment, band HAVING sum(customers) <> 0 OR sum(health) <> 0"
        )
    };
}

/// The statement of [`write`]. A customer that is deleted concurrently gets no row: an existing row is deleted
/// with the customer, and a new row locks the customer.
const WRITE: &str = concat!(
    "WITH given AS MATERIALIZED (
         SELECT id, last_order_at, orders, quantity, health, band, activity, ",
    recency!(),
    " AS recency, ",
    frequency!(),
    " AS frequency, ",
    monetary!(),
    " AS monetary, ",
    segment!(),
    " AS segment
         FROM unnest($6::uuid[], $7::timestamptz[], $8::bigint[], $9::bigint[], $10::smallint[], $11::text[], $13::bytea[])
             AS given (id, last_order_at, orders, quantity, health, band, activity)
     ), before AS MATERIALIZED (
         SELECT customer_id, segment, band, health FROM customer_scores
         WHERE workspace_id = $1 AND customer_id = ANY ($6) ORDER BY customer_id FOR NO KEY UPDATE
     ), known AS (
         UPDATE customer_scores AS scores
         SET last_order_at = given.last_order_at, orders = given.orders, quantity = given.quantity,
             recency = given.recency, frequency = given.frequency, monetary = given.monetary, segment = given.segment,
             health = given.health, band = given.band, activity = given.activity, date = $12
         FROM given JOIN before ON before.customer_id = given.id
         WHERE scores.workspace_id = $1 AND scores.customer_id = given.id
         RETURNING scores.segment, scores.band, scores.health
     ), new AS (
         INSERT INTO customer_scores (workspace_id, customer_id, created_at, last_order_at, orders, quantity,
             recency, frequency, monetary, segment, health, band, activity, date)
         SELECT customers.workspace_id, customers.id, customers.created_at, last_order_at, orders, quantity,
             recency, frequency, monetary, segment, health, band, activity, $12
         FROM given JOIN customers ON customers.workspace_id = $1 AND customers.id = given.id
         WHERE given.id NOT IN (SELECT customer_id FROM before)
         ORDER BY customers.id FOR KEY SHARE OF customers
         RETURNING segment, band, health
     ), after AS (
         SELECT segment, band, health FROM known UNION ALL SELECT segment, band, health FROM new
     ) ",
    count!("after")
);

/// Writes the scores of customers.
pub(super) async fn write(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    thresholds: &Thresholds,
    scored: &[(Facts, Health)],
    day: Day,
) -> Result<()> {
    if scored.is_empty() {
        return Ok(());
    }
    let facts = || scored.iter().map(|(facts, _)| facts);
    let health = || scored.iter().map(|(_, health)| health);
    let orders = facts().map(|facts| i64::try_from(facts.order_ages.len()).unwrap_or(i64::MAX));
    with_thresholds(sqlx::query(WRITE), workspace_id, thresholds)
        .bind(facts().map(|facts| facts.id).collect::<Vec<_>>())
        .bind(facts().map(Facts::last_order_at).collect::<Vec<_>>())
        .bind(orders.collect::<Vec<_>>())
        .bind(facts().map(|facts| facts.quantity).collect::<Vec<_>>())
        .bind(health().map(|health| health.score).collect::<Vec<_>>())
        .bind(health().map(|health| health.band.map(Band::as_str)).collect::<Vec<_>>())
        .bind(day.date)
        .bind(facts().map(|facts| facts.activity.as_deref()).collect::<Vec<_>>())
        .execute(connection)
        .await?;
    Ok(())
}

type Query<'q> = sqlx::query::Query<'q, sqlx::Postgres, sqlx::postgres::PgArguments>;

fn with_thresholds<'q>(query: Query<'q>, workspace_id: Uuid, thresholds: &'q Thresholds) -> Query<'q> {
    query
        .bind(workspace_id)
        .bind(&thresholds.recency)
        .bind(&thresholds.frequency)
        .bind(&thresholds.monetary)
        .bind(Segment::grid())
}

const RECLASSIFY: &str = concat!(
    "WITH before AS MATERIALIZED (
         SELECT customer_id, scores.segment, band, health, placed.recency, placed.frequency, placed.monetary,
             placed.segment AS new_segment
         FROM customer_scores AS scores CROSS JOIN LATERAL (
             SELECT ",
    recency!(),
    " AS recency, ",
    frequency!(),
    " AS frequency, ",
    monetary!(),
    " AS monetary, ",
    segment!(),
    " AS segment
         ) AS placed
         WHERE workspace_id = $1 AND orders > 0 AND customer_id > $6 AND customer_id <= $7
             AND (scores.recency, scores.frequency, scores.monetary, scores.segment)
                 IS DISTINCT FROM (placed.recency, placed.frequency, placed.monetary, placed.segment)
         ORDER BY customer_id FOR NO KEY UPDATE OF scores
     ), after AS (
         UPDATE customer_scores AS scores
         SET recency = before.recency, frequency = before.frequency, monetary = before.monetary,
             segment = before.new_segment
         FROM before WHERE scores.workspace_id = $1 AND scores.customer_id = before.customer_id
         RETURNING scores.segment, scores.band, scores.health
     ) ",
    count!("after")
);

/// Reclassifies the customers after `after` up to `last` by the thresholds.
pub(crate) async fn reclassify(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    thresholds: &Thresholds,
    (after, last): (Uuid, Uuid),
) -> Result<()> {
    let reclassify = with_thresholds(sqlx::query(RECLASSIFY), workspace_id, thresholds);
    reclassify.bind(after).bind(last).execute(connection).await?;
    Ok(())
}

/// Saves the thresholds; the customers after `reclassify_after` are to be reclassified.
pub(super) async fn save_thresholds(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    thresholds: &Thresholds,
    reclassify_after: Option<Uuid>,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO score_states (workspace_id, buyers, recency_thresholds, frequency_thresholds, monetary_thresholds,
             thresholds_at, moved, reclassify_after)
         VALUES ($1, $2, $3, $4, $5, now(), false, $6)
         ON CONFLICT (workspace_id) DO UPDATE SET buyers = $2, recency_thresholds = $3, frequency_thresholds = $4,
             monetary_thresholds = $5, thresholds_at = excluded.thresholds_at, moved = false, reclassify_after = $6",
    )
    .bind(workspace_id)
    .bind(thresholds.buyers)
    .bind(&thresholds.recency)
    .bind(&thresholds.frequency)
    .bind(&thresholds.monetary)
    .bind(reclassify_after)
    .execute(connection)
    .await?;
    Ok(())
}

/// Computes the thresholds from all present scores; customers are then reclassified page by page.
pub(crate) async fn start_thresholds(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    day: Day,
) -> Result<Thresholds> {
    let thresholds = Thresholds::of(connection, workspace_id, day).await?;
    save_thresholds(connection, workspace_id, &thresholds, Some(Uuid::nil())).await?;
    Ok(thresholds)
}

/// Takes the snapshot of the day for the customers after `after` up to `last`. Returns the number of rows.
pub(crate) async fn snapshot_page(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    (after, last): (Uuid, Uuid),
    day: Day,
) -> Result<u64> {
    let written = sqlx::query(
        "INSERT INTO health_snapshots (workspace_id, customer_id, date, health, band, segment)
         SELECT workspace_id, customer_id, $4, health, band, segment FROM customer_scores
         WHERE workspace_id = $1 AND customer_id > $2 AND customer_id <= $3
         ON CONFLICT (workspace_id, customer_id, date)
             DO UPDATE SET (health, band, segment) = (excluded.health, excluded.band, excluded.segment)",
    )
    .bind(workspace_id)
    .bind(after)
    .bind(last)
    .bind(day.date)
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "UPDATE customer_scores SET previous_segment = segment
         WHERE workspace_id = $1 AND customer_id > $2 AND customer_id <= $3 AND previous_segment IS DISTINCT FROM segment",
    )
    .bind(workspace_id)
    .bind(after)
    .bind(last)
    .execute(connection)
    .await?;
    Ok(written.rows_affected())
}
