//! What operators and their machines ask.

use reqwest::Client;
use serde_json::json;
use shared::db;

use crate::support::{self, Api, empty_database};

#[tokio::test]
async fn a_process_is_ready_once_the_schema_is_there() {
    let database = empty_database().await;
    let (address, _stop, _) = support::serve(support::settings(database.url())).await;
    let get = |path: &str| Client::new().get(format!("http://{address}{path}"));
    assert_eq!(support::json(get("/healthz"), 200).await, json!({ "message": "alive" }));

    let answer = support::json(get("/readyz"), 503).await;
    let message = answer["message"].as_str().unwrap();
    let first = db::MIGRATOR.iter().next().unwrap().version.to_string();
    assert!(message.starts_with("Migrations are pending: ") && message.contains(&first), "{message}");

    db::migrate(&support::settings(database.url()).database).await.unwrap();
    assert_eq!(support::json(get("/readyz"), 200).await, json!({ "message": "ready" }));
}

#[tokio::test]
async fn a_process_starts_and_waits_while_its_database_is_away() {
    let (address, _stop, _) = support::serve(support::settings("postgres://crm@127.0.0.1:1/crm")).await;
    let get = |path: &str| Client::new().get(format!("http://{address}{path}"));
    assert_eq!(support::json(get("/healthz"), 200).await, json!({ "message": "alive" }));
    let away = json!({ "message": "The database cannot be reached" });
    assert_eq!(support::json(get("/readyz"), 503).await, away);
}

#[tokio::test]
async fn requests_are_counted_by_route_and_never_by_path() {
    let api = Api::start().await;
    let secret = "/dev/crm/leads/01890a5d-ac96-774b-bcce-b302099a8057?email=ann@example.com";
    api.get(secret).send().await.unwrap();
    api.get("/dev/crm/ann@example.com").send().await.unwrap();
    let metrics = Client::new().get(api.url("/metrics")).send().await.unwrap();
    assert_eq!(metrics.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let metrics = metrics.text().await.unwrap();
    for expected in [
        r#"crm_http_requests_total{method="GET",route="/dev/crm/leads/{leadId}",status="400"}"#,
        r#"crm_http_requests_total{method="GET",route="unmatched",status="404"}"#,
        r#"crm_http_request_duration_seconds_bucket{method="GET",route="/dev/crm/leads/{leadId}",le="0.05"}"#,
    ] {
        assert!(metrics.contains(expected), "{expected} in {metrics}");
    }
    assert!(!metrics.contains("ann@example.com") && !metrics.contains("01890a5d"), "{metrics}");
}
