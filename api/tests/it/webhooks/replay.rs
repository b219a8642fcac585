//! Past events are delivered again.

use serde_json::{Value, json};

use super::{Setup, WEBHOOKS, types};
use crate::support::{self, faults, id};

impl Setup {
    /// Replays events to a webhook, and returns the number of deliveries.
    async fn replay(&self, webhook: &Value, body: Value) -> i64 {
        let path = format!("{WEBHOOKS}/{}/replay", id(webhook));
        let job = support::json(self.api.post(&path).json(&body), 202).await;
        let ended = self.api.ended(&job).await;
        assert_eq!(ended["status"], "succeeded", "{ended}");
        ended["result"]["deliveries"].as_i64().unwrap()
    }
}

#[tokio::test]
async fn events_are_delivered_again_also_those_from_before_the_webhook() {
    let setup = Setup::start().await;
    let _worker = setup.worker();
    let first = setup.webhook(json!({ "events": ["lead.created"] })).await;
    for name in ["ada", "bob", "eve"] {
        setup.lead(name).await;
    }
    setup.until_all(&first, 3, "delivered").await;
    let before = setup.receiver.received();
    let since = setup.api.read("/dev/crm/events?type=lead.created").await[1]["created_at"].clone();

    assert_eq!(setup.replay(&first, json!({ "since": since })).await, 2);
    let again = setup.receiver.until(5).await.split_off(3);
    for request in &again {
        let former = before.iter().find(|it| it.header("webhook-id") == request.header("webhook-id")).unwrap();
        assert_eq!(request.body, former.body);
    }
    setup.until_all(&first, 3, "delivered").await;

    let second = setup.webhook(json!({ "events": ["lead.*"], "url": setup.receiver.url("/second") })).await;
    assert_eq!(setup.replay(&second, json!({ "since": "2026-01-01" })).await, 3);
    let received = setup.receiver.until(8).await.split_off(5);
    assert_eq!(types(&received), ["lead.created"; 3]);
    assert!(received.iter().all(|request| request.path == "/second"));
    assert_eq!(setup.replay(&second, json!({ "since": "2026-01-01", "until": "2026-01-02" })).await, 0);
}

#[tokio::test]
async fn only_failed_deliveries_are_repeated_if_asked() {
    let setup = Setup::start().await;
    setup
        .receiver
        .script(|request| testing::receiver::Answer::status(if request.body.contains("failing@") { 500 } else { 200 }));
    let _worker = setup.worker();
    let webhook = setup.webhook(json!({ "events": ["lead.created"] })).await;
    for name in ["good", "failing", "better"] {
        setup.lead(name).await;
    }
    setup.until(&webhook, "attempted", |all| all.len() == 3 && all.iter().all(|it| it["attempts"] == 1)).await;
    setup.run("UPDATE webhook_deliveries SET state = 'failed' WHERE state = 'pending'").await;
    setup.receiver.answer(200);
    let count = setup.receiver.count();
    assert_eq!(setup.replay(&webhook, json!({ "since": "2026-01-01", "failed_only": true })).await, 1);
    setup.until_all(&webhook, 3, "delivered").await;
    assert_eq!(setup.receiver.count(), count + 1);
}

#[tokio::test]
async fn the_body_of_a_replay_is_checked() {
    let setup = Setup::start().await;
    let webhook = setup.webhook(json!({})).await;
    let path = format!("{WEBHOOKS}/{}/replay", id(&webhook));
    for (body, fault) in [
        (json!({}), ("since", "required")),
        (json!({ "since": "soon" }), ("since", "invalid")),
        (json!({ "since": "2026-01-02", "until": "2026-01-01" }), ("since", "out_of_range")),
        (json!({ "since": "2999-01-01" }), ("since", "out_of_range")),
        (json!({ "since": "2026-01-01", "failed_only": 1 }), ("failed_only", "invalid")),
    ] {
        let answer = support::json(setup.api.post(&path).json(&body), 400).await;
        assert_eq!(faults(&answer), [fault], "{body}");
    }
}
