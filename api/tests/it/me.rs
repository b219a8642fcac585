//! A caller asks who it is and what it may do.

use chrono::{TimeDelta, Utc};
use reqwest::{Client, Method};
use serde_json::json;

use crate::support::{self, Api, faults, id};

#[tokio::test]
async fn a_caller_learns_its_workspace_its_key_and_its_limits() {
    let api = Api::start_with(|settings| {
        settings.api.rate_limit_per_minute = 600;
        settings.api.max_body_bytes = 5_000;
    })
    .await;
    api.send(Method::PUT, "/dev/crm/settings", json!({ "time_zone": "Europe/Berlin" }), 200).await;
    let me = api.read("/dev/crm/me").await;
    assert_eq!(me["workspace"], json!({ "id": api.workspace_id, "name": "acme", "time_zone": "Europe/Berlin" }));
    assert_eq!((&me["key"]["name"], &me["key"]["expires_at"]), (&json!("test"), &json!(null)));
    assert_eq!(me["scopes"], json!(["*"]));
    assert_eq!(
        me["limits"],
        json!({
            "requests_per_minute": 600, "burst": 600, "url_bytes": 16_384, "body_bytes": 5_000,
            "batch_bytes": 16_777_216, "batch_items": 1_000, "upload_bytes": 10_737_418_240_u64, "page_records": 1_000
        })
    );

    let expires = Utc::now() + TimeDelta::days(1);
    let (key, stored) = api.new_key(Some(expires)).await;
    let other = support::json(Client::new().get(api.url("/dev/crm/me")).bearer_auth(key), 200).await;
    assert_eq!(id(&other["key"]), stored.id.to_string());
    assert_eq!(other["key"]["name"], "another");
    let shown = other["key"]["expires_at"].as_str().unwrap().parse::<chrono::DateTime<Utc>>().unwrap();
    assert!((shown - expires).abs() < TimeDelta::milliseconds(1));
}

#[tokio::test]
async fn a_caller_without_a_rate_limit_has_none() {
    let api = Api::start().await;
    let limits = api.read("/dev/crm/me").await["limits"].clone();
    assert_eq!((&limits["requests_per_minute"], &limits["burst"]), (&json!(null), &json!(null)));
    assert_eq!(faults(&support::json(api.get("/dev/crm/me?verbose=true"), 400).await), [("verbose", "unknown")]);
    support::json(Client::new().get(api.url("/dev/crm/me")), 401).await;
}
