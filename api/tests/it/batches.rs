//! Batches write many records with one request.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Api, faults, id};

const LEADS: &str = "/dev/crm/leads";
const CUSTOMERS: &str = "/dev/crm/customers";
const ORDERS: &str = "/dev/crm/orders";
const NOBODY: &str = "0191d2c0-6f5e-4000-8000-00000000000a";

async fn batch(api: &Api, path: &str, items: Value) -> Vec<Value> {
    let answer = api.send(Method::POST, &format!("{path}/batch"), json!({ "items": items }), 200).await;
    answer["results"].as_array().unwrap().clone()
}

fn statuses(results: &[Value]) -> Vec<u64> {
    results.iter().map(|result| result["status"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn every_item_gets_the_response_it_would_get_on_its_own() {
    let api = Api::start().await;
    let present = api.create(LEADS, json!({ "name": "Ada", "email": "ada@example.com" })).await;
    let results = batch(
        &api,
        LEADS,
        json!([
            { "name": "Bob", "email": "bob@example.com", "score": 7 },
            { "id": id(&present), "status": "qualified" },
            { "name": "", "email": "eve@" },
            { "name": "Again", "email": "BOB@example.com" },
            { "name": "Taken", "email": "ada@example.com" },
            { "id": NOBODY, "name": "Nobody" },
            { "id": id(&present), "notes": "twice", "status": "qualified" },
            { "id": "7" },
        ]),
    )
    .await;
    assert_eq!(statuses(&results), [201, 200, 400, 409, 409, 404, 200, 400]);
    assert_eq!(results[2]["error"]["message"], "Invalid request parameters");
    assert_eq!(faults(&results[2]["error"]), [("email", "invalid"), ("name", "required")]);
    assert_eq!(results[3]["error"]["message"], "Resource already exists");
    assert_eq!(results[5]["error"]["message"], "Resource not found");
    let record = &results[6]["record"];
    assert_eq!((&record["status"], &record["notes"]), (&json!("qualified"), &json!("twice")));
    assert_eq!(&api.read(&format!("{LEADS}/{}", id(&present))).await, record);
    let created = &results[0]["record"];
    assert_eq!(&api.read(&format!("{LEADS}/{}", id(created))).await, created);
    assert_eq!(api.read(LEADS).await.as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn references_are_checked_for_each_item() {
    let api = Api::start().await;
    let lead = api.create(LEADS, json!({ "name": "Ada", "email": "ada@example.com" })).await;
    let results = batch(
        &api,
        CUSTOMERS,
        json!([
            { "name": "Ada", "email": "a@example.com", "lead_id": id(&lead) },
            { "name": "Twin", "email": "b@example.com", "lead_id": id(&lead) },
            { "name": "Lost", "email": "c@example.com", "lead_id": NOBODY },
        ]),
    )
    .await;
    assert_eq!(statuses(&results), [201, 409, 404]);
    let ada = id(&results[0]["record"]).to_owned();
    assert_eq!(api.read(&format!("{LEADS}/{}", id(&lead))).await["customer_id"], ada);

    let order =
        |customer: &str, quantity: i64| json!({ "customer_id": customer, "product_id": NOBODY, "quantity": quantity });
    let results = batch(&api, ORDERS, json!([order(&ada, 1), order(NOBODY, 1), order(&ada, 0), order(&ada, 2)])).await;
    assert_eq!(statuses(&results), [201, 404, 400, 201]);
    let change = json!([{ "id": id(&results[0]["record"]), "status": "shipped" }]);
    assert_eq!(batch(&api, ORDERS, change).await[0]["record"]["status"], "shipped");
}

#[tokio::test]
async fn a_batch_has_from_one_to_a_thousand_items() {
    let api = Api::start().await;
    let item = |n: usize| json!({ "name": "x", "email": format!("x{n}@example.com"), "notes": "n".repeat(2_000) });
    let items: Vec<Value> = (0..1_000).map(item).collect();
    let results = batch(&api, LEADS, json!(items)).await;
    assert!(statuses(&results).iter().all(|status| *status == 201));
    for (items, code) in
        [(json!([]), "out_of_range"), (json!(vec![item(0); 1_001]), "out_of_range"), (json!(7), "invalid")]
    {
        let rejected = api.send(Method::POST, &format!("{LEADS}/batch"), json!({ "items": items }), 400).await;
        assert_eq!(faults(&rejected), [("items", code)]);
    }
    for (body, fault) in [
        (json!({ "items": [7], "more": 1 }), ("items.0", "invalid")),
        (json!({ "items": [], "more": 1 }), ("items", "out_of_range")),
        (json!({ "items": 7, "more": 1 }), ("items", "invalid")),
        (json!({ "more": 1 }), ("items", "required")),
    ] {
        let rejected = api.send(Method::POST, &format!("{LEADS}/batch"), body, 400).await;
        assert_eq!(faults(&rejected), [fault, ("more", "unknown")]);
    }
}

#[tokio::test]
async fn concurrent_batches_with_the_same_emails_create_each_record_once() {
    let api = Api::start().await;
    let items = |reverse: bool| {
        let mut items: Vec<Value> =
            (0..200).map(|n| json!({ "name": "x", "email": format!("x{n}@example.com") })).collect();
        if reverse {
            items.reverse();
        }
        json!(items)
    };
    let batches = (0..6).map(|n| batch(&api, LEADS, items(n % 2 == 0)));
    let answers = futures_util::future::join_all(batches).await;
    let created: usize =
        answers.iter().map(|results| statuses(results).iter().filter(|status| **status == 201).count()).sum();
    assert_eq!(created, 200);
    assert!(answers.iter().all(|results| statuses(results).iter().all(|status| matches!(status, 201 | 409))));
}
