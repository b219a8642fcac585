//! Interactions with leads and customers are recorded.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{self, Api, each, faults, id};

const NOBODY: &str = "0191d2c0-6f5e-4000-8000-00000000000a";

async fn lead(api: &Api) -> String {
    let lead = api.create("/dev/crm/leads", json!({ "name": "Ada", "email": "ada@example.com" })).await;
    format!("/dev/crm/leads/{}", id(&lead))
}

async fn customer(api: &Api) -> String {
    let customer = api.create("/dev/crm/customers", json!({ "name": "Ada", "email": "ada@example.com" })).await;
    format!("/dev/crm/customers/{}", id(&customer))
}

#[tokio::test]
async fn interactions_with_a_lead_are_created_listed_updated_and_deleted() {
    let api = Api::start().await;
    let lead = lead(&api).await;
    let body = json!({
        "type": "call", "notes": "Discussed pricing and features", "next_action": "Send proposal",
        "next_action_date": "2024-01-15T10:00:00Z",
    });
    let list = format!("{lead}/interactions");
    let created = api.create(&list, body).await;
    assert_eq!(created["lead_id"], lead.rsplit('/').next().unwrap());
    let one = format!("{list}/{}", id(&created));
    assert_eq!(api.read(&one).await, created);

    let changes = json!({ "type": "meeting", "notes": "Updated notes", "next_action": "Follow up call" });
    let changed = api.send(Method::PUT, &one, changes, 200).await;
    assert_eq!((&changed["type"], &changed["next_action_date"]), (&json!("meeting"), &created["next_action_date"]));
    api.create(&list, json!({ "type": "note" })).await;
    assert_eq!(each(&api.read(&list).await, "type"), ["note", "meeting"]);
    assert_eq!(
        each(&api.read(&format!("{list}?type=meeting&next_action_date[lt]=2024-02-01")).await, "type"),
        ["meeting"]
    );

    api.delete(&one, 204).await;
    api.delete(&one, 404).await;
}

#[tokio::test]
async fn interactions_with_a_customer_are_created_listed_updated_and_deleted() {
    let api = Api::start().await;
    let list = format!("{}/interactions", customer(&api).await);
    let body = json!({
        "type": "call", "subject": "Product Discussion", "description": "Discussed new features and pricing",
        "date": "2024-01-15T10:00:00Z", "outcome": "positive", "next_action": "Send proposal",
        "next_action_date": "2024-01-20",
    });
    let created = api.create(&list, body).await;
    assert_eq!(created["next_action_date"], "2024-01-20T00:00:00Z");
    let one = format!("{list}/{}", id(&created));
    let changes = json!({ "description": "Updated interaction notes", "outcome": "completed", "next_action": null });
    let changed = api.send(Method::PUT, &one, changes, 200).await;
    assert_eq!((&changed["outcome"], &changed["next_action"]), (&json!("completed"), &Value::Null));
    api.create(&list, json!({ "type": "support", "subject": "Help", "date": "2023-01-01" })).await;
    assert_eq!(each(&api.read(&format!("{list}?sort=date")).await, "type"), ["support", "call"]);
    api.delete(&one, 204).await;
    let rejected = api.send(Method::POST, &list, json!({ "type": "note" }), 400).await;
    assert_eq!(faults(&rejected), [("type", "invalid"), ("subject", "required"), ("date", "required")]);
}

#[tokio::test]
async fn an_interaction_is_found_only_under_its_parent() {
    let api = Api::start().await;
    let mine = lead(&api).await;
    let other = api.create("/dev/crm/leads", json!({ "name": "Bob", "email": "bob@example.com" })).await;
    let other = format!("/dev/crm/leads/{}", id(&other));
    let created = api.create(&format!("{mine}/interactions"), json!({ "type": "call" })).await;
    for parent in [other.as_str(), &format!("/dev/crm/leads/{NOBODY}")] {
        let path = format!("{parent}/interactions/{}", id(&created));
        support::json(api.get(&path), 404).await;
        api.send(Method::PUT, &path, json!({ "notes": "x" }), 404).await;
        api.delete(&path, 404).await;
    }
    assert_eq!(api.read(&format!("{other}/interactions")).await, json!([]));
    support::json(api.get(&format!("/dev/crm/leads/{NOBODY}/interactions")), 404).await;
    api.send(Method::POST, &format!("/dev/crm/leads/{NOBODY}/interactions"), json!({ "type": "call" }), 404).await;

    // The path determines the parent, not the body.
    let foreign = json!({ "type": "call", "lead_id": other.rsplit('/').next() });
    let rejected = api.send(Method::POST, &format!("{mine}/interactions"), foreign, 400).await;
    assert_eq!(faults(&rejected), [("lead_id", "read_only")]);
}
