//! Actions that take long continue, and those whose process dies can be repeated.

use std::process::Stdio;

use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::{Operations, matching};
use crate::cli::program;
use crate::holds::until;

/// Keeps a job from being changed until the connection is dropped.
async fn lock(operations: &Operations, workspace_id: Uuid, id: Uuid) -> PgConnection {
    let mut connection = operations.api.connection().await;
    sqlx::raw_sql("BEGIN").execute(&mut connection).await.unwrap();
    let lock = sqlx::query("SELECT 1 FROM jobs WHERE workspace_id = $1 AND id = $2 FOR UPDATE");
    lock.bind(workspace_id).bind(id).execute(&mut connection).await.unwrap();
    connection
}

#[tokio::test]
async fn an_action_that_takes_long_continues_after_its_response() {
    let operations = Operations::start().await;
    let acme = operations.api.workspace_id;
    let failed = operations.jobs(acme, 3, "failed", None).await;
    let locked = lock(&operations, acme, failed[1]).await;
    let answer = operations.send("/jobs/retry", matching(json!({ "status": "failed" }), 3), 202).await;
    let path = format!("/actions/{}", answer["data"]["id"].as_str().unwrap());
    assert_eq!((&answer["data"]["matched"], &answer["data"]["finished_at"]), (&json!(3), &Value::Null));
    assert_eq!(operations.read(&path).await["finished_at"], Value::Null);
    locked.close().await.unwrap();
    until("the action has ended", async || operations.read(&path).await["finished_at"].is_string()).await;
    assert_eq!((&operations.read(&path).await["done"], operations.count(acme, "queued").await), (&json!(3), 3));
}

#[tokio::test]
async fn what_changed_since_the_count_is_left_alone() {
    let operations = Operations::start().await;
    let acme = operations.api.workspace_id;
    let failed = operations.jobs(acme, 3, "failed", None).await;
    let mut locked = lock(&operations, acme, failed[1]).await;
    let answer = operations.send("/jobs/retry", matching(json!({ "status": "failed" }), 3), 202).await;
    // Somebody else has cancelled a job since it was counted. It could be retried, but does not match any more.
    let cancel = "UPDATE jobs SET status = 'cancelled' WHERE id = $1";
    sqlx::query(cancel).bind(failed[1]).execute(&mut locked).await.unwrap();
    sqlx::raw_sql("COMMIT").execute(&mut locked).await.unwrap();
    let path = format!("/actions/{}", answer["data"]["id"].as_str().unwrap());
    until("the action has ended", async || operations.read(&path).await["finished_at"].is_string()).await;
    let action = operations.read(&path).await;
    assert_eq!((&action["done"], &action["result"]), (&json!(2), &json!({ "unchanged": 1 })));
    assert_eq!(operations.status(failed[1]).await, "cancelled");
}

#[tokio::test]
async fn an_action_whose_process_died_has_no_end_and_can_be_repeated() {
    let operations = Operations::start().await;
    let acme = operations.api.workspace_id;
    // Two transactions, of which the second cannot commit.
    let failed = operations.jobs(acme, 600, "failed", None).await;
    let locked = lock(&operations, acme, failed[0]).await;
    let arguments = ["jobs", "retry", "--status", "failed", "--expect", "600"];
    let mut command = program(&operations.api.database, &arguments);
    let mut process = command.stdout(Stdio::null()).spawn().unwrap();
    until("the first transaction is committed", async || operations.count(acme, "queued").await == 500).await;
    process.kill().await.unwrap();
    locked.close().await.unwrap();

    let action = operations.last_action().await;
    assert_eq!((&action["action"], &action["matched"]), (&json!("jobs.retry"), &json!(600)));
    assert_eq!((&action["done"], &action["finished_at"]), (&Value::Null, &Value::Null));
    assert!(operations.print(&["audit"]).await.contains("not finished"));
    let retry = ["jobs", "retry", "--status", "failed", "--expect", "100"];
    until("the dead process's transaction is rolled back", async || operations.count(acme, "failed").await == 100)
        .await;
    assert_eq!(operations.print(&retry).await, "100 matched, 100 retried.\n");
    assert_eq!(operations.count(acme, "queued").await, 600);
}
