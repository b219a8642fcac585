//! Health checks, readiness and metrics for operators.

use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};
use shared::platform::db;
use testing::Database;

use crate::support::{self, Api, Served};

fn get(address: std::net::SocketAddr, path: &str) -> RequestBuilder {
    Client::new().get(format!("http://{address}{path}"))
}

async fn message(address: std::net::SocketAddr, path: &str, status: u16) -> Value {
    support::json(get(address, path), status).await["message"].clone()
}

#[tokio::test]
async fn a_process_is_ready_once_migrations_are_applied() {
    let database = Database::empty().await;
    let Served { address, admin, stop: _stop, .. } = support::serve(support::settings(database.url())).await;
    assert_eq!(message(address, "/healthz", 200).await, "alive");
    assert_eq!(message(admin, "/healthz", 200).await, "alive");

    // Only the admin port reports the reason.
    assert_eq!(message(address, "/readyz", 503).await, "unavailable");
    let reason = message(admin, "/readyz", 503).await;
    let first = db::MIGRATOR.iter().next().unwrap().version.to_string();
    let reason = reason.as_str().unwrap();
    assert!(reason.starts_with("Migrations are pending: ") && reason.contains(&first), "{reason}");

    shared::migrate::run(&support::settings(database.url()).database, |_| ()).await.unwrap();
    assert_eq!(message(address, "/readyz", 200).await, "ready");
    assert_eq!(message(admin, "/readyz", 200).await, "ready");
}

#[tokio::test]
async fn a_process_starts_and_waits_while_its_database_is_unavailable() {
    let served = support::serve(support::settings("postgres://crm@127.0.0.1:1/crm")).await;
    assert_eq!(message(served.address, "/healthz", 200).await, "alive");
    assert_eq!(message(served.address, "/readyz", 503).await, "unavailable");
    assert_eq!(message(served.admin, "/readyz", 503).await, "The database cannot be reached");
    // Metrics stay available during an outage.
    let metrics = get(served.admin, "/metrics").send().await.unwrap();
    assert_eq!(metrics.status(), 200);
}

#[tokio::test]
async fn requests_are_counted_by_route_and_never_by_path() {
    let api = Api::start().await;
    let secret = "/dev/crm/leads/01890a5d-ac96-774b-bcce-b302099a8057?email=ann@example.com";
    api.get(secret).send().await.unwrap();
    api.get("/dev/crm/ann@example.com").send().await.unwrap();
    let metrics = get(api.admin, "/metrics").send().await.unwrap();
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

#[tokio::test]
async fn metrics_are_served_on_the_admin_port_only() {
    let api = Api::start().await;
    let missing = json!({ "message": "Resource not found" });
    for path in ["/metrics", "/metrics/cluster"] {
        assert_eq!(support::json(get(api.address, path), 404).await, missing);
    }
    assert_eq!(support::json(get(api.admin, "/dev/crm/leads"), 404).await, missing);
    let document = support::json(get(api.address, "/openapi.json"), 200).await;
    assert!(document["paths"]["/healthz"].is_object() && document["paths"]["/metrics"].is_null());
    for path in ["/healthz", "/metrics", "/metrics/cluster", "/nothing"] {
        let answer = get(api.admin, path).send().await.unwrap();
        assert_eq!(answer.headers()["x-content-type-options"], "nosniff", "{path}");
        assert_eq!(answer.headers()["cache-control"], "no-store", "{path}");
    }
}
