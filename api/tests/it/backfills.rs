//! After a migration of the schema, rows are rewritten in batches.

use reqwest::Client;
use serde_json::json;
use shared::platform::backfill::Progress;
use sqlx::{AssertSqlSafe, PgConnection};
use uuid::Uuid;

use crate::support::{self, Api};

const LEADS: i64 = 4_500;

/// Allows rows without the normal form of their email, as they are before the backfill.
pub async fn unkeyed(connection: &mut PgConnection, table: &str) {
    let drop = format!("ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {table}_email_key_check");
    sqlx::raw_sql(AssertSqlSafe(drop)).execute(connection).await.unwrap();
}

/// Inserts leads with the search words of a version that did not fold accents.
async fn fill(connection: &mut PgConnection, workspace: Uuid) {
    let scope = &workspace.simple().to_string()[28..];
    let insert = format!(
        "INSERT INTO leads (workspace_id, id, name, email, source, status, score, custom_fields, search_vector, created_at, updated_at)
         SELECT '{workspace}', ('00000000-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid, 'Jürgen Straße', n || '@example.com',
             'other', 'new', 0, '{{}}', '{scope}jürgen {scope}straße'::tsvector, now(), now()
         FROM generate_series(1, {LEADS}) AS n"
    );
    unkeyed(connection, "leads").await;
    sqlx::raw_sql(AssertSqlSafe(insert)).execute(&mut *connection).await.unwrap();
    sqlx::query("INSERT INTO backfills (workspace_id, name) VALUES ($1, 'leads')")
        .bind(workspace)
        .execute(connection)
        .await
        .unwrap();
}

async fn readiness(api: &Api) -> (u16, String) {
    let answer = Client::new().get(format!("http://{}/readyz", api.admin)).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

async fn found(api: &Api, q: &str) -> String {
    let answer = api.get(&format!("/dev/crm/leads?q={q}&limit=1&count=true")).send().await.unwrap();
    answer.headers()["x-total-count"].to_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_interrupted_backfill_resumes_after_its_last_batch() {
    let api = Api::start().await;
    let mut connection = api.connection().await;
    fill(&mut connection, api.workspace_id).await;
    assert_eq!(found(&api, "jurgen+strasse").await, "0");
    let (status, reason) = readiness(&api).await;
    assert_eq!(status, 503);
    assert!(reason.contains("Migrations are pending: leads; run crm-api migrate"), "{reason}");

    let settings = support::settings(api.database.url());
    let breaks = "ALTER TABLE leads ADD CONSTRAINT breaks CHECK (email <> '3000@example.com') NOT VALID";
    sqlx::query(breaks).execute(&mut connection).await.unwrap();
    let mut reported: Vec<Progress> = Vec::new();
    let interrupted =
        shared::migrate::run(&settings.database, |progress| reported.extend(progress.rows().cloned())).await;
    assert!(interrupted.is_err());
    assert_eq!(found(&api, "jurgen+strasse").await, "2000");
    sqlx::query("ALTER TABLE leads DROP CONSTRAINT breaks").execute(&mut connection).await.unwrap();
    shared::migrate::run(&settings.database, |progress| reported.extend(progress.rows().cloned())).await.unwrap();

    let done: Vec<i64> = reported.iter().map(|progress| progress.done).collect();
    assert_eq!(done, [2_000, 4_000, LEADS]);
    let lines = format!("leads of workspace {}: 4000 of {LEADS} rows", api.workspace_id);
    assert_eq!(reported[1].to_string(), lines);
    assert_eq!(found(&api, "jurgen+strasse").await, LEADS.to_string());
    assert_eq!(found(&api, "J%C3%BCRGEN").await, LEADS.to_string());
    assert_eq!(readiness(&api).await.0, 200);
}

#[tokio::test]
async fn several_processes_share_a_backfill() {
    let api = Api::start().await;
    fill(&mut api.connection().await, api.workspace_id).await;
    let settings = support::settings(api.database.url());
    let runs = (0..3).map(|_| shared::migrate::run(&settings.database, |_| ()));
    for run in futures_util::future::join_all(runs).await {
        run.unwrap();
    }
    assert_eq!(found(&api, "jurgen+strasse").await, LEADS.to_string());
}

#[tokio::test]
async fn a_backfill_of_a_later_version_stops_the_migration() {
    let api = Api::start().await;
    let mut connection = api.connection().await;
    let insert = "INSERT INTO backfills (workspace_id, name) VALUES ($1, 'invoices')";
    sqlx::query(insert).bind(api.workspace_id).execute(&mut connection).await.unwrap();
    let refused = shared::migrate::run(&support::settings(api.database.url()).database, |_| ()).await.unwrap_err();
    assert_eq!(refused.to_string(), "this version has no backfill \"invoices\"");
}

#[tokio::test]
async fn a_search_ignores_case_and_accents() {
    let api = Api::start().await;
    for (name, email) in [("Jörg Müller", "jm@example.com"), ("Mu\u{308}ller-Lüdenscheidt", "ml@example.com")] {
        api.create("/dev/crm/leads", json!({ "name": name, "email": email, "company": "Łódź Straße" })).await;
    }
    for q in ["muller", "M%C3%9CLLER", "mu%CC%88ller", "lodz+strasse", "lud", "MULL"] {
        let expected = if q == "lud" { "1" } else { "2" };
        assert_eq!(found(&api, q).await, expected, "{q}");
    }
    assert_eq!(found(&api, "mueller").await, "0");
}
