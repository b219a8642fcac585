//! Distributing the data of workspaces, where tests run on Citus.

use std::sync::Arc;

use serde_json::{Value, json};
use shared::migrate::{self, Progress};
use shared::platform::db;
use sqlx::PgConnection;
use testing::{Database, citus};
use tokio::sync::Notify;
use uuid::Uuid;

use crate::{doctor, support};

/// Says that a test is skipped, unless tests run on Citus.
fn is_skipped() -> bool {
    if !citus::is_tested() {
        testing::skipped("it distributes tables; run cargo dev test --citus");
    }
    !citus::is_tested()
}

/// A database with two workspaces and their users, whose server has just got the extension.
async fn filled() -> (Database, PgConnection) {
    let database = Database::empty().await;
    let mut connection = support::connect(database.url()).await;
    db::MIGRATOR.run(&mut connection).await.unwrap();
    for name in ["acme", "globex"] {
        database.key(name).await;
    }
    let insert = "INSERT INTO settings (workspace_id, fields, updated_at) SELECT id, '{}', now() FROM workspaces";
    sqlx::raw_sql(insert).execute(&mut connection).await.unwrap();
    citus::coordinate(database.url(), &[]).await.unwrap();
    (database, connection)
}

async fn migrate(database: &Database) -> Vec<String> {
    let mut reported = Vec::new();
    let report = |progress: &Progress| reported.push(progress.to_string());
    migrate::run(&support::settings(database.url()).database, report).await.unwrap();
    reported
}

/// What the doctor says about the nodes.
async fn nodes(database: &Database) -> Value {
    doctor::finding(&doctor::examine(database, &[]).await, "database.nodes").clone()
}

/// The tables that are left.
async fn pending(connection: &mut PgConnection) -> Vec<String> {
    db::pending_migrations(connection).await.unwrap()
}

#[tokio::test]
async fn existing_data_is_distributed_also_by_a_run_that_was_interrupted() {
    if is_skipped() {
        return;
    }
    let (database, mut connection) = filled().await;
    // Until somebody begins, nothing changes.
    assert_eq!(pending(&mut connection).await, [""; 0]);
    let found = nodes(&database).await;
    assert_eq!(found["level"], "warning", "{found}");
    assert!(found["message"].as_str().unwrap().contains("no table is distributed"), "{found}");

    let (settings, begun) = (support::settings(database.url()), Arc::new(Notify::new()));
    let report = |progress: &Progress| {
        if progress.to_string().contains("distributing jobs") {
            begun.notify_one();
        }
    };
    tokio::select! {
        done = migrate::run(&settings.database, report) => panic!("{done:?} before it was interrupted"),
        () = begun.notified() => (),
    }
    let left = pending(&mut connection).await;
    assert!(left.contains(&"webhooks".to_owned()) && !left.contains(&"active_runs".to_owned()), "{left:?}");
    let reported = migrate(&database).await;
    assert!(!reported.iter().any(|line| line.contains("active_runs")), "{reported:?}");
    assert!(reported.last().unwrap().contains("webhooks"), "{reported:?}");
    assert_eq!(pending(&mut connection).await, [""; 0]);
    let found = nodes(&database).await;
    assert_eq!(found["level"], "ok", "{found}");
    let settings: Vec<Uuid> =
        sqlx::query_scalar("SELECT workspace_id FROM settings").fetch_all(&mut connection).await.unwrap();
    assert_eq!(settings.len(), 2);
    assert_eq!(migrate(&database).await, [""; 0]);
}

#[tokio::test]
async fn the_table_of_a_later_migration_is_distributed() {
    if is_skipped() {
        return;
    }
    let database = Database::create().await;
    let mut connection = support::connect(database.url()).await;
    sqlx::raw_sql(
        "CREATE TABLE products (
             workspace_id uuid NOT NULL REFERENCES workspaces (id),
             id           uuid NOT NULL,
             lead_id      uuid,
             CONSTRAINT products_pkey PRIMARY KEY (workspace_id, id)
         )",
    )
    .execute(&mut connection)
    .await
    .unwrap();
    assert_eq!(pending(&mut connection).await, ["products"]);
    assert_eq!(migrate(&database).await.len(), 1);
    assert_eq!(pending(&mut connection).await, [""; 0]);
    let refer = "ALTER TABLE products ADD CONSTRAINT products_lead_id_fkey
                 FOREIGN KEY (workspace_id, lead_id) REFERENCES leads (workspace_id, id)";
    sqlx::raw_sql(refer).execute(&mut connection).await.unwrap();
}

#[tokio::test]
async fn without_the_extension_nothing_is_distributed() {
    let database = Database::empty().await;
    assert_eq!(migrate(&database).await, [""; 0]);
    let found = nodes(&database).await;
    assert_eq!(found, json!({ "check": "database.nodes", "level": "ok", "message": "One server has all data." }));
}
