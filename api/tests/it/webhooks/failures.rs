//! Receivers that fail: retries, disablement, and workers that die.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::Method;
use serde_json::{Value, json};
use testing::receiver::Answer;

use super::{LEADS, Setup, WEBHOOKS, verifies};
use crate::support::{self, id};

fn time(value: &Value) -> DateTime<Utc> {
    value.as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_failed_delivery_is_retried_as_planned_with_the_same_body_and_then_listed() {
    let setup = Setup::start().await;
    setup.receiver.script(|_| Answer { body: "x".repeat(5_000).into(), ..Answer::status(500) });
    let _worker = setup.worker();
    let webhook = setup.webhook(json!({})).await;
    setup.lead("ada").await;
    for (attempt, wait) in [(1, 5), (2, 300), (3, 1_800), (4, 7_200), (5, 18_000), (6, 36_000), (7, 36_000)] {
        let is_next = |all: &[Value]| all.len() == 1 && all[0]["attempts"] == attempt;
        let delivery = setup.until(&webhook, "attempted", is_next).await.remove(0);
        assert_eq!((&delivery["state"], &delivery["status"]), (&json!("pending"), &json!(500)));
        assert_eq!(delivery["response"].as_str().unwrap().len(), 1024);
        let waits = time(&delivery["next_attempt_at"]) - time(&delivery["updated_at"]);
        let planned = chrono::TimeDelta::seconds(wait);
        assert!(waits >= planned && waits <= planned * 6 / 5, "{waits} after attempt {attempt}");
        setup.hurry().await;
    }
    let failed = setup.until_all(&webhook, 1, "failed").await;
    assert_eq!((&failed[0]["attempts"], &failed[0]["next_attempt_at"]), (&json!(8), &Value::Null));
    let received = setup.receiver.received();
    assert_eq!(received.len(), 8);
    let same: BTreeSet<_> = received.iter().map(|it| (it.header("webhook-id").to_owned(), it.body.clone())).collect();
    assert_eq!(same.len(), 1);
    assert!(received.iter().all(|request| verifies(request, &webhook["secret"])));
    assert!(setup.api.read(&format!("{WEBHOOKS}/{}", id(&webhook))).await["failing_since"].is_string());

    // A caller repeats it.
    setup.receiver.answer(204);
    let path = format!("{WEBHOOKS}/{}/deliveries/{}/retry", id(&webhook), id(&failed[0]));
    support::json(setup.api.post(&path), 200).await;
    let delivered = setup.until_all(&webhook, 1, "delivered").await;
    assert_eq!(delivered[0]["attempts"], 1);
    assert!(setup.api.read(&format!("{WEBHOOKS}/{}", id(&webhook))).await["failing_since"].is_null());
}

#[tokio::test]
async fn a_receiver_can_ask_for_time_and_a_redirect_is_a_failure() {
    let setup = Setup::start().await;
    let target = setup.receiver.url("/elsewhere");
    setup.receiver.script(move |request| match request.json()["type"].as_str() {
        Some("lead.created") => Answer { headers: vec![("retry-after", "3600".to_owned())], ..Answer::status(429) },
        _ => Answer { headers: vec![("location", target.clone())], ..Answer::status(307) },
    });
    let _worker = setup.worker();
    let webhook = setup.webhook(json!({})).await;
    let lead = setup.lead("ada").await;
    setup.api.delete(&format!("{LEADS}/{}", id(&lead)), 204).await;
    let all = setup.until(&webhook, "attempted", |all| all.iter().filter(|it| it["attempts"] == 1).count() == 2).await;
    let of = |event_type: &str| all.iter().find(|it| it["event_type"] == event_type).unwrap();
    let waits = time(&of("lead.created")["next_attempt_at"]) - time(&of("lead.created")["updated_at"]);
    assert_eq!(waits.num_seconds(), 3_600);
    assert_eq!(of("lead.deleted")["error"], "the receiver answered with 307");
    assert!(setup.receiver.received().iter().all(|request| request.path == "/hooks"));
}

#[tokio::test]
async fn an_endpoint_that_only_fails_gets_one_attempt_at_a_time_and_is_disabled_after_five_days() {
    let setup = Setup::start().await;
    setup.receiver.answer(503);
    let _worker = setup.worker();
    let settings = json!({ "notification_email": "ops@example.com" });
    setup.api.send(Method::PUT, "/dev/crm/settings", settings, 200).await;
    let webhook = setup.webhook(json!({ "events": ["lead.*"] })).await;
    for name in ["ada", "bob", "eve", "dan", "joe", "ian"] {
        setup.lead(name).await;
    }
    setup.until(&webhook, "attempted", |all| all.iter().filter(|it| it["attempts"] == 1).count() == 6).await;

    // From now on, one attempt at a time.
    setup.receiver.script(|_| Answer { after: Duration::from_millis(100), ..Answer::status(503) });
    setup.hurry().await;
    setup.until(&webhook, "attempted", |all| all.iter().filter(|it| it["attempts"] == 2).count() == 6).await;
    let slow: Vec<_> = setup.receiver.received().split_off(6);
    assert!(slow.windows(2).all(|pair| pair[1].at - pair[0].at >= Duration::from_millis(90)));

    setup.run("UPDATE webhooks SET failing_since = now() - interval '121 hours', updated_at = now()").await;
    setup.hurry().await;
    let path = format!("{WEBHOOKS}/{}", id(&webhook));
    let began = std::time::Instant::now();
    let disabled = loop {
        let webhook = setup.api.read(&path).await;
        if webhook["enabled"] == json!(false) {
            break webhook;
        }
        assert!(began.elapsed() < super::PATIENCE, "{webhook}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert!(disabled["disabled_at"].is_string());
    let event = loop {
        let feed = setup.api.read("/dev/crm/events?type=webhook.disabled").await;
        if let Some(event) = feed.as_array().unwrap().first() {
            break event.clone();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!((&event["subject"]["id"], &event["data"]["url"]), (&webhook["id"], &webhook["url"]));
    let email = setup.api.read("/dev/crm/emails?event=webhook_disabled").await[0].clone();
    assert_eq!(email["to_email"], "ops@example.com");

    // Nothing more is sent until it is enabled again, once the attempt in flight has ended.
    let attempts = |all: &[Value]| all.iter().filter_map(|it| it["attempts"].as_u64()).sum::<u64>() as usize;
    setup.until(&webhook, "recorded", |all| attempts(all) == setup.receiver.count()).await;
    let count = setup.receiver.count();
    support::json(setup.api.post(&format!("{path}/test")), 409).await;
    setup.receiver.answer(200);
    setup.api.send(Method::PUT, &path, json!({ "enabled": true }), 200).await;
    setup.hurry().await;
    setup.until_all(&webhook, 6, "delivered").await;
    assert!(setup.receiver.count() >= count + 5);
}

#[tokio::test]
async fn a_worker_that_is_killed_loses_no_delivery() {
    let setup = Setup::start().await;
    setup.receiver.script(|_| Answer { after: Duration::from_millis(50), ..Answer::status(200) });
    let mut worker = setup.worker();
    let webhook = setup.webhook(json!({ "events": ["lead.created"] })).await;
    for n in 0..60 {
        setup.lead(&format!("lead{n}")).await;
        if n == 30 {
            setup.receiver.until(5).await;
            worker.kill9().await;
            worker = setup.worker();
        }
    }
    setup.until_all(&webhook, 60, "delivered").await;
    let mut bodies = BTreeMap::<String, BTreeSet<String>>::new();
    for request in setup.receiver.received() {
        bodies.entry(request.header("webhook-id").to_owned()).or_default().insert(request.body);
    }
    assert_eq!(bodies.len(), 60);
    assert!(bodies.values().all(|bodies| bodies.len() == 1));
}
