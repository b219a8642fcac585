//! The audit log lists who did what, and when.

use reqwest::Method;
use serde_json::{Value, json};
use testing::Process;

use crate::support::{self, Api, each, faults, id};

const AUDIT: &str = "/dev/crm/audit";

/// The types in the log, newest first.
async fn types(api: &Api, query: &str) -> Vec<String> {
    let log = api.read(&format!("{AUDIT}{query}")).await;
    each(&log, "type").into_iter().map(str::to_owned).collect()
}

#[tokio::test]
async fn who_did_what_is_listed_newest_first() {
    let api = Api::start().await;
    api.leaves_jobs("nurture_leads");
    let me = api.read("/dev/crm/me").await;
    let lead = api.create("/dev/crm/leads", json!({ "name": "Ada", "email": "ada@example.com" })).await;
    let path = format!("/dev/crm/leads/{}", id(&lead));
    let change = api.request(Method::PUT, &path).header("x-request-id", "r-1").json(&json!({ "company": "Engines" }));
    support::json(change, 200).await;
    api.get("/dev/crm/leads/export").send().await.unwrap().error_for_status().unwrap();
    api.delete(&path, 204).await;
    api.send(Method::PUT, "/dev/crm/settings", json!({ "time_zone": "Europe/Berlin" }), 200).await;
    let key = api.create("/dev/crm/keys", json!({ "name": "x", "scopes": ["records:read"] })).await;
    api.send(Method::POST, &format!("/dev/crm/keys/{}/rotate", id(&key)), json!({}), 200).await;
    api.delete(&format!("/dev/crm/keys/{}", id(&key)), 204).await;
    let start = "/dev/crm/leads/nurture/start";
    let job = support::json(api.post(start), 202).await;
    // The same job, which nobody has created again.
    support::json(api.post(start), 202).await;
    let job = format!("/dev/crm/jobs/{}", id(&job));
    support::json(api.post(&format!("{job}/cancel")), 200).await;
    support::json(api.post(&format!("{job}/retry")), 202).await;
    let user = api.create("/dev/crm/users", json!({ "name": "Eve", "email": "eve@example.com" })).await;
    let suppression = api.create("/dev/crm/suppressions", json!({ "email": "eve@example.com" })).await;
    api.delete(&format!("/dev/crm/suppressions/{}", id(&suppression)), 204).await;
    assert_eq!(
        types(&api, "").await,
        [
            "suppression.deleted",
            "suppression.created",
            "user.created",
            "job.retried",
            "job.cancelled",
            "job.created",
            "api_key.revoked",
            "api_key.updated",
            "api_key.created",
            "settings.updated",
            "lead.deleted",
            "lead.exported",
            "lead.updated",
            "lead.created",
        ]
    );

    let updated = &api.read(&format!("{AUDIT}?type=lead.updated")).await[0];
    assert_eq!(updated["actor"], json!({ "type": "api_key", "id": me["key"]["id"] }));
    assert_eq!(updated["subject"], json!({ "type": "lead", "id": lead["id"] }));
    assert_eq!(
        (&updated["request_id"], &updated["changes"]),
        (&json!("r-1"), &json!({ "company": { "from": null, "to": "Engines" } }))
    );
    let log = api.read(AUDIT).await.to_string();
    assert!(!log.contains(key["key"].as_str().unwrap()) && !log.contains("ada@example.com"), "{log}");

    for (query, expected) in [
        ("?action=user.created,lead.created", vec!["user.created", "lead.created"]),
        ("?subject.type=api_key", vec!["api_key.revoked", "api_key.updated", "api_key.created"]),
        (&format!("?subject.id={}", id(&lead)), vec!["lead.deleted", "lead.updated", "lead.created"]),
        (&format!("?subject.id={}", id(&user)), vec!["user.created"]),
        ("?actor.type=job", vec![]),
        (&format!("?actor.id={}&type=settings.updated", id(&me["key"])), vec!["settings.updated"]),
        ("?created_at_from=2999-01-01", vec![]),
        ("?created_at_to=2020-01-01", vec![]),
    ] {
        assert_eq!(types(&api, query).await, expected, "{query}");
    }
    let unknown = support::json(api.get(&format!("{AUDIT}?type=lead.eaten&who=me")), 400).await;
    assert_eq!(faults(&unknown), [("type", "invalid"), ("who", "unknown")]);
}

#[tokio::test]
async fn pages_miss_nothing_while_events_get_their_numbers() {
    let api = Api::start().await;
    for n in 0..5 {
        api.create("/dev/crm/leads", json!({ "name": "x", "email": format!("{n}@example.com") })).await;
    }
    let whole = api.read(AUDIT).await;
    let first = api.get(&format!("{AUDIT}?limit=2")).send().await.unwrap();
    let cursor = first.headers()["x-next-cursor"].to_str().unwrap().to_owned();
    let first = support::body(first, 200).await;
    let _worker = Process::worker(&api.database, &[]);
    let numbered = async || -> i64 {
        sqlx::query_scalar("SELECT count(*) FROM events").fetch_one(api.database.pool()).await.unwrap()
    };
    while numbered().await < 5 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let rest = api.read(&format!("{AUDIT}?limit=10&cursor={cursor}")).await;
    let pages: Vec<Value> = [first, rest].iter().flat_map(|page| page.as_array().unwrap().clone()).collect();
    assert_eq!(json!(pages), whole);
}

#[tokio::test]
async fn values_are_shown_to_keys_that_may_read_them() {
    let api = Api::start().await;
    let lead = api.create("/dev/crm/leads", json!({ "name": "Ada", "email": "ada@example.com" })).await;
    api.send(Method::PUT, &format!("/dev/crm/leads/{}", id(&lead)), json!({ "company": "Engines" }), 200).await;
    let user = api.create("/dev/crm/users", json!({ "name": "Eve", "email": "eve@example.com" })).await;
    api.send(Method::PUT, &format!("/dev/crm/users/{}", id(&user)), json!({ "name": "Mallory" }), 200).await;
    for (scopes, sees_lead, sees_user) in
        [("keys", false, false), ("keys,records:read", true, false), ("keys,settings", false, true), ("*", true, true)]
    {
        let key = api.scoped_key(scopes).await;
        let log = support::json(api.request_with(&key, Method::GET, AUDIT), 200).await.to_string();
        assert_eq!((log.contains("Engines"), log.contains("Mallory")), (sees_lead, sees_user), "{scopes}");
    }
    let reads = api.scoped_key("records:read").await;
    support::json(api.request_with(&reads, Method::GET, AUDIT), 403).await;
}

#[tokio::test]
async fn the_feed_shows_what_a_key_may_read() {
    let api = Api::start().await;
    api.leaves_jobs("nurture_leads");
    let _worker = Process::worker(&api.database, &["--queues", "mail"]);
    api.create("/dev/crm/leads", json!({ "name": "Ada", "email": "ada@example.com" })).await;
    api.create("/dev/crm/users", json!({ "name": "Eve", "email": "eve@example.com" })).await;
    api.create("/dev/crm/suppressions", json!({ "email": "eve@example.com" })).await;
    api.create("/dev/crm/keys", json!({ "name": "x", "scopes": ["records:read"] })).await;
    api.send(Method::PUT, "/dev/crm/settings", json!({ "time_zone": "Europe/Berlin" }), 200).await;
    let job = support::json(api.post("/dev/crm/leads/nurture/start?dry_run=true"), 202).await;
    let preview = "UPDATE jobs SET result = '{\"preview\": [\"ada@example.com\"]}' WHERE kind = 'nurture_leads'";
    sqlx::query(preview).execute(api.database.pool()).await.unwrap();
    support::json(api.post(&format!("/dev/crm/jobs/{}/cancel", id(&job))), 200).await;
    let seen = async |key: &str| {
        let feed = support::json(api.request_with(key, Method::GET, "/dev/crm/events"), 200).await;
        each(&feed, "type").into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let all = [
        "lead.created",
        "user.created",
        "suppression.created",
        "api_key.created",
        "settings.updated",
        "job.changed",
        "job.cancelled",
    ];
    while seen(&api.key).await.len() < all.len() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(seen(&api.key).await, all);
    for (scopes, expected) in [
        ("records:read", vec!["lead.created"]),
        ("records:read,imports", vec!["lead.created"]),
        ("records:read,workflows", vec!["lead.created", "job.changed", "job.cancelled"]),
        ("records:read,settings,keys", vec!["lead.created", "user.created", "api_key.created", "settings.updated"]),
        ("records:read,emails:read", vec!["lead.created", "suppression.created"]),
    ] {
        let key = api.scoped_key(scopes).await;
        assert_eq!(seen(&key).await, expected, "{scopes}");
    }
    let key = api.scoped_key("records:read").await;
    for path in ["/dev/crm/events", "/dev/crm/events/stream"] {
        let path = format!("{path}?type=suppression.created,lead.created");
        let refused = support::json(api.request_with(&key, Method::GET, &path), 403).await;
        assert_eq!(refused["errors"], json!([{ "code": "scope", "field": "emails:read" }]));
    }
}
