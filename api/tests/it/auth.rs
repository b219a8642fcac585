//! Nobody gets in without a key, and a key opens one workspace.

use std::time::{Duration, Instant};

use chrono::Utc;
use reqwest::{Client, Method};
use serde_json::json;
use shared::accounts::api_keys;
use shared::accounts::scopes::Scopes;
use shared::accounts::workspaces;

use crate::support::{self, Api, Served, body, until};

/// Existing, unknown and wrong ones: without a key nothing is to be learned about a path.
const PATHS: &[(&str, &str)] = &[
    ("GET", "/dev/crm"),
    ("GET", "/dev/crm/"),
    ("GET", "/dev/crm//"),
    ("GET", "/dev/crm/leads"),
    ("GET", "/dev/crm/leads?limt=1"),
    ("GET", "/dev/crm/leads/not-a-uuid"),
    ("POST", "/dev/crm/leads"),
    ("POST", "/dev/crm/leads/import"),
    ("PATCH", "/dev/crm/leads"),
    ("OPTIONS", "/dev/crm/leads"),
    ("DELETE", "/dev/crm/no/such/thing"),
];

async fn is_refused(request: reqwest::RequestBuilder) {
    let response = request.send().await.unwrap();
    assert_eq!(response.headers()["www-authenticate"], "Bearer");
    assert!(response.headers().contains_key("x-request-id"));
    assert_eq!(body(response, 401).await, json!({ "message": "Invalid or missing API key" }));
}

#[tokio::test]
async fn every_path_asks_for_a_key_before_anything_else() {
    let api = Api::start().await;
    for (method, path) in PATHS {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        is_refused(Client::new().request(method, api.url(path)).body("not even JSON")).await;
    }
}

#[tokio::test]
async fn what_is_no_key_does_not_open() {
    let api = Api::start().await;
    let (expired, _) = api.new_key(Some(Utc::now() - Duration::from_secs(1))).await;
    let of_elsewhere = Api::start().await.key;
    let (head, last) = api.key.split_at(api.key.len() - 1);
    let mistyped = format!("{head}{}", if last == "0" { "1" } else { "0" });
    for authorization in [
        String::new(),
        api.key.clone(),
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        format!("Basic {}", api.key),
        format!("Bearer {} {}", api.key, api.key),
        format!("Bearer {mistyped}"),
        format!("Bearer {expired}"),
        format!("Bearer {of_elsewhere}"),
    ] {
        is_refused(Client::new().get(api.url("/dev/crm/leads")).header("authorization", authorization)).await;
    }
    let lower_case = format!("bearer {}", api.key);
    let answer = Client::new().get(api.url("/dev/crm/leads")).header("authorization", lower_case).send().await;
    assert_eq!(answer.unwrap().status(), 200);
}

#[tokio::test]
async fn a_mistyped_key_is_known_without_the_database() {
    let key = Api::start().await.key;
    // Nothing listens there.
    let mut settings = support::settings("postgres://crm@127.0.0.1:1/crm");
    settings.database.acquire_timeout_s = 1;
    let Served { address, stop: _stop, .. } = support::serve(settings).await;
    let leads = |key: &str| Client::new().get(format!("http://{address}/dev/crm/leads")).bearer_auth(key);

    is_refused(leads(&key.replacen("crm_", "crm_0", 1)[..40])).await;
    let well_formed = leads(&key).send().await.unwrap();
    assert_eq!(well_formed.headers()["retry-after"], "1");
    assert_eq!(body(well_formed, 503).await, json!({ "message": "Service temporarily unavailable" }));
}

#[tokio::test]
async fn a_revoked_key_is_refused_within_a_second() {
    let api = Api::start().await;
    let (key, stored) = api.new_key(None).await;
    let leads = || Client::new().get(api.url("/dev/crm/leads")).bearer_auth(&key);
    assert_eq!(leads().send().await.unwrap().status(), 200);

    // In another process, as far as the API can tell.
    api_keys::revoke_any(&mut api.connection().await, api.workspace_id, stored.id).await.unwrap();

    let took = until(401, leads).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
    is_refused(leads()).await;
    assert_eq!(api.get("/dev/crm/leads").send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_key_expires_when_it_says() {
    let api = Api::start().await;
    let expiry = Instant::now() + Duration::from_secs(8);
    let (key, _) = api.new_key(Some(Utc::now() + Duration::from_secs(8))).await;
    let leads = || Client::new().get(api.url("/dev/crm/leads")).bearer_auth(&key);
    assert_eq!(leads().send().await.unwrap().status(), 200);
    until(401, leads).await;
    let late = expiry.elapsed();
    assert!(late < Duration::from_secs(1), "{late:?} after it expired");
}

#[tokio::test]
async fn records_of_another_workspace_do_not_exist() {
    let api = Api::start().await;
    let lead = json!({ "name": "Ann", "email": "ann@example.com" });
    let lead = support::json(api.post("/dev/crm/leads").json(&lead), 201).await;
    let path = format!("/dev/crm/leads/{}", lead["id"].as_str().unwrap());

    let mut connection = api.connection().await;
    let other = workspaces::create(&mut connection, "other").await.unwrap();
    let (key, _) = support::new_key(&mut connection, other.id, "test", Scopes::ALL, None).await;
    let elsewhere = |method, path: &str| Client::new().request(method, api.url(path)).bearer_auth(key.reveal());

    for method in [Method::GET, Method::DELETE] {
        let answer = support::json(elsewhere(method, &path), 404).await;
        assert_eq!(answer, json!({ "message": "Resource not found" }));
    }
    assert_eq!(support::json(elsewhere(Method::GET, "/dev/crm/leads"), 200).await, json!([]));
    assert_eq!(support::json(api.get(&path), 200).await, lead);
}

#[tokio::test]
async fn a_key_remembers_when_it_was_last_used() {
    let api = Api::start().await;
    let begun = Utc::now();
    for _ in 0..3 {
        assert_eq!(api.get("/dev/crm/leads").send().await.unwrap().status(), 200);
    }
    let workspace_id = api.workspace_id;
    let database = api.stopped().await;
    let mut connection = support::connect(database.url()).await;
    let keys = api_keys::list(&mut connection, workspace_id).await.unwrap();
    assert!(keys[0].last_used_at.unwrap() >= begun, "{keys:?}");
}
