//! Customers are created, updated, found, imported and exported.

use reqwest::Method;
use serde_json::{Value, json};
use testing::Process;

use crate::support::{self, Api, each, faults, id};

const CUSTOMERS: &str = "/dev/crm/customers";

#[tokio::test]
async fn a_new_customer_has_every_field_and_the_defaults() {
    let api = Api::start().await;
    let customer = api.create(CUSTOMERS, json!({ "name": "Ada", "email": "ada@example.com" })).await;
    let (customer_id, now) = (id(&customer), &customer["created_at"]);
    assert_eq!(
        customer,
        json!({
            "id": customer_id, "name": "Ada", "email": "ada@example.com", "phone": null, "company": null, "type": "individual",
            "status": "active", "lead_id": null, "billing_address": null, "shipping_address": null,
            "payment_terms": null, "credit_limit": null, "tax_id": null, "notes": null, "assigned_to": null,
            "first_name": null, "last_name": null, "external_id": null, "custom_fields": {}, "created_at": now, "updated_at": now,
            "segment": "prospects", "health_score": null, "health_band": null,
        })
    );
    assert_eq!(api.read(&format!("{CUSTOMERS}/{customer_id}")).await, customer);
}

#[tokio::test]
async fn the_examples_of_the_specification_work() {
    let api = Api::start().await;
    let body = json!({
        "name": "Jane Smith", "email": "jane@example.com", "phone": "+1234567890", "company": "Tech Corp",
        "type": "business", "status": "active", "billing_address": "123 Main St\nSpringfield", "payment_terms": "Net 30",
    });
    let customer = api.create(CUSTOMERS, body.clone()).await;
    for (field, value) in body.as_object().unwrap() {
        assert_eq!(&customer[field], value, "{field}");
    }
    let path = format!("{CUSTOMERS}/{}", id(&customer));
    let changes = json!({ "status": "active", "credit_limit": 10000.00, "notes": "Updated customer information" });
    let changed = api.send(Method::PUT, &path, changes, 200).await;
    assert_eq!((&changed["credit_limit"], &changed["notes"]), (&json!(10000), &json!("Updated customer information")));
    assert_eq!(api.read(&path).await, changed);
    api.delete(&path, 204).await;
    api.delete(&path, 404).await;
    support::json(api.get(&path), 404).await;
}

#[tokio::test]
async fn every_fault_is_reported_at_once() {
    let api = Api::start().await;
    let body = json!({
        "name": "", "email": "jane", "type": "person", "status": null, "credit_limit": -1, "tax_id": "1".repeat(51),
        "lead_id": "7", "id": "7", "vat": "x", "billing_address": 7,
    });
    let answer = api.send(Method::POST, CUSTOMERS, body, 400).await;
    let mut reported = faults(&answer);
    reported.sort_unstable();
    let expected = [
        ("billing_address", "invalid"),
        ("credit_limit", "out_of_range"),
        ("email", "invalid"),
        ("id", "read_only"),
        ("lead_id", "invalid"),
        ("name", "required"),
        ("tax_id", "too_long"),
        ("type", "invalid"),
        ("vat", "unknown"),
    ];
    assert_eq!(reported, expected);
}

#[tokio::test]
async fn emails_are_unique_among_customers_only() {
    let api = Api::start().await;
    let body = |email: &str| json!({ "name": "Ada", "email": email });
    api.create("/dev/crm/leads", body("ada@example.com")).await;
    api.create(CUSTOMERS, body("ada@example.com")).await;
    let answer = api.send(Method::POST, CUSTOMERS, body("ADA@example.com"), 409).await;
    assert_eq!(answer["message"], "Resource already exists");
}

#[tokio::test]
async fn null_clears_a_field_and_an_empty_update_changes_nothing() {
    let api = Api::start().await;
    let body =
        json!({ "name": "Ada", "email": "ada@example.com", "type": "business", "credit_limit": 7.5, "notes": "x" });
    let customer = api.create(CUSTOMERS, body).await;
    let path = format!("{CUSTOMERS}/{}", id(&customer));
    assert_eq!(api.send(Method::PUT, &path, json!({}), 200).await, customer);
    assert_eq!(api.send(Method::PUT, &path, customer.clone(), 200).await, customer);
    let emptied = json!({ "type": null, "credit_limit": null, "notes": "" });
    let emptied = api.send(Method::PUT, &path, emptied, 200).await;
    assert_eq!(
        (&emptied["type"], &emptied["credit_limit"], &emptied["notes"]),
        (&json!("individual"), &Value::Null, &Value::Null)
    );
}

#[tokio::test]
async fn a_lead_and_its_customer_are_linked_both_ways() {
    let api = Api::start().await;
    let lead = api.create("/dev/crm/leads", json!({ "name": "Ada", "email": "ada@example.com" })).await;
    let other = api.create("/dev/crm/leads", json!({ "name": "Bob", "email": "bob@example.com" })).await;
    let body = |email: &str, lead: &Value| json!({ "name": "x", "email": email, "lead_id": id(lead) });
    let customer = api.create(CUSTOMERS, body("c1@example.com", &lead)).await;
    let of = async |lead: &Value| api.read(&format!("/dev/crm/leads/{}", id(lead))).await["customer_id"].clone();
    assert_eq!(of(&lead).await, customer["id"]);

    // A lead has one customer, and an unknown lead cannot be linked.
    api.send(Method::POST, CUSTOMERS, body("c2@example.com", &lead), 409).await;
    let nobody = json!({ "id": "0191d2c0-6f5e-4000-8000-00000000000a" });
    api.send(Method::POST, CUSTOMERS, body("c2@example.com", &nobody), 404).await;

    let path = format!("{CUSTOMERS}/{}", id(&customer));
    api.send(Method::PUT, &path, json!({ "lead_id": id(&other) }), 200).await;
    assert_eq!((of(&lead).await, of(&other).await), (Value::Null, customer["id"].clone()));
    api.delete(&format!("/dev/crm/leads/{}", id(&other)), 204).await;
    assert_eq!(api.read(&path).await["lead_id"], Value::Null);
}

#[tokio::test]
async fn customers_are_filtered_sorted_searched_and_paged() {
    let api = Api::start().await;
    for (name, email, kind, status) in [
        ("Ada Lovelace", "ada@example.com", "individual", "active"),
        ("Acme", "info@acme.example", "business", "blocked"),
        ("Bolt", "info@bolt.example", "business", "inactive"),
    ] {
        api.create(CUSTOMERS, json!({ "name": name, "email": email, "type": kind, "status": status })).await;
    }
    let names = async |query: &str| {
        let found = api.read(&format!("{CUSTOMERS}?{query}")).await;
        each(&found, "name").into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(names("").await, ["Bolt", "Acme", "Ada Lovelace"]);
    assert_eq!(names("type=business&status=blocked,active").await, ["Acme"]);
    assert_eq!(names("sort=email").await, ["Ada Lovelace", "Acme", "Bolt"]);
    assert_eq!(names("q=love").await, ["Ada Lovelace"]);
    let first = api.get(&format!("{CUSTOMERS}?limit=2&count=true")).send().await.unwrap();
    assert_eq!(first.headers()["x-total-count"], "3");
    let link = first.headers()["link"].to_str().unwrap().to_owned();
    let next = link.trim_start_matches('<').split('>').next().unwrap();
    assert_eq!(each(&api.read(next).await, "name"), ["Ada Lovelace"]);
    support::json(api.get(&format!("{CUSTOMERS}?typ=business")), 400).await;
}

#[tokio::test]
async fn exported_customers_can_be_imported_again_without_changes() {
    let api = Api::start().await;
    let _worker = Process::worker(&api.database, &[]);
    let file = "First Name,Last Name,Email 1,Company,Type,Status,Credit Limit,VAT Number,Billing Address,Country\n\
                Ada,Lovelace,ada@example.com,Analytical,Person,Current,99.50,GB1,\"1 St James\nLondon\",UK\n\
                Grace,Hopper,grace@example.com,Navy,Organization,On Hold,,,,US\n\
                Bad,Limit,bad@example.com,,,,-5,,,\n";
    let job = api.imported("/dev/crm/customers/import?strict=true", file).await;
    let count = |name: &str| job["result"][name].as_i64().unwrap();
    assert_eq!((job["kind"].as_str().unwrap(), count("created"), count("failed")), ("import_customers", 2, 1), "{job}");
    let found = api.read(&format!("{CUSTOMERS}?sort=email")).await;
    assert_eq!(
        (&found[0]["credit_limit"], &found[0]["tax_id"], &found[0]["custom_fields"]),
        (&json!(99.5), &json!("GB1"), &json!({ "Country": "UK", "Type": "Person", "Status": "Current" }))
    );
    assert_eq!((&found[1]["type"], &found[1]["status"]), (&json!("business"), &json!("blocked")));

    let export = async |api: &Api| {
        api.get(&format!("{CUSTOMERS}/export?sort=created_at")).send().await.unwrap().text().await.unwrap()
    };
    let exported = export(&api).await;
    let empty = api.on("empty").await;
    let job = empty.imported("/dev/crm/customers/import", exported.clone()).await;
    assert_eq!((&job["result"]["created"], &job["result"]["warnings"]), (&json!(2), &json!(0)));
    assert_eq!(export(&empty).await, exported);
}

#[tokio::test]
async fn links_in_a_file_are_imported_unless_they_conflict() {
    let api = Api::start().await;
    let _worker = Process::worker(&api.database, &[]);
    let lead = api.create("/dev/crm/leads", json!({ "name": "Ada", "email": "ada@example.com" })).await;
    let file = format!(
        "name,email,lead_id\nAda,a@example.com,{lead}\nTwin,b@example.com,{lead}\nLost,c@example.com,{lost}\n",
        lead = id(&lead),
        lost = "0191d2c0-6f5e-4000-8000-00000000000a"
    );
    let job = api.imported("/dev/crm/customers/import", file).await;
    assert_eq!((&job["result"]["created"], &job["result"]["warnings"]), (&json!(3), &json!(2)));
    let linked = api.read(&format!("{CUSTOMERS}?lead_id={}", id(&lead))).await;
    assert_eq!(each(&linked, "email"), ["a@example.com"]);
    assert_eq!(api.read(&format!("/dev/crm/leads/{}", id(&lead))).await["customer_id"], linked[0]["id"]);

    // The other direction. A file does not break an existing link.
    let free = api.read(&format!("{CUSTOMERS}?email=b@example.com")).await;
    let file = format!(
        "name,email,customer_id\nBob,bob@example.com,{free}\nAda,ada@example.com,{free}\n",
        free = id(&free[0])
    );
    let job = api.imported("/dev/crm/leads/import?on_conflict=update", file).await;
    assert_eq!(
        (&job["result"]["created"], &job["result"]["updated"], &job["result"]["warnings"]),
        (&json!(1), &json!(1), &json!(1))
    );
    let bob = api.read("/dev/crm/leads?email=bob@example.com").await;
    assert_eq!(api.read(&format!("{CUSTOMERS}/{}", id(&free[0]))).await["lead_id"], bob[0]["id"]);
    assert_eq!(api.read(&format!("/dev/crm/leads/{}", id(&lead))).await["customer_id"], linked[0]["id"]);
}
