//! The statistics of PostgreSQL by which statements are planned.
//!
//! Statements are planned once for each connection. The plan of a statement from the time when its table was nearly
//! empty reads all rows, and remains after a large import until the table is analyzed. Autovacuum does that, but only
//! looks once a minute.

use sqlx::{AssertSqlSafe, PgConnection};

use crate::error::Result;

/// Tables of fewer rows are read fast by any plan.
const FEW_ROWS: i64 = 10_000;
/// How many times as many rows a table has as its statistics say, before it is analyzed.
const GROWTH: i64 = 10;

/// Analyzes the tables that have grown at least tenfold since their last statistics, and returns their names. Tables
/// that somebody else is analyzing, or that belong to another role, are left out. Of tables that Citus distributes, the
/// coordinator does not know the rows: their nodes analyze them.
///
/// # Errors
/// The first error. A table that cannot be analyzed delays no other.
pub async fn refresh(connection: &mut PgConnection) -> Result<Vec<String>> {
    let grown: Vec<String> = sqlx::query_scalar(
        "SELECT pg_class.oid::regclass::text
         FROM pg_class JOIN pg_stat_user_tables ON relid = pg_class.oid
         WHERE n_live_tup > $1 AND n_live_tup > $2 * reltuples
             AND pg_table_is_visible(pg_class.oid) AND pg_has_role(relowner, 'USAGE')
         ORDER BY pg_class.oid",
    )
    .bind(FEW_ROWS)
    .bind(GROWTH)
    .fetch_all(&mut *connection)
    .await?;
    let mut first = Ok(());
    for table in &grown {
        // The name comes from the catalog, which quotes it.
        let analyze = AssertSqlSafe(format!("ANALYZE (SKIP_LOCKED) {table}"));
        let analyzed = sqlx::raw_sql(analyze).execute(&mut *connection).await;
        first = first.and(analyzed.map(drop));
    }
    first?;
    Ok(grown)
}
