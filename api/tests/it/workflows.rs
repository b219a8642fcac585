//! Helpers of the tests of workflows: runs, settings, the outbox, and simulated time.

use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, FromRow};
use testing::{Process, earlier};
use uuid::Uuid;

use crate::support::{self, Api};

/// A worker that runs workflows but sends no email, so that the outbox does not change.
pub fn worker(api: &Api) -> Process {
    Process::worker(&api.database, &["--queues", "workflows"])
}

/// Starts a run, and returns its job when it has ended.
pub async fn run(api: &Api, path: &str) -> Value {
    let job = support::json(api.post(path), 202).await;
    api.ended(&job).await
}

/// Runs a statement.
pub async fn rows(api: &Api, statement: &str) {
    sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&mut api.connection().await).await.unwrap();
}

/// Moves everything that has happened so many days into the past.
pub async fn days_pass(api: &Api, days: i32) {
    for (table, columns) in [
        ("feedback", &["created_at", "requested_at", "last_reminder_at"][..]),
        ("leads", &["created_at", "nurture_enrolled_at", "nurture_left_at"]),
        ("emails", &["updated_at"]),
        ("nurture_steps", &["taken_at"]),
        ("lead_interactions", &["created_at", "next_action_date"]),
        ("customer_interactions", &["created_at", "next_action_date"]),
    ] {
        let columns: Vec<String> = columns.iter().map(|column| earlier(column, &format!("{days} days"))).collect();
        rows(api, &format!("UPDATE {table} SET {}", columns.join(", "))).await;
    }
}

/// Updates the workspace's settings.
pub async fn put_settings(api: &Api, fields: Value) {
    api.send(Method::PUT, "/dev/crm/settings", fields, 200).await;
}

/// Suppresses an address.
pub async fn suppress(api: &Api, email: &str) {
    api.create("/dev/crm/suppressions", json!({ "email": email })).await;
}

/// Creates a user, and returns their id.
pub async fn add_user(api: &Api, name: &str, email: &str) -> Uuid {
    let user = api.create("/dev/crm/users", json!({ "name": name, "email": email })).await;
    support::id(&user).parse().unwrap()
}

/// An email of the outbox.
#[derive(Debug, FromRow)]
pub struct Email {
    pub id: Uuid,
    pub event: String,
    pub subject_type: Option<String>,
    pub to_name: Option<String>,
    pub to_email: String,
    pub subject: String,
    pub text_body: String,
    pub html_body: Option<String>,
    pub unsubscribe: Option<String>,
}

/// The workspace's emails, oldest first.
pub async fn outbox(api: &Api) -> Vec<Email> {
    sqlx::query_as(
        "SELECT id, event, subject_type, to_name, to_email, subject, text_body, html_body, unsubscribe FROM emails
         WHERE workspace_id = $1 ORDER BY id",
    )
    .bind(api.workspace_id)
    .fetch_all(&mut api.connection().await)
    .await
    .unwrap()
}
