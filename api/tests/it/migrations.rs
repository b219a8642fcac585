//! The upgrade of a database that is full: every row of the version before is there afterwards, and works.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::{Value, json};
use shared::platform::db;
use sqlx::migrate::Migrator;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::support::{self, Api, empty_database};

/// The last migration of 0.1.0.
const LAST_OF_0_1_0: i64 = 20_261_125_021_000;
/// Rows in every table of 0.1.0, as its programs wrote them.
const ROWS_OF_0_1_0: &str = include_str!("migrations/0.1.0.sql");
/// Tables that only have rows while something is under way, or are computed anew.
const MAY_BE_EMPTY: [&str; 8] = [
    "customer_marks",
    "feedback_readings",
    "feedback_unread",
    "followups",
    "import_seen",
    "reports",
    "theme_days",
    "themes",
];
/// Tables that have another name since.
const RENAMED: [(&str, &str); 3] =
    [("customer_marks", "stale_customers"), ("email_pace", "email_rate_limits"), ("slots", "scheduled_runs")];

/// How many rows each table has.
async fn counts(connection: &mut PgConnection) -> BTreeMap<String, i64> {
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT table_name::text FROM information_schema.tables
         WHERE table_schema = 'public' AND table_type = 'BASE TABLE' AND table_name <> '_sqlx_migrations'",
    )
    .fetch_all(&mut *connection)
    .await
    .unwrap();
    let mut counts = BTreeMap::new();
    for table in tables {
        let count = format!("SELECT count(*) FROM {table}");
        let rows = sqlx::query_scalar(AssertSqlSafe(count)).fetch_one(&mut *connection).await.unwrap();
        counts.insert(table, rows);
    }
    counts
}

#[tokio::test]
async fn a_full_database_of_the_version_before_keeps_every_row() {
    let database = empty_database().await;
    let mut connection = PgConnection::connect(database.url()).await.unwrap();
    let before = db::MIGRATOR.iter().filter(|migration| migration.version <= LAST_OF_0_1_0).cloned();
    Migrator::with_migrations(before.collect()).run(&mut connection).await.unwrap();
    sqlx::raw_sql(ROWS_OF_0_1_0).execute(&mut connection).await.unwrap();
    let mut expected = counts(&mut connection).await;
    let is_empty = |(table, rows): &(&String, &i64)| **rows == 0 && !MAY_BE_EMPTY.contains(&table.as_str());
    let empty: Vec<_> = expected.iter().filter(is_empty).collect();
    assert!(empty.is_empty(), "nothing is in {empty:?}");

    db::migrate(&support::settings(database.url()).database).await.unwrap();
    for (before, after) in RENAMED {
        let rows = expected.remove(before).unwrap();
        expected.insert(after.to_owned(), rows);
    }
    let found = counts(&mut connection).await;
    for (table, rows) in &expected {
        assert_eq!(found.get(table), Some(rows), "{table}");
    }

    // What was written then is read, found, changed and restored now.
    let api = Api::over(database, |_| {}).await;
    let leads = api.read("/dev/crm/leads").await;
    assert!(leads.as_array().is_some_and(|leads| !leads.is_empty()), "{leads}");
    let id = leads[0]["id"].as_str().unwrap();
    let name = leads[0]["name"].as_str().unwrap().split(' ').next().unwrap().to_owned();
    let found = api.read(&format!("/dev/crm/leads?q={name}")).await;
    assert!(found.as_array().unwrap().iter().any(|lead| lead["id"] == id), "{found}");
    let changed = support::json(
        api.request(Method::PUT, &format!("/dev/crm/leads/{id}")).json(&json!({ "notes": "moved" })),
        200,
    )
    .await;
    assert_eq!(changed["notes"], "moved");
    let deleted: uuid::Uuid = sqlx::query_scalar(
        "SELECT record_id FROM history WHERE action = 'deleted' AND record_type = 'lead' ORDER BY id DESC LIMIT 1",
    )
    .fetch_one(&mut connection)
    .await
    .unwrap();
    let restored: Value = support::json(api.post(&format!("/dev/crm/leads/{deleted}/restore")), 200).await;
    assert_eq!(restored["id"], deleted.to_string());
    for list in ["customers", "orders", "feedback", "users", "emails", "suppressions", "jobs"] {
        let list = format!("/dev/crm/{list}");
        assert!(api.read(&list).await.as_array().is_some_and(|records| !records.is_empty()), "{list}");
    }
}
