//! Keys are created, rotated and revoked over the API.

use std::time::Duration;

use chrono::{TimeDelta, Utc};
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{self, Api, each, faults, id, until};

const KEYS: &str = "/dev/crm/keys";

async fn create(api: &Api, scopes: &[&str]) -> Value {
    api.create(KEYS, json!({ "name": "website", "scopes": scopes })).await
}

fn secret(issued: &Value) -> &str {
    issued["key"].as_str().unwrap()
}

/// Whether a key is accepted, half a second after the last change at the latest.
async fn is_accepted(api: &Api, key: &str) -> bool {
    tokio::time::sleep(Duration::from_millis(600)).await;
    api.request_with(key, Method::GET, "/dev/crm/me").send().await.unwrap().status() == 200
}

#[tokio::test]
async fn a_key_is_created_listed_and_revoked() {
    let api = Api::start().await;
    let answer = api
        .post(KEYS)
        .json(&json!({ "name": " website ", "scopes": ["records:read", "records:write"], "expires_at": "2999-12-31" }))
        .send()
        .await
        .unwrap();
    let location = answer.headers()["location"].to_str().unwrap().to_owned();
    let issued = support::body(answer, 201).await;
    let path = format!("{KEYS}/{}", id(&issued));
    assert_eq!(location, path);
    assert!(secret(&issued).starts_with(issued["prefix"].as_str().unwrap()));
    assert_eq!(issued["scopes"], json!(["records:read", "records:write"]));
    assert_eq!((&issued["name"], &issued["expires_at"]), (&json!("website"), &json!("2999-12-31T00:00:00Z")));

    let mut stored = issued.clone();
    stored.as_object_mut().unwrap().remove("key");
    assert_eq!(api.read(&path).await, stored);
    let listed = api.read(KEYS).await;
    assert_eq!(each(&listed, "name"), ["website", "test"]);
    assert!(!listed.to_string().contains(secret(&issued)));
    let me = support::json(api.request_with(secret(&issued), Method::GET, "/dev/crm/me"), 200).await;
    assert_eq!((&me["key"]["id"], &me["scopes"]), (&issued["id"], &issued["scopes"]));

    api.delete(&path, 204).await;
    api.delete(&path, 404).await;
    support::json(api.get(&path), 404).await;
    assert_eq!(each(&api.read(KEYS).await, "name"), ["test"]);
    until(401, || api.request_with(secret(&issued), Method::GET, "/dev/crm/me")).await;
}

#[tokio::test]
async fn invalid_keys_are_named() {
    let api = Api::start().await;
    for (body, expected) in [
        (json!({}), vec![("name", "required"), ("scopes", "required")]),
        (json!({ "name": "x", "scopes": [] }), vec![("scopes", "required")]),
        (json!({ "name": "x", "scopes": "keys" }), vec![("scopes", "invalid")]),
        (json!({ "name": "x", "scopes": ["all"] }), vec![("scopes", "invalid")]),
        (json!({ "name": "x", "scopes": ["keys"], "expires_at": "2020-01-01" }), vec![("expires_at", "out_of_range")]),
        (json!({ "name": "x", "scopes": ["keys"], "prefix": "x" }), vec![("prefix", "unknown")]),
    ] {
        assert_eq!(faults(&api.send(Method::POST, KEYS, body, 400).await), expected);
    }
    let key = create(&api, &["records:read"]).await;
    let rotate = format!("{KEYS}/{}/rotate", id(&key));
    for hours in [json!(-1), json!(721), json!(1.5), json!("1"), json!(null)] {
        let answer = api.send(Method::POST, &rotate, json!({ "overlap_hours": hours }), 400).await;
        assert_eq!(answer["errors"][0]["field"], "overlap_hours", "{hours}");
    }
}

#[tokio::test]
async fn a_key_manages_only_keys_whose_scopes_are_among_its_own() {
    let api = Api::start().await;
    let manager = api.scoped_key("keys,records:read").await;
    let send = async |method, path: &str, body: Value, status: u16| {
        let answer = api.request_with(&manager, method, path).json(&body).send().await.unwrap();
        assert_eq!(answer.status(), status, "{path}");
        serde_json::from_str::<Value>(&answer.text().await.unwrap()).unwrap_or_default()
    };
    for (scopes, lacked) in [
        (json!(["*"]), json!([{ "code": "scope", "field": "*" }])),
        (json!(["records:read", "exports"]), json!([{ "code": "scope", "field": "exports" }])),
    ] {
        let refused = send(Method::POST, KEYS, json!({ "name": "x", "scopes": scopes }), 403).await;
        assert_eq!(refused["errors"], lacked);
    }
    let narrow = send(Method::POST, KEYS, json!({ "name": "x", "scopes": ["records:read"] }), 201).await;
    let wide = create(&api, &["records:read", "records:write"]).await;
    for (key, status) in [(&wide, 403), (&narrow, 200)] {
        let path = format!("{KEYS}/{}", id(key));
        send(Method::POST, &format!("{path}/rotate"), json!({}), status).await;
        send(Method::DELETE, &path, json!({}), if status == 200 { 204 } else { 403 }).await;
    }
    // All of them are listed, without the keys themselves.
    assert_eq!(send(Method::GET, KEYS, json!({}), 200).await.as_array().unwrap().len(), 3);
    assert!(is_accepted(&api, secret(&wide)).await);
}

#[tokio::test]
async fn a_rotated_key_overlaps_with_the_old_one() {
    let api = Api::start().await;
    let expires_at = "2999-12-31T00:00:00Z";
    let body = json!({ "name": "website", "scopes": ["records:read"], "expires_at": expires_at });
    let first = api.create(KEYS, body).await;
    let path = format!("{KEYS}/{}", id(&first));
    let rotate = async |body: Value| api.send(Method::POST, &format!("{path}/rotate"), body, 200).await;

    let second = support::json(api.post(&format!("{path}/rotate")), 200).await;
    for field in ["id", "name", "scopes", "expires_at", "created_at"] {
        assert_eq!(second[field], first[field], "{field}");
    }
    let until = second["old_key_until"].as_str().unwrap().parse::<chrono::DateTime<Utc>>().unwrap();
    assert!((until - Utc::now() - TimeDelta::hours(24)).abs() < TimeDelta::minutes(1), "{until}");
    // The response to the first rotation may be lost, so another one does not end the first key.
    let third = rotate(json!({ "overlap_hours": 1 })).await;
    assert_eq!(third["old_key_until"], second["old_key_until"]);
    let fourth = rotate(json!({ "overlap_hours": 0 })).await;
    for (key, accepted) in [(&first, true), (&second, true), (&third, false), (&fourth, true)] {
        assert_eq!(is_accepted(&api, secret(key)).await, accepted, "{key}");
    }
    let me = support::json(api.request_with(secret(&first), Method::GET, "/dev/crm/me"), 200).await;
    assert_eq!((&me["key"]["id"], &me["key"]["expires_at"]), (&first["id"], &json!(expires_at)));

    // An old key ends at its time, and all of them with the key.
    sqlx::query(
        "UPDATE rotated_keys SET valid_until = now() WHERE valid_until = (SELECT min(valid_until) FROM rotated_keys)",
    )
    .execute(api.database.pool())
    .await
    .unwrap();
    assert!(!is_accepted(&api, secret(&second)).await && is_accepted(&api, secret(&first)).await);
    api.delete(&path, 204).await;
    assert!(!is_accepted(&api, secret(&first)).await && !is_accepted(&api, secret(&fourth)).await);

    let expired = create(&api, &["records:read"]).await;
    sqlx::query("UPDATE api_keys SET expires_at = now() WHERE scopes = '{records:read}'")
        .execute(api.database.pool())
        .await
        .unwrap();
    let conflict = api.send(Method::POST, &format!("{KEYS}/{}/rotate", id(&expired)), json!({}), 409).await;
    assert_eq!(conflict["errors"][0]["code"], "key_expired");
}

#[tokio::test]
async fn the_last_key_that_manages_keys_stays() {
    let api = Api::start().await;
    let own = support::json(api.get("/dev/crm/me"), 200).await;
    let path = format!("{KEYS}/{}", id(&own["key"]));
    create(&api, &["records:read"]).await;
    let expired = create(&api, &["keys"]).await;
    sqlx::query("UPDATE api_keys SET expires_at = now() WHERE scopes = '{keys}'")
        .execute(api.database.pool())
        .await
        .unwrap();
    let last = support::json(api.request(Method::DELETE, &path), 409).await;
    assert_eq!(last["errors"][0]["code"], "last_key");
    assert_eq!(last["errors"][0]["id"], own["key"]["id"]);
    api.delete(&format!("{KEYS}/{}", id(&expired)), 204).await;
    let other = create(&api, &["*"]).await;
    let stale = api.request(Method::DELETE, &path).header("if-match", "\"x\"").send().await.unwrap();
    assert_eq!(stale.status(), 412);

    // Of two requests that revoke the last two at once, one fails.
    let both = [path, format!("{KEYS}/{}", id(&other))];
    let answers = join_all(both.iter().map(|path| api.request(Method::DELETE, path).send())).await;
    let mut statuses: Vec<u16> = answers.into_iter().map(|answer| answer.unwrap().status().as_u16()).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [204, 409]);
}

#[tokio::test]
async fn a_repeated_request_does_not_show_the_key_again() {
    let api = Api::start().await;
    let send = async |path: &str, body: Value, status| {
        let answer = api.post(path).header("idempotency-key", path).json(&body).send().await.unwrap();
        (answer.headers().contains_key("idempotent-replayed"), support::body(answer, status).await)
    };
    let body = json!({ "name": "website", "scopes": ["records:read"] });
    let (_, first) = send(KEYS, body.clone(), 201).await;
    let (is_replayed, again) = send(KEYS, body, 201).await;
    assert!(is_replayed && first["key"].is_string());
    assert_eq!(again["key"], json!(null));
    assert_eq!((&again["id"], &again["prefix"]), (&first["id"], &first["prefix"]));
    let path = format!("{KEYS}/{}/rotate", id(&first));
    let (_, rotated) = send(&path, json!({}), 200).await;
    let (is_replayed, again) = send(&path, json!({}), 200).await;
    assert!(is_replayed && rotated["key"].is_string() && again["key"].is_null());
    let stored: i64 = sqlx::query_scalar("SELECT count(*) FROM idempotency_keys WHERE convert_from(body, 'UTF8') LIKE '%\"crm_%\"%' AND convert_from(body, 'UTF8') ~ 'crm_[0-9A-Za-z]{36}'")
        .fetch_one(api.database.pool())
        .await
        .unwrap();
    assert_eq!(stored, 0);
}

#[tokio::test]
async fn a_key_remembers_the_address_of_its_last_use() {
    let api = Api::start().await;
    let issued = create(&api, &["records:read"]).await;
    support::json(api.request_with(secret(&issued), Method::GET, "/dev/crm/me"), 200).await;
    let database = api.stopped().await;
    let address: Option<String> =
        sqlx::query_scalar("SELECT last_used_ip FROM api_keys WHERE scopes = '{records:read}'")
            .fetch_one(database.pool())
            .await
            .unwrap();
    assert_eq!(address.as_deref(), Some("127.0.0.1"));
}

#[tokio::test]
async fn keys_of_another_workspace_do_not_exist() {
    let api = Api::start().await;
    let theirs = create(&api, &["records:read"]).await;
    let path = format!("{KEYS}/{}", id(&theirs));
    let api = api.on("another").await;
    support::json(api.get(&path), 404).await;
    support::json(api.post(&format!("{path}/rotate")), 404).await;
    api.delete(&path, 404).await;
    assert_eq!(api.read(KEYS).await.as_array().unwrap().len(), 1);
}
