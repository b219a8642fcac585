//! The statistics by which PostgreSQL plans statements.

use std::time::{Duration, Instant};

use shared::platform::statistics;
use sqlx::{AssertSqlSafe, PgConnection};
use testing::citus;

use crate::support::{Ledger, PATIENCE};

const SUPPRESS: &str = "
    INSERT INTO suppressions (workspace_id, id, email, email_key, reason, created_at)
    SELECT '00000000-0000-0000-0000-000000000001', gen_random_uuid(), email, email, 'manual', now()
    FROM generate_series(1, 20000) AS n, concat(n, '@example.com') AS email";

/// The rows that PostgreSQL knows of; -1 before the first statistics.
async fn known_rows(ledger: &Ledger, table: &str) -> f32 {
    let rows = sqlx::query_scalar("SELECT reltuples FROM pg_class WHERE oid = $1::regclass").bind(table);
    rows.fetch_one(&ledger.pool).await.unwrap()
}

/// Whether the plan that the connection keeps finds addresses by the index.
async fn looks_up(connection: &mut PgConnection) -> bool {
    let explain = "EXPLAIN EXECUTE found ('00000000-0000-0000-0000-000000000001', '{1@example.com}')";
    let plan: Vec<String> = sqlx::query_scalar(AssertSqlSafe(explain)).fetch_all(connection).await.unwrap();
    plan.iter().any(|line| line.contains("Index Cond") && line.contains("email_key"))
}

#[tokio::test]
async fn a_table_that_gets_many_rows_is_analyzed_so_that_kept_plans_are_replaced() {
    if citus::is_tested() {
        return testing::skipped("the nodes of Citus analyze their tables");
    }
    let ledger = Ledger::create().await;
    for table in ["suppressions", "jobs"] {
        ledger.run(&format!("ALTER TABLE {table} SET (autovacuum_enabled = false)")).await;
    }
    let mut connection = ledger.connection().await;
    let keep = "SET plan_cache_mode = force_generic_plan;
        PREPARE found (uuid, text[]) AS
            SELECT id FROM suppressions WHERE workspace_id = $1 AND email_key = ANY ($2)";
    sqlx::raw_sql(keep).execute(&mut *connection).await.unwrap();
    assert!(!looks_up(&mut connection).await);
    ledger.run(SUPPRESS).await;
    assert!(!looks_up(&mut connection).await);

    let worker = ledger.worker(1);
    let began = Instant::now();
    while known_rows(&ledger, "suppressions").await < 20_000.0 {
        assert!(began.elapsed() < PATIENCE, "the table is not analyzed in time");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    worker.stop().await;
    assert!(looks_up(&mut connection).await);

    // It is analyzed once, and small tables not at all.
    assert_eq!(statistics::refresh(&mut connection).await.unwrap(), Vec::<String>::new());
    assert_eq!(known_rows(&ledger, "jobs").await, -1.0);
}

#[tokio::test]
async fn a_table_that_cannot_be_analyzed_delays_no_other() {
    let ledger = Ledger::create().await;
    let mut connection = ledger.connection().await;
    let grown = "
        CREATE FUNCTION analyzed(n integer) RETURNS integer IMMUTABLE LANGUAGE plpgsql AS $$
            BEGIN
                IF current_setting('test.fails', true) = 'on' THEN RAISE 'out of order'; END IF;
                RETURN n;
            END $$;
        CREATE TABLE broken (n integer) WITH (autovacuum_enabled = false);
        CREATE TABLE whole (n integer) WITH (autovacuum_enabled = false);
        CREATE INDEX ON broken (analyzed(n));
        INSERT INTO broken SELECT * FROM generate_series(1, 20000);
        INSERT INTO whole SELECT * FROM generate_series(1, 20000);
        SET test.fails = on";
    sqlx::raw_sql(grown).execute(&mut *connection).await.unwrap();
    let began = Instant::now();
    while known_rows(&ledger, "whole").await < 20_000.0 {
        assert!(began.elapsed() < PATIENCE, "the table is not analyzed in time");
        let _ = statistics::refresh(&mut connection).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    statistics::refresh(&mut connection).await.unwrap_err();
    assert_eq!(known_rows(&ledger, "broken").await, -1.0);
}
