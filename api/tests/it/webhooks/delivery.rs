//! Events arrive at receivers, signed and byte for byte as the feed has them.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use testing::receiver::Answer;

use super::{LEADS, Setup, WEBHOOKS, types, verifies};
use crate::support::{self, id};

#[tokio::test]
async fn an_event_arrives_signed_and_as_it_is_in_the_feed() {
    let setup = Setup::start().await;
    let _worker = setup.worker();
    let webhook = setup.webhook(json!({ "headers": { "Authorization": "Bearer token" } })).await;
    let lead = setup.lead("ada").await;
    setup.api.send(Method::PUT, &format!("{LEADS}/{}", id(&lead)), json!({ "status": "contacted" }), 200).await;
    let received = setup.receiver.until(2).await;

    let feed = setup.api.read("/dev/crm/events").await;
    let by_id: BTreeMap<&str, _> = feed.as_array().unwrap().iter().map(|event| (id(event), event)).collect();
    for request in &received {
        assert!(verifies(request, &webhook["secret"]), "{request:?}");
        assert_eq!(&request.json(), by_id[request.header("webhook-id")]);
        assert_eq!(request.header("authorization"), "Bearer token");
        assert_eq!(request.header("content-type"), "application/json");
        assert!(request.header("user-agent").starts_with("crm-webhooks/"));
        assert!(!verifies(request, &json!("whsec_AAAA")));
    }
    let mut all = types(&received);
    all.sort_unstable();
    assert_eq!(all, ["lead.created", "lead.updated"]);

    let delivered = setup.until_all(&webhook, 2, "delivered").await;
    assert_eq!((&delivered[0]["attempts"], &delivered[0]["status"]), (&json!(1), &json!(200)));
    assert!(delivered[0]["delivered_at"].is_string() && delivered[0]["next_attempt_at"].is_null());
    let path = format!("{WEBHOOKS}/{}/deliveries/{}", id(&webhook), id(&delivered[0]));
    assert_eq!(setup.api.read(&path).await, delivered[0]);
}

#[tokio::test]
async fn a_webhook_gets_what_happens_after_its_creation_and_only_the_types_it_wants() {
    let setup = Setup::start().await;
    let _worker = setup.worker();
    setup.lead("before").await;
    // Its event has a number when the webhook is created.
    support::until(200, || setup.api.get("/dev/crm/events?type=lead.created&limit=1")).await;
    while setup.api.read("/dev/crm/events").await.as_array().unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let leads = setup.webhook(json!({ "events": ["lead.created"] })).await;
    let orders = setup.webhook(json!({ "events": ["order.*"], "url": setup.receiver.url("/orders") })).await;
    let lead = setup.lead("after").await;
    setup.api.delete(&format!("{LEADS}/{}", id(&lead)), 204).await;
    let delivered = setup.until_all(&leads, 1, "delivered").await;
    assert_eq!(delivered[0]["event_type"], "lead.created");
    assert_eq!(setup.receiver.until(1).await[0].json()["subject"]["id"], lead["id"]);
    assert!(setup.deliveries(&orders).await.is_empty());
}

#[tokio::test]
async fn a_ping_is_delivered_whatever_types_are_wanted() {
    let setup = Setup::start().await;
    let _worker = setup.worker();
    let webhook = setup.webhook(json!({ "events": ["order.created"] })).await;
    let path = format!("{WEBHOOKS}/{}/test", id(&webhook));
    let delivery = support::json(setup.api.post(&path), 201).await;
    assert_eq!((&delivery["event_type"], &delivery["state"]), (&json!("ping"), &json!("pending")));
    let received = setup.receiver.until(1).await;
    assert_eq!(received[0].json()["type"], "ping");
    assert!(verifies(&received[0], &webhook["secret"]));
    setup.until_all(&webhook, 1, "delivered").await;
}

#[tokio::test]
async fn both_secrets_sign_for_a_day_after_a_rotation() {
    let setup = Setup::start().await;
    let _worker = setup.worker();
    let webhook = setup.webhook(json!({})).await;
    let path = format!("{WEBHOOKS}/{}/rotate-secret", id(&webhook));
    let rotated = support::json(setup.api.post(&path), 200).await;
    setup.lead("ada").await;
    let request = setup.receiver.until(1).await.remove(0);
    assert!(verifies(&request, &webhook["secret"]) && verifies(&request, &rotated["secret"]));

    setup.run("UPDATE webhooks SET previous_until = now()").await;
    setup.run("UPDATE webhook_queues SET due_at = now()").await;
    // The change is noticed within a second; every ping after that has one signature.
    let ping = format!("{WEBHOOKS}/{}/test", id(&webhook));
    let mut count = 1;
    loop {
        support::json(setup.api.post(&ping), 201).await;
        count += 1;
        let request = setup.receiver.until(count).await.remove(count - 1);
        assert!(verifies(&request, &rotated["secret"]));
        if !verifies(&request, &webhook["secret"]) {
            break;
        }
        assert!(count < 100, "the first secret still signs");
    }
}

#[tokio::test]
async fn the_events_of_a_subject_arrive_one_after_the_other_if_asked() {
    let setup = Setup::start().await;
    setup.receiver.script(|_| Answer { after: Duration::from_millis(30), ..Answer::status(200) });
    let webhook = setup.webhook(json!({ "ordering": "subject", "events": ["lead.*"] })).await;
    let leads = [setup.lead("ada").await, setup.lead("bob").await];
    for step in 0..5 {
        for lead in &leads {
            let change = json!({ "notes": format!("step {step}") });
            setup.api.send(Method::PUT, &format!("{LEADS}/{}", id(lead)), change, 200).await;
        }
    }
    let _worker = setup.worker();
    let received = setup.receiver.until(12).await;
    for lead in &leads {
        let own: Vec<_> = received.iter().filter(|it| it.json()["subject"]["id"] == lead["id"]).collect();
        let numbers: Vec<i64> = own.iter().map(|it| it.json()["cursor"].as_i64().unwrap()).collect();
        assert!(numbers.is_sorted() && numbers.len() == 6, "{numbers:?}");
        assert!(own.windows(2).all(|pair| pair[1].at - pair[0].at >= Duration::from_millis(30)));
    }
    // The two subjects do not wait for each other.
    assert_eq!(setup.receiver.most_in_flight(), 2);
    setup.until_all(&webhook, 12, "delivered").await;
}

#[tokio::test]
async fn a_held_database_sends_nothing() {
    let setup = Setup::start().await;
    let webhook = setup.webhook(json!({})).await;
    setup.lead("ada").await;
    setup.run("UPDATE mail_place SET held_since = now()").await;
    let worker = setup.worker();
    let admin = worker.admin_url().await;
    // The worker has looked at least once by the time it reports the hold.
    let began = std::time::Instant::now();
    while !reqwest::get(format!("{admin}/metrics")).await.unwrap().text().await.unwrap().contains("crm_email_on_hold 1")
    {
        assert!(began.elapsed() < super::PATIENCE);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(setup.deliveries(&webhook).await.is_empty());
    assert_eq!(setup.receiver.count(), 0);
    setup.run("UPDATE mail_place SET held_since = NULL").await;
    setup.receiver.until(1).await;
}
