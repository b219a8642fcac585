//! Workspaces are isolated: every operation of the OpenAPI document is tried with another
//! workspace's ids.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{self, Api, id};
use crate::{emails, feedback};

const MISSING: &str = "0191d2c0-6f5e-7000-8000-00000000000a";

/// Creates one record of each type; the keys are the names of path parameters.
async fn one_of_each(api: &Api) -> BTreeMap<&'static str, String> {
    let person = json!({ "name": "Ada", "email": "ada@example.com" });
    let lead = api.create("/dev/crm/leads", person.clone()).await;
    let lead_path = format!("/dev/crm/leads/{}", id(&lead));
    let customer = api.create("/dev/crm/customers", person).await;
    let customer_path = format!("/dev/crm/customers/{}", id(&customer));
    let with_lead = api.create(&format!("{lead_path}/interactions"), json!({ "type": "call" })).await;
    let body = json!({ "type": "call", "subject": "s", "date": "2024-01-01" });
    let with_customer = api.create(&format!("{customer_path}/interactions"), body).await;
    let body = json!({ "customer_id": id(&customer), "product_id": MISSING, "quantity": 1 });
    let order = api.create("/dev/crm/orders", body).await;
    let feedback = feedback::given(api, id(&customer), 2, None).await;
    let user = api.create("/dev/crm/users", json!({ "name": "Ada", "email": "ada@example.com" })).await;
    let suppression = api.create("/dev/crm/suppressions", json!({ "email": "eve@example.com" })).await;
    let email = emails::queued(api, "ada@example.com", None).await;
    let job = api.import("name,email\nBob,bob@example.com\n").await;
    let schedule = api.create("/dev/crm/schedules", json!({ "kind": "remind_feedback", "every": "P1D" })).await;
    let key = api.create("/dev/crm/keys", json!({ "name": "x", "scopes": ["records:read"] })).await;
    let body = json!({ "url": "https://example.com/hooks", "events": ["*"] });
    let webhook = api.create("/dev/crm/webhooks", body).await;
    let delivery = support::json(api.post(&format!("/dev/crm/webhooks/{}/test", id(&webhook))), 201).await;
    let upload = crate::uploads::store(api, "name,email\n").await;
    crate::console::support::Visitor::new(api).with_key(&api.key).await;
    let session = api.read("/dev/crm/sessions").await;
    BTreeMap::from([
        ("leadId", id(&lead).to_owned()),
        ("customerId", id(&customer).to_owned()),
        ("leads/interactionId", id(&with_lead).to_owned()),
        ("customers/interactionId", id(&with_customer).to_owned()),
        ("orderId", id(&order).to_owned()),
        ("feedbackId", feedback.to_string()),
        ("userId", id(&user).to_owned()),
        ("suppressionId", id(&suppression).to_owned()),
        ("emailId", email.to_string()),
        ("jobId", id(&job).to_owned()),
        ("uploadId", id(&upload).to_owned()),
        ("scheduleId", id(&schedule).to_owned()),
        ("keyId", id(&key).to_owned()),
        ("sessionId", id(&session[0]).to_owned()),
        ("webhookId", id(&webhook).to_owned()),
        ("deliveryId", id(&delivery).to_owned()),
    ])
}

/// Fills in a path's ids; `None` if the path has no parameters.
fn with_ids(template: &str, ids: impl Fn(&str) -> String) -> Option<String> {
    let mut parts = template.split('{');
    let mut path = parts.next()?.to_owned();
    let mut has_ids = false;
    for part in parts {
        let (name, rest) = part.split_once('}')?;
        has_ids = true;
        path += &ids(name);
        path += rest;
    }
    has_ids.then_some(path)
}

/// Sends a request, and returns the status and body of the response.
async fn response(api: &Api, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
    let request = api.request(Method::from_bytes(method.to_uppercase().as_bytes()).unwrap(), path);
    let request = match body {
        Some(body) => request.json(body),
        None => request,
    };
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    (status, serde_json::from_str(&answer.text().await.unwrap()).unwrap_or_default())
}

#[tokio::test]
async fn ids_of_another_workspace_do_not_exist() {
    let api = Api::start().await;
    api.leaves_jobs("import_leads");
    let theirs = one_of_each(&api).await;
    let before = everything(&api).await;
    let theirs_key = api.key.clone();
    let mut api = api.on("another").await;
    let mine = one_of_each(&api).await;
    let document: Value = reqwest::get(api.url("/openapi.json")).await.unwrap().json().await.unwrap();

    let mut requests = 0;
    let paths = document["paths"].as_object().unwrap().iter();
    // Links in emails are covered by the tests of their pages: their tokens are signed.
    for (template, methods) in paths.filter(|(path, _)| path.starts_with("/dev/crm")) {
        let kind = if template.contains("/customers/") { "customers" } else { "leads" };
        let known = |ids: &BTreeMap<&str, String>, name: &str| {
            let of_kind = format!("{kind}/{name}");
            ids.get(name).or_else(|| ids.get(of_kind.as_str())).unwrap_or_else(|| panic!("no id for {name}")).clone()
        };
        for (method, operation) in methods.as_object().unwrap() {
            let names: Vec<&str> = template.split('{').skip(1).map(|part| part.split('}').next().unwrap()).collect();
            let body = operation.get("requestBody").map(|_| valid_body(template));
            // Each id alone is theirs, then all ids; the others are mine.
            let mut combinations: Vec<Vec<&str>> = names.iter().map(|name| vec![*name]).collect();
            combinations.push(names.clone());
            for foreign_names in combinations {
                let path = |ids: &dyn Fn(&str) -> String| {
                    with_ids(
                        template,
                        |name| if foreign_names.contains(&name) { ids(name) } else { known(&mine, name) },
                    )
                };
                let Some(foreign) = path(&|name| known(&theirs, name)) else { continue };
                let Some(missing) = path(&|_| MISSING.to_owned()) else { continue };
                let of_theirs = response(&api, method, &foreign, body.as_ref()).await;
                assert_eq!(of_theirs, (404, json!({ "message": "Resource not found" })), "{method} {foreign}");
                assert_eq!(of_theirs, response(&api, method, &missing, body.as_ref()).await, "{method} {missing}");
                requests += 1;
            }
        }
    }
    assert!(requests >= 20, "only {requests} requests were sent");

    // In bodies, too.
    for customer in [theirs["customerId"].as_str(), MISSING] {
        let order = json!({ "customer_id": customer, "product_id": MISSING, "quantity": 1 });
        assert_eq!(response(&api, "post", "/dev/crm/orders", Some(&order)).await.0, 404);
        let change = json!({ "customer_id": customer });
        assert_eq!(response(&api, "put", &format!("/dev/crm/orders/{}", mine["orderId"]), Some(&change)).await.0, 404);
        let batch = json!({ "items": [order, { "id": theirs["orderId"], "quantity": 2 }] });
        let (_, answer) = response(&api, "post", "/dev/crm/orders/batch", Some(&batch)).await;
        assert_eq!((&answer["results"][0]["status"], &answer["results"][1]["status"]), (&json!(404), &json!(404)));
    }
    for lead in [theirs["leadId"].as_str(), MISSING] {
        let customer = json!({ "name": "x", "email": "x@example.com", "lead_id": lead });
        assert_eq!(response(&api, "post", "/dev/crm/customers", Some(&customer)).await.0, 404);
        let change = json!({ "lead_id": lead });
        assert_eq!(
            response(&api, "put", &format!("/dev/crm/customers/{}", mine["customerId"]), Some(&change)).await.0,
            404
        );
    }
    for kind in ["leads", "customers"] {
        let batch =
            json!({ "items": [{ "id": theirs[if kind == "leads" { "leadId" } else { "customerId" }], "name": "x" }] });
        let (_, answer) = response(&api, "post", &format!("/dev/crm/{kind}/batch"), Some(&batch)).await;
        assert_eq!(answer["results"][0]["status"], 404);
    }
    assert_eq!(everything(&api).await.len(), before.len());
    api.key = theirs_key;
    assert_eq!(everything(&api).await, before, "something of theirs was changed");
}

/// A valid body, so that only the id is wrong.
fn valid_body(template: &str) -> Value {
    match template {
        path if path.ends_with("/interactions") && path.contains("customers") => {
            json!({ "type": "call", "subject": "s", "date": "2024-01-01" })
        }
        path if path.ends_with("/interactions") => json!({ "type": "call" }),
        path if path.ends_with("/replay") => json!({ "since": "2024-01-01" }),
        path if path.ends_with("/feedback/{feedbackId}") => json!({ "rating": 3 }),
        _ => json!({}),
    }
}

/// All records of a workspace.
async fn everything(api: &Api) -> Vec<Value> {
    let mut all = Vec::new();
    for path in ["leads", "customers", "orders", "feedback"] {
        for record in api.read(&format!("/dev/crm/{path}")).await.as_array().unwrap() {
            if matches!(path, "leads" | "customers") {
                all.push(api.read(&format!("/dev/crm/{path}/{}/interactions", id(record))).await);
            }
            all.push(record.clone());
        }
    }
    all
}
