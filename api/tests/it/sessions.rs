//! People sign in to the console with an API key, and their sessions are listed and ended over the API.

use reqwest::Method;
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use testing::earlier;

use crate::console::support::Visitor;
use crate::support::{self, Api, each, id};

const SESSIONS: &str = "/dev/crm/sessions";

/// Whether the session of a browser lasts.
async fn is_signed_in(visitor: &Visitor) -> bool {
    visitor.visit("/console").await.status == 200
}

async fn change(api: &Api, sql: &str) {
    let changed = sqlx::query(AssertSqlSafe(sql.to_owned())).execute(&mut api.connection().await).await.unwrap();
    assert_ne!(changed.rows_affected(), 0, "{sql}");
}

async fn log(api: &Api, kind: &str) -> Value {
    api.read(&format!("/dev/crm/audit?type={kind}")).await
}

#[tokio::test]
async fn a_session_is_listed_and_ended() {
    let api = Api::start().await;
    let visitor = Visitor::new(&api).with_key(&api.key).await;
    let me = api.read("/dev/crm/me").await;
    let listed = api.read(SESSIONS).await;
    assert_eq!(each(&listed, "key_id"), [id(&me["key"])]);
    assert_eq!((&listed[0]["user_agent"], &listed[0]["address"]), (&Value::Null, &json!("127.0.0.1")));
    let token = visitor.cookie.split('=').nth(1).unwrap();
    assert!(!listed.to_string().contains(token));
    let path = format!("{SESSIONS}/{}", id(&listed[0]));
    assert_eq!(api.read(&path).await, listed[0]);
    let started = log(&api, "session.started").await;
    assert_eq!(started[0]["actor"], json!({ "type": "api_key", "id": me["key"]["id"] }));
    assert_eq!(started[0]["subject"], json!({ "type": "session", "id": listed[0]["id"] }));

    assert!(is_signed_in(&visitor).await);
    let stale = api.request(Method::DELETE, &path).header("if-match", "\"other\"");
    support::json(stale, 412).await;
    api.delete(&path, 204).await;
    assert!(!is_signed_in(&visitor).await);
    api.delete(&path, 404).await;
    assert_eq!(api.read(SESSIONS).await, json!([]));
    let ended = log(&api, "session.ended").await;
    assert_eq!((&ended[0]["actor"]["type"], &ended[0]["subject"]["id"]), (&json!("api_key"), &listed[0]["id"]));
    // The key stays valid.
    api.read("/dev/crm/me").await;
}

#[tokio::test]
async fn a_key_ends_only_sessions_of_keys_whose_scopes_are_among_its_own() {
    let api = Api::start().await;
    let manager = api.scoped_key("keys,records:read").await;
    let wide = Visitor::signed_in(&api, "records:write").await;
    let narrow = Visitor::signed_in(&api, "records:read").await;
    let listed = support::json(api.request_with(&manager, Method::GET, SESSIONS), 200).await;
    let path = |at: usize| format!("{SESSIONS}/{}", id(&listed[at]));
    let refused = support::json(api.request_with(&manager, Method::DELETE, &path(1)), 403).await;
    assert_eq!(refused["errors"], json!([{ "code": "scope", "field": "records:write" }]));
    assert_eq!(api.request_with(&manager, Method::DELETE, &path(0)).send().await.unwrap().status(), 204);
    assert!(is_signed_in(&wide).await && !is_signed_in(&narrow).await);
}

#[tokio::test]
async fn sessions_that_have_ended_are_not_listed() {
    let api = Api::start().await;
    let [nearly, fully] =
        ["719 minutes", "1 minute"].map(|by| format!("UPDATE sessions SET {}", earlier("expires_at", by)));
    for (still, end) in [
        ("", "UPDATE api_keys SET revoked_at = now() WHERE name = 'scoped'"),
        ("", "UPDATE api_keys SET expires_at = now() WHERE name = 'scoped'"),
        ("", "UPDATE api_keys SET scopes = '{keys}' WHERE name = 'scoped'"),
        (
            "UPDATE sessions SET used_at = now() - interval '59 minutes'",
            "UPDATE sessions SET used_at = now() - interval '60 minutes'",
        ),
        (&nearly, &fully),
    ] {
        let visitor = Visitor::signed_in(&api, "records:read").await;
        if !still.is_empty() {
            change(&api, still).await;
        }
        assert!(is_signed_in(&visitor).await, "{still}");
        assert_eq!(api.read(SESSIONS).await.as_array().unwrap().len(), 1, "{still}");
        change(&api, end).await;
        assert!(!is_signed_in(&visitor).await, "{end}");
        assert_eq!(api.read(SESSIONS).await, json!([]), "{end}");
    }
}
