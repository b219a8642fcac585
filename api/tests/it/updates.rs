//! What an update may send: some fields, the whole record, `null` and empty strings.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Api, faults, id};

const NOBODY: &str = "0191d2c0-6f5e-4000-8000-00000000000a";

/// One record of each kind that callers update: its path, a change, and the record.
async fn one_of_each(api: &Api) -> Vec<(String, Value, Value)> {
    let person = json!({ "name": "Ada", "email": "ada@example.com" });
    let mut all = Vec::new();
    let mut create = async |path: String, body: Value, change: Value| {
        let record = api.create(&path, body).await;
        let place = format!("{path}/{}", id(&record));
        all.push((place.clone(), change, record.clone()));
        (place, id(&record).to_owned())
    };
    let (lead, _) = create("/dev/crm/leads".into(), person.clone(), json!({ "score": 7 })).await;
    let (customer, customer_id) =
        create("/dev/crm/customers".into(), person.clone(), json!({ "credit_limit": 7 })).await;
    let call = json!({ "type": "call" });
    create(format!("{lead}/interactions"), call, json!({ "type": "meeting", "notes": "x" })).await;
    let call = json!({ "type": "call", "subject": "s", "date": "2024-01-15" });
    create(format!("{customer}/interactions"), call, json!({ "subject": "t", "date": "2024-01-16T00:00:00Z" })).await;
    let order = json!({ "customer_id": customer_id, "product_id": NOBODY, "quantity": 1 });
    create("/dev/crm/orders".into(), order, json!({ "quantity": 2, "status": "shipped" })).await;
    create("/dev/crm/users".into(), person, json!({ "name": "Countess" })).await;
    all
}

#[tokio::test]
async fn a_patch_does_what_a_put_does() {
    let api = Api::start().await;
    for (path, change, record) in one_of_each(&api).await {
        let patched = api.send(Method::PATCH, &path, change.clone(), 200).await;
        let mut expected = record.clone();
        expected.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        expected["updated_at"] = patched["updated_at"].clone();
        assert_eq!(patched, expected, "{path}");
        assert_eq!(api.read(&path).await, patched, "{path}");
        // A change that is already made, the whole record, and nothing at all change nothing.
        for body in [change, patched.clone(), json!({})] {
            assert_eq!(api.send(Method::PATCH, &path, body, 200).await, patched, "{path}");
        }
        let unknown = api.send(Method::PATCH, &path, json!({ "nmae": "x" }), 400).await;
        assert_eq!(faults(&unknown), [("nmae", "unknown")], "{path}");
        let stale = api.request(Method::PATCH, &path).header("if-match", "\"stale\"").json(&json!({}));
        assert_eq!(stale.send().await.unwrap().status(), 412, "{path}");
    }
    let settings = api.send(Method::PATCH, "/dev/crm/settings", json!({ "nightly_at": "03:30" }), 200).await;
    assert_eq!(settings["nightly_at"], "03:30");
}

#[tokio::test]
async fn read_only_fields_are_rejected_unless_an_update_sends_them_back_unchanged() {
    let api = Api::start().await;
    for (path, _, record) in one_of_each(&api).await {
        let collection = path.rsplit_once('/').unwrap().0;
        let (id, time) = (record["id"].clone(), record["created_at"].clone());
        let mut body = json!({ "id": id, "created_at": time, "updated_at": time });
        let sent_back = api.send(Method::PUT, &path, body.clone(), 200).await;
        assert_eq!(sent_back, record, "{path}");
        let rejected = api.send(Method::POST, collection, body.clone(), 400).await;
        for field in ["id", "created_at", "updated_at"] {
            assert!(faults(&rejected).contains(&(field, "read_only")), "{path}: {rejected}");
            body[field] = if field == "id" { NOBODY.into() } else { "2020-01-01T00:00:00Z".into() };
        }
        let rejected = api.send(Method::PUT, &path, body, 400).await;
        let read_only = ["id", "created_at", "updated_at"].map(|field| (field, "read_only"));
        assert_eq!(faults(&rejected), read_only, "{path}");
    }

    // Computed fields change by themselves, so an update ignores them.
    let customer = api.read("/dev/crm/customers").await[0].clone();
    let path = format!("/dev/crm/customers/{}", id(&customer));
    let computed = json!({ "segment": "champions", "health_score": 1, "health_band": null });
    let mut body = computed.clone();
    body["phone"] = "7".into();
    let changed = api.send(Method::PUT, &path, body, 200).await;
    assert_eq!(changed["phone"], "7");
    let rejected = api.send(Method::POST, "/dev/crm/customers", computed, 400).await;
    for field in ["segment", "health_score", "health_band"] {
        assert!(faults(&rejected).contains(&(field, "read_only")), "{rejected}");
    }
}

#[tokio::test]
async fn null_sets_the_default_and_an_empty_string_clears() {
    let api = Api::start().await;
    let person = |more: Value| {
        let mut body = json!({ "name": "Ada", "email": "ada@example.com" });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let lead = json!({ "source": "website", "status": "won", "score": 9, "custom_fields": { "a": 1 } });
    let lead_defaults = json!({ "source": "other", "status": "new", "score": 0, "custom_fields": {} });
    let customer = json!({ "type": "business", "status": "inactive", "custom_fields": { "a": 1 } });
    let customer_defaults = json!({ "type": "individual", "status": "active", "custom_fields": {} });
    let texts = json!({ "phone": "1", "company": "Acme", "notes": "n", "assigned_to": NOBODY });
    for (path, set, defaults) in
        [("/dev/crm/leads", lead, lead_defaults), ("/dev/crm/customers", customer, customer_defaults)]
    {
        let nulls = Value::Object(defaults.as_object().unwrap().keys().map(|key| (key.clone(), Value::Null)).collect());
        let mut record = api.create(path, person(set)).await;
        let place = format!("{path}/{}", id(&record));
        record = api.send(Method::PUT, &place, texts.clone(), 200).await;
        assert_eq!(record["company"], "Acme");
        record = api.send(Method::PUT, &place, nulls.clone(), 200).await;
        for (field, default) in defaults.as_object().unwrap() {
            assert_eq!(&record[field], default, "{path}: {field}");
        }
        let empty = texts.as_object().unwrap().keys().map(|key| (key.clone(), json!(" "))).collect();
        record = api.send(Method::PUT, &place, Value::Object(empty), 200).await;
        for field in texts.as_object().unwrap().keys() {
            assert_eq!(record[field], Value::Null, "{path}: {field}");
        }
        api.delete(&place, 204).await;
        // The same when the record is created.
        record = api.create(path, person(nulls)).await;
        for (field, default) in defaults.as_object().unwrap() {
            assert_eq!(&record[field], default, "{path}: {field}");
        }
    }

    let customer = api.read("/dev/crm/customers").await[0].clone();
    let order = json!({ "customer_id": id(&customer), "product_id": NOBODY, "quantity": 1, "status": "shipped",
        "order_date": "2024-01-15" });
    let order = api.create("/dev/crm/orders", order).await;
    let path = format!("/dev/crm/orders/{}", id(&order));
    let reset = api.send(Method::PUT, &path, json!({ "status": null, "order_date": "" }), 200).await;
    assert_eq!(reset["status"], "pending");
    assert!(reset["order_date"].as_str() > order["created_at"].as_str(), "{reset}");
}
