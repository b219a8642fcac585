//! Leads become customers.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{self, Api, faults, id};

const CUSTOMERS: &str = "/dev/crm/customers";

async fn lead(api: &Api, more: Value) -> Value {
    let mut body = json!({ "name": "Ada", "email": "ada@example.com" });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    api.create("/dev/crm/leads", body).await
}

fn convert(lead: &Value) -> String {
    format!("/dev/crm/leads/{}/convert", id(lead))
}

#[tokio::test]
async fn a_conversion_copies_the_fields_of_the_lead() {
    let api = Api::start().await;
    let known = json!({ "phone": "+44 1", "company": "Analytical", "notes": "n", "custom_fields": { "a": 1 } });
    let lead = lead(&api, known.clone()).await;
    let answer = api.post(&convert(&lead)).send().await.unwrap();
    let location = answer.headers()["location"].to_str().unwrap().to_owned();
    let converted = support::body(answer, 201).await;
    let (customer, after) = (&converted["customer"], &converted["lead"]);
    assert_eq!(location, format!("{CUSTOMERS}/{}", id(customer)));
    for (field, value) in known.as_object().unwrap() {
        assert_eq!(&customer[field], value, "{field}");
    }
    assert_eq!((&customer["email"], &customer["lead_id"]), (&lead["email"], &lead["id"]));
    assert_eq!((&after["status"], &after["customer_id"]), (&json!("converted"), &customer["id"]));
    assert_eq!(&api.read(&location).await, customer);
    assert_eq!(&api.read(&format!("/dev/crm/leads/{}", id(&lead))).await, after);
    support::json(api.post(&convert(&lead)), 409).await;
}

#[tokio::test]
async fn the_body_overrides_any_field_of_the_customer() {
    let api = Api::start().await;
    let lead = lead(&api, json!({ "phone": "+44 1" })).await;
    let body = json!({ "type": "business", "credit_limit": 500, "phone": null, "email": "office@example.com" });
    let converted = api.create(&convert(&lead), body).await;
    let customer = &converted["customer"];
    assert_eq!(
        (&customer["type"], &customer["credit_limit"], &customer["phone"], &customer["email"]),
        (&json!("business"), &json!(500), &Value::Null, &json!("office@example.com"))
    );
    let other = api.create("/dev/crm/leads", json!({ "name": "Bob", "email": "bob@example.com" })).await;
    let rejected =
        api.send(Method::POST, &convert(&other), json!({ "typ": "x", "name": null, "lead_id": null }), 400).await;
    let mut reported = faults(&rejected);
    reported.sort_unstable();
    assert_eq!(reported, [("name", "required"), ("typ", "unknown")]);
    let rejected = api.send(Method::POST, &convert(&other), json!({ "lead_id": null }), 400).await;
    assert_eq!(faults(&rejected), [("lead_id", "invalid")]);
}

#[tokio::test]
async fn a_customer_with_the_email_is_linked_unless_it_has_a_lead() {
    let api = Api::start().await;
    let lead_ada = lead(&api, json!({})).await;
    let customer = api.create(CUSTOMERS, json!({ "name": "Ada L.", "email": "ADA@example.com" })).await;
    let converted = api.send(Method::POST, &convert(&lead_ada), json!({ "notes": "from a lead" }), 200).await;
    assert_eq!(converted["customer"]["id"], customer["id"]);
    assert_eq!(
        (&converted["customer"]["name"], &converted["customer"]["notes"], &converted["customer"]["lead_id"]),
        (&json!("Ada L."), &json!("from a lead"), &lead_ada["id"])
    );
    // Another lead cannot be linked to the same customer.
    let other = api.create("/dev/crm/leads", json!({ "name": "Bob", "email": "bob@example.com" })).await;
    api.send(Method::POST, &convert(&other), json!({ "email": "ada@example.com" }), 409).await;
}

#[tokio::test]
async fn concurrent_conversions_create_one_customer() {
    let api = Api::start().await;
    for round in 0..10 {
        let lead =
            api.create("/dev/crm/leads", json!({ "name": "Ada", "email": format!("ada{round}@example.com") })).await;
        let ask = async || api.post(&convert(&lead)).send().await.unwrap().status().as_u16();
        let (a, b, c) = tokio::join!(ask(), ask(), ask());
        let mut statuses = [a, b, c];
        statuses.sort_unstable();
        assert_eq!(statuses, [201, 409, 409]);
    }
    assert_eq!(api.read(CUSTOMERS).await.as_array().unwrap().len(), 10);
}

#[tokio::test]
async fn a_lead_whose_status_was_set_to_converted_can_be_converted() {
    let api = Api::start().await;
    let lead = lead(&api, json!({ "status": "converted" })).await;
    support::json(api.post(&convert(&lead)), 201).await;
    support::json(api.post("/dev/crm/leads/0191d2c0-6f5e-4000-8000-00000000000a/convert"), 404).await;
}
