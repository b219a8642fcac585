//! Regression tests for bugs that random requests have found (`cargo dev fuzz-api`).

use reqwest::Method;
use serde_json::{Map, Value, json};

use crate::support::{self, Api, faults};

async fn create(api: &Api, extra: Value, status: u16) -> Value {
    let mut lead = json!({ "name": "Ann", "email": "ann@example.com" });
    lead.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    support::json(api.post("/dev/crm/leads").json(&lead), status).await
}

#[tokio::test]
async fn numbers_are_returned_as_written() {
    let api = Api::start().await;
    // PostgreSQL writes all digits of the first one, which an inexact parser reads as infinity.
    let numbers =
        json!([f64::MAX, f64::MIN, f64::MIN_POSITIVE, 5e-324, 1e300, 0.1, 1e-7, 123_456_789.123_456_78, u64::MAX]);
    let created = create(&api, json!({ "custom_fields": { "numbers": numbers } }), 201).await;
    assert_eq!(created["custom_fields"]["numbers"], numbers);
    let path = format!("/dev/crm/leads/{}", created["id"].as_str().unwrap());
    assert_eq!(support::json(api.get(&path), 200).await, created);
    assert_eq!(support::json(api.get("/dev/crm/leads"), 200).await, json!([created]));
}

#[tokio::test]
async fn control_characters_are_rejected_in_filters() {
    let api = Api::start().await;
    for name in ["name", "email", "phone", "company"] {
        for text in ["%00", "a%00b", "%C2%9B"] {
            let path = format!("/dev/crm/leads?{name}={text}");
            assert_eq!(faults(&support::json(api.get(&path), 400).await), [(name, "invalid")], "{text}");
        }
    }
    assert_eq!(support::json(api.get("/dev/crm/leads?q=a%00b"), 200).await, json!([]));
}

#[tokio::test]
async fn an_empty_string_counts_as_null_in_optional_fields() {
    let api = Api::start().await;
    let strings = ["phone", "company", "notes", "source", "status", "campaign_id", "assigned_to", "last_contact"];
    let emptied: Value = strings.into_iter().map(|name| (name.to_owned(), json!(" "))).collect::<Map<_, _>>().into();
    let created = create(&api, emptied, 201).await;
    for name in strings {
        let default = match name {
            "source" => json!("other"),
            "status" => json!("new"),
            _ => Value::Null,
        };
        assert_eq!(created[name], default, "{name}");
    }
    for name in ["score", "custom_fields"] {
        assert_eq!(faults(&create(&api, json!({ name: "" }), 400).await), [(name, "invalid")]);
    }
}

#[tokio::test]
async fn a_record_can_be_sent_back_unchanged() {
    let api = Api::start().await;
    let created = create(&api, json!({}), 201).await;
    let path = format!("/dev/crm/leads/{}", created["id"].as_str().unwrap());
    // An import can create more custom fields than a client may set.
    let wide: Value = (0..500).map(|n| (format!("column {n}"), json!("x"))).collect::<Map<_, _>>().into();
    sqlx::query("UPDATE leads SET custom_fields = $1").bind(&wide).execute(api.database.pool()).await.unwrap();
    let mut lead = api.read(&path).await;
    assert_eq!(api.send(Method::PUT, &path, lead.clone(), 200).await, lead);
    lead["score"] = json!(5);
    assert_eq!(api.send(Method::PUT, &path, lead.clone(), 200).await["score"], 5);
    let mut lead = api.read(&path).await;
    lead["custom_fields"]["column 0"] = json!("y");
    assert_eq!(faults(&api.send(Method::PUT, &path, lead.clone(), 400).await), [("custom_fields", "too_long")]);
}

#[tokio::test]
async fn a_leap_second_becomes_the_following_second() {
    let api = Api::start().await;
    let created = create(&api, json!({ "last_contact": "2016-12-31T23:59:60.5Z" }), 201).await;
    assert_eq!(created["last_contact"], "2017-01-01T00:00:00.500Z");
    let last = json!({ "email": "bob@example.com", "last_contact": "9999-12-31T23:59:60Z" });
    assert_eq!(faults(&create(&api, last, 400).await), [("last_contact", "out_of_range")]);
    assert_eq!(api.read(&format!("/dev/crm/leads/{}", created["id"].as_str().unwrap())).await, created);
}
