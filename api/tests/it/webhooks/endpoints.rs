//! Webhooks are created, changed, listed and deleted.

use reqwest::Method;
use serde_json::{Value, json};

use super::{Setup, WEBHOOKS, settings};
use crate::doctor;
use crate::support::{self, Api, faults, id};

async fn api() -> Api {
    Api::start_with(|with| with.webhooks = settings("")).await
}

fn body() -> Value {
    json!({ "url": "https://example.com/hooks", "events": ["lead.*"] })
}

#[tokio::test]
async fn a_webhook_is_created_changed_and_deleted_and_its_secret_is_shown_once() {
    let api = api().await;
    let mut created = api
        .create(
            WEBHOOKS,
            json!({
                "url": "https://Example.com/hooks", "events": ["lead.*", "order.created"], "description": "Sync",
                "headers": { "Authorization": "Bearer hidden" }, "rate_limit": 10, "bulk": "each", "ordering": "subject",
            }),
        )
        .await;
    let secret = created.as_object_mut().unwrap().remove("secret").unwrap();
    assert!(secret.as_str().unwrap().starts_with("whsec_"));
    assert_eq!(created["url"], "https://example.com/hooks");
    assert_eq!(created["header_names"], json!(["Authorization"]));
    assert_eq!((&created["enabled"], &created["scopes"]), (&json!(true), &json!(["*"])));
    let path = format!("{WEBHOOKS}/{}", id(&created));
    assert_eq!(api.read(&path).await, created);
    assert_eq!(api.read(WEBHOOKS).await, json!([created]));
    assert_eq!(api.read(&format!("{WEBHOOKS}?enabled=false")).await, json!([]));

    // It can be sent back as it was read.
    assert_eq!(api.send(Method::PUT, &path, created.clone(), 200).await, created);
    let changed =
        json!({ "events": ["*"], "description": null, "rate_limit": null, "enabled": false, "headers": null });
    let changed = api.send(Method::PUT, &path, changed, 200).await;
    assert_eq!((&changed["events"], &changed["enabled"]), (&json!(["*"]), &json!(false)));
    assert_eq!((&changed["rate_limit"], &changed["header_names"]), (&Value::Null, &json!([])));
    assert_ne!(changed["updated_at"], created["updated_at"]);

    let stale = api.request(Method::PUT, &path).header("If-Match", "\"other\"").json(&json!({ "enabled": true }));
    support::json(stale, 412).await;
    api.delete(&path, 204).await;
    api.delete(&path, 404).await;
    support::json(api.get(&path), 404).await;
    support::json(api.get(&format!("{path}/deliveries")), 404).await;
    assert_eq!(api.read(WEBHOOKS).await, json!([]));
}

#[tokio::test]
async fn secrets_and_headers_are_encrypted_and_not_stored_for_an_idempotency_key() {
    let api = api().await;
    let mut with_headers = body();
    with_headers["headers"] = json!({ "Authorization": "Bearer hidden" });
    let create = || api.post(WEBHOOKS).header("Idempotency-Key", "once").json(&with_headers);
    let created = support::json(create(), 201).await;
    let secret = created["secret"].as_str().unwrap().to_owned();
    let replayed = support::json(create(), 201).await;
    assert_eq!((&replayed["id"], &replayed["secret"]), (&created["id"], &Value::Null));
    let rotated = api.post(&format!("{WEBHOOKS}/{}/rotate-secret", id(&created)));
    let rotated = support::json(rotated, 200).await["secret"].as_str().unwrap().to_owned();
    assert_ne!(rotated, secret);

    let dump: String = sqlx::query_scalar(
        "SELECT string_agg(encode(secret || coalesce(previous_secret, '') || headers, 'escape'), '') FROM webhooks",
    )
    .fetch_one(api.database.pool())
    .await
    .unwrap();
    let stored: String = sqlx::query_scalar("SELECT string_agg(encode(body, 'escape'), '') FROM idempotency_keys")
        .fetch_one(api.database.pool())
        .await
        .unwrap();
    for hidden in [&secret[6..], &rotated[6..], "hidden", "Authorization"] {
        assert!(!dump.contains(hidden), "{hidden}");
    }
    assert!(!stored.contains(&secret), "{stored}");
}

#[tokio::test]
async fn every_fault_of_a_webhook_is_reported() {
    let api = Api::start().await;
    let refused = async |body: Value| api.send(Method::POST, WEBHOOKS, body, 400).await;
    assert_eq!(faults(&refused(json!({})).await), [("url", "required"), ("events", "required")]);
    let all = refused(json!({
        "url": "http://example.com", "events": ["lead.created", "lead.exported"], "bulk": "some", "ordering": 1,
        "rate_limit": 0, "enabled": "yes", "headers": { "Host": "a", "X-A": 1 }, "secret": "whsec_", "scopes": ["*"],
    }));
    assert_eq!(
        faults(&all.await),
        [
            ("url", "scheme"),
            ("events", "unknown_type"),
            ("bulk", "invalid"),
            ("ordering", "invalid"),
            ("rate_limit", "out_of_range"),
            ("enabled", "invalid"),
            ("headers.Host", "reserved"),
            ("headers.X-A", "invalid"),
            ("scopes", "read_only"),
            ("secret", "unknown"),
        ]
    );
    for (url, code) in [
        ("https://user:pass@example.com", "credentials"),
        ("https://localhost:8443", "port"),
        ("https://127.0.0.1", "address"),
        ("https://[::ffff:169.254.169.254]/", "address"),
        ("https://2130706433", "address"),
        ("not a url", "invalid"),
    ] {
        assert_eq!(faults(&refused(json!({ "url": url, "events": ["*"] })).await), [("url", code)], "{url}");
    }
}

#[tokio::test]
async fn a_workspace_has_at_most_50_webhooks() {
    let api = api().await;
    for _ in 0..49 {
        api.create(WEBHOOKS, body()).await;
    }
    let create = || async { api.post(WEBHOOKS).json(&body()).send().await.unwrap().status().as_u16() };
    let (one, other) = tokio::join!(create(), create());
    assert_eq!([one, other].iter().sum::<u16>(), 201 + 409);
    let answer = api.send(Method::POST, WEBHOOKS, body(), 409).await;
    assert_eq!(answer["errors"][0]["code"], "limit_reached");
    // Another workspace has its own.
    let api = api.on("other").await;
    api.create(WEBHOOKS, body()).await;
}

#[tokio::test]
async fn changes_of_webhooks_are_in_the_audit_log_only() {
    let setup = Setup::start().await;
    let webhook = setup.webhook(json!({})).await;
    let path = format!("{WEBHOOKS}/{}", id(&webhook));
    setup.api.send(Method::PUT, &path, json!({ "rate_limit": 5 }), 200).await;
    setup.api.delete(&path, 204).await;
    let recorded: Vec<String> =
        sqlx::query_scalar("SELECT type FROM new_events WHERE subject_type = 'webhook' ORDER BY position")
            .fetch_all(setup.api.database.pool())
            .await
            .unwrap();
    assert_eq!(recorded, ["webhook.created", "webhook.updated", "webhook.deleted"]);
}

#[tokio::test]
async fn the_doctor_warns_without_a_key_and_fails_with_another_one() {
    let setup = Setup::start().await;
    setup.webhook(json!({ "headers": { "Authorization": "Bearer hidden" } })).await;
    let doctor = async |key: &str| doctor::examine(&setup.api.database, &[("CRM_WEBHOOKS__ENCRYPTION_KEY", key)]).await;
    let found = async |key: &str| doctor::finding(&doctor(key).await, "webhooks.secrets").clone();
    assert_eq!(found(super::KEY).await["level"], "ok");
    let warned = doctor("").await;
    let warnings: Vec<&str> = warned.iter().filter_map(|finding| finding["message"].as_str()).collect();
    assert!(warnings.iter().any(|message| message.starts_with("webhooks.encryption_key: ")), "{warnings:?}");
    let other = found("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=").await;
    assert_eq!(other["level"], "fault");
    let reason = other["message"].as_str().unwrap();
    assert!(reason.starts_with("2 secrets and headers of webhooks cannot be decrypted"), "{reason}");
}
