//! People sign in to the console with an API key, and their sessions are listed and ended over the API.

use reqwest::redirect::Policy;
use reqwest::{Client, Method};
use serde_json::{Value, json};
use shared::accounts::sessions;
use uuid::Uuid;

use crate::support::{self, Api, each, id};

const SESSIONS: &str = "/dev/crm/sessions";

/// A browser without a cookie jar: each test says which cookie it sends.
fn browser() -> Client {
    Client::builder().redirect(Policy::none()).build().unwrap()
}

async fn submit(api: &Api, form: &[(&str, &str)]) -> reqwest::Response {
    browser().post(api.url("/console/sign-in")).header("user-agent", "Lynx/2.9").form(form).send().await.unwrap()
}

fn cookie(answer: &reqwest::Response) -> String {
    assert_eq!(answer.status(), 303);
    let cookie = answer.headers()["set-cookie"].to_str().unwrap();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    cookie.split(';').next().unwrap().to_owned()
}

/// Signs in with a key, and returns the cookie.
pub async fn sign_in(api: &Api, key: &str) -> String {
    cookie(&submit(api, &[("key", key)]).await)
}

/// Whether the session of a cookie lasts.
async fn is_signed_in(api: &Api, cookie: &str) -> bool {
    let answer = browser().get(api.url("/console/settings/none")).header("cookie", cookie).send().await.unwrap();
    match answer.status().as_u16() {
        404 => true,
        303 => false,
        status => panic!("{status}"),
    }
}

async fn change(api: &Api, sql: &'static str) {
    assert_ne!(sqlx::query(sql).execute(&mut api.connection().await).await.unwrap().rows_affected(), 0, "{sql}");
}

async fn log(api: &Api, kind: &str) -> Value {
    api.read(&format!("/dev/crm/audit?type={kind}")).await
}

#[tokio::test]
async fn a_session_is_listed_and_ended() {
    let api = Api::start().await;
    let cookie = sign_in(&api, &api.key).await;
    let me = api.read("/dev/crm/me").await;
    let listed = api.read(SESSIONS).await;
    assert_eq!(each(&listed, "key_id"), [id(&me["key"])]);
    assert_eq!((&listed[0]["user_agent"], &listed[0]["address"]), (&json!("Lynx/2.9"), &json!("127.0.0.1")));
    let token = cookie.split('=').nth(1).unwrap();
    assert!(!listed.to_string().contains(token));
    let path = format!("{SESSIONS}/{}", id(&listed[0]));
    assert_eq!(api.read(&path).await, listed[0]);
    let started = log(&api, "session.started").await;
    assert_eq!(started[0]["actor"], json!({ "type": "api_key", "id": me["key"]["id"] }));
    assert_eq!(started[0]["subject"], json!({ "type": "session", "id": listed[0]["id"] }));

    assert!(is_signed_in(&api, &cookie).await);
    let stale = api.request(Method::DELETE, &path).header("if-match", "\"other\"");
    support::json(stale, 412).await;
    api.delete(&path, 204).await;
    assert!(!is_signed_in(&api, &cookie).await);
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
    let wide = sign_in(&api, &api.scoped_key("records:write").await).await;
    let narrow = sign_in(&api, &api.scoped_key("records:read").await).await;
    let listed = support::json(api.request_with(&manager, Method::GET, SESSIONS), 200).await;
    let path = |at: usize| format!("{SESSIONS}/{}", id(&listed[at]));
    let refused = support::json(api.request_with(&manager, Method::DELETE, &path(1)), 403).await;
    assert_eq!(refused["errors"], json!([{ "code": "scope", "field": "records:write" }]));
    assert_eq!(api.request_with(&manager, Method::DELETE, &path(0)).send().await.unwrap().status(), 204);
    assert!(is_signed_in(&api, &wide).await && !is_signed_in(&api, &narrow).await);
}

#[tokio::test]
async fn a_session_ends_with_its_key() {
    let api = Api::start().await;
    for end in [
        "UPDATE api_keys SET revoked_at = now() WHERE name = 'scoped'",
        "UPDATE api_keys SET expires_at = now() WHERE name = 'scoped'",
        "UPDATE api_keys SET scopes = '{keys}' WHERE name = 'scoped'",
    ] {
        let cookie = sign_in(&api, &api.scoped_key("records:read").await).await;
        assert!(is_signed_in(&api, &cookie).await);
        change(&api, end).await;
        assert!(!is_signed_in(&api, &cookie).await, "{end}");
        assert_eq!(api.read(SESSIONS).await, json!([]), "{end}");
    }
}

#[tokio::test]
async fn a_session_ends_an_hour_after_its_last_use_and_after_twelve_hours() {
    let api = Api::start().await;
    for (still, end) in [
        (
            "UPDATE sessions SET used_at = now() - interval '59 minutes'",
            "UPDATE sessions SET used_at = now() - interval '60 minutes'",
        ),
        (
            "UPDATE sessions SET expires_at = expires_at - interval '719 minutes'",
            "UPDATE sessions SET expires_at = expires_at - interval '1 minute'",
        ),
    ] {
        let cookie = sign_in(&api, &api.key).await;
        change(&api, still).await;
        assert!(is_signed_in(&api, &cookie).await, "{still}");
        change(&api, end).await;
        assert!(!is_signed_in(&api, &cookie).await, "{end}");
        assert_eq!(api.read(SESSIONS).await, json!([]), "{end}");
    }
}

#[tokio::test]
async fn each_sign_in_begins_a_new_session() {
    let api = Api::start().await;
    let first = sign_in(&api, &api.key).await;
    let request = browser().post(api.url("/console/sign-in")).header("cookie", &first).form(&[("key", &api.key)]);
    let second = cookie(&request.send().await.unwrap());
    assert_ne!(first, second);
    assert!(!is_signed_in(&api, &first).await && is_signed_in(&api, &second).await);
    // A cookie that somebody else has planted is not taken over.
    let planted = format!("{}{}", &second[..second.len() - 1], if second.ends_with('A') { 'B' } else { 'A' });
    assert!(!is_signed_in(&api, &planted).await);
    for wrong in ["", "crm_x", "Bearer"] {
        let refused = submit(&api, &[("key", wrong)]).await;
        assert_eq!((refused.status().as_u16(), refused.headers().get("set-cookie")), (401, None), "{wrong}");
    }
    assert_eq!(api.read(SESSIONS).await.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_link_signs_in_once_and_within_ten_minutes() {
    let api = Api::start().await;
    let me = api.read("/dev/crm/me").await;
    let key_id: Uuid = id(&me["key"]).parse().unwrap();
    let link = async || {
        let mut transaction = api.database.pool().begin().await.unwrap();
        let link = sessions::link(&mut transaction, api.workspace_id, key_id).await.unwrap();
        transaction.commit().await.unwrap();
        link.reveal()
    };
    let first = link().await;
    let page = browser().get(api.url(&format!("/console/sign-in?link={first}"))).send().await.unwrap();
    // Opening the link does not use it up, as a preview of it in a chat would.
    assert_eq!((page.status().as_u16(), page.headers().get("set-cookie")), (200, None));
    let cookie = cookie(&submit(&api, &[("link", &first)]).await);
    assert!(is_signed_in(&api, &cookie).await);
    assert_eq!(submit(&api, &[("link", &first)]).await.status(), 401);

    let late = link().await;
    change(&api, "UPDATE sign_in_links SET expires_at = expires_at - interval '10 minutes'").await;
    assert_eq!(submit(&api, &[("link", &late)]).await.status(), 401);
    change(&api, "UPDATE sign_in_links SET expires_at = expires_at + interval '1 minute'").await;
    assert_eq!(submit(&api, &[("link", &late)]).await.status(), 303);
}
