//! Leads record when they first reached each stage.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{self, Api, id};

const LEADS: &str = "/dev/crm/leads";
const STAGES: [&str; 7] =
    ["contacted_at", "qualified_at", "proposal_at", "negotiation_at", "converted_at", "won_at", "lost_at"];

async fn lead(api: &Api, email: &str, status: &str) -> Value {
    api.create(LEADS, json!({ "name": "Ada", "email": email, "status": status })).await
}

async fn put(api: &Api, lead: &Value, body: Value) -> Value {
    api.send(Method::PUT, &format!("{LEADS}/{}", id(lead)), body, 200).await
}

/// The stages that a lead has reached.
fn reached(lead: &Value) -> Vec<&str> {
    STAGES.into_iter().filter(|stage| lead[*stage].is_string()).collect()
}

#[tokio::test]
async fn the_first_time_in_each_stage_is_recorded() {
    let api = Api::start().await;
    let new = lead(&api, "ada@example.com", "new").await;
    assert!(reached(&new).is_empty());
    let contacted = put(&api, &new, json!({ "status": "contacted" })).await;
    assert_eq!(contacted["contacted_at"], contacted["updated_at"]);
    let lost = put(&api, &new, json!({ "status": "lost" })).await;
    let again = put(&api, &new, json!({ "status": "contacted" })).await;
    assert_eq!(again["contacted_at"], contacted["contacted_at"]);
    assert_eq!(again["lost_at"], lost["updated_at"]);
    let renamed = put(&api, &new, json!({ "name": "Ada Lovelace" })).await;
    assert_eq!(reached(&renamed), ["contacted_at", "lost_at"]);
    let created = lead(&api, "bob@example.com", "proposal").await;
    assert_eq!((&created["proposal_at"], reached(&created)), (&created["created_at"], vec!["proposal_at"]));
}

#[tokio::test]
async fn stage_times_are_read_only() {
    let api = Api::start().await;
    let body = json!({ "name": "Ada", "email": "ada@example.com", "won_at": "2024-01-01" });
    let rejected = api.send(Method::POST, LEADS, body, 400).await;
    assert_eq!(support::faults(&rejected), [("won_at", "read_only")]);
    let lead = lead(&api, "ada@example.com", "won").await;
    let same = put(&api, &lead, json!({ "won_at": lead["won_at"], "lost_at": null })).await;
    assert_eq!(same, lead);
}

#[tokio::test]
async fn conversions_and_batches_record_stages_and_a_restored_lead_keeps_them() {
    let api = Api::start().await;
    let ada = lead(&api, "ada@example.com", "qualified").await;
    let converted = support::json(api.post(&format!("{LEADS}/{}/convert", id(&ada))), 201).await;
    assert_eq!(converted["lead"]["converted_at"], converted["lead"]["updated_at"]);
    let bob = lead(&api, "bob@example.com", "new").await;
    let items = json!({ "items": [
        { "id": id(&bob), "status": "won" }, { "name": "Cy", "email": "cy@example.com", "status": "contacted" },
    ] });
    let answer = api.send(Method::POST, &format!("{LEADS}/batch"), items, 200).await;
    assert_eq!(reached(&answer["results"][0]["record"]), ["won_at"]);
    assert_eq!(reached(&answer["results"][1]["record"]), ["contacted_at"]);
    let path = format!("{LEADS}/{}", id(&ada));
    let before = api.read(&path).await;
    api.delete(&path, 204).await;
    let restored = support::json(api.post(&format!("{path}/restore")), 200).await;
    assert_eq!(reached(&restored), ["qualified_at", "converted_at"]);
    assert_eq!(restored["converted_at"], before["converted_at"]);
}
