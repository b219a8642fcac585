//! What requests at random have found (`cargo dev fuzz-api`), so that it stays found.

use reqwest::Method;
use serde_json::{Map, Value, json};

use crate::support::{self, Api, faults};

async fn create(api: &Api, extra: Value, status: u16) -> Value {
    let mut lead = json!({ "name": "Ann", "email": "ann@example.com" });
    lead.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    support::json(api.post("/dev/crm/leads").json(&lead), status).await
}

#[tokio::test]
async fn numbers_come_out_of_the_database_as_they_went_in() {
    let api = Api::start().await;
    // The database writes all digits of the first one, and a reader that is not exact takes them for infinity.
    let numbers =
        json!([f64::MAX, f64::MIN, f64::MIN_POSITIVE, 5e-324, 1e300, 0.1, 1e-7, 123_456_789.123_456_78, u64::MAX]);
    let made = create(&api, json!({ "custom_fields": { "numbers": numbers } }), 201).await;
    assert_eq!(made["custom_fields"]["numbers"], numbers);
    let path = format!("/dev/crm/leads/{}", made["id"].as_str().unwrap());
    assert_eq!(support::json(api.get(&path), 200).await, made);
    assert_eq!(support::json(api.get("/dev/crm/leads"), 200).await, json!([made]));
}

#[tokio::test]
async fn control_characters_are_no_filter() {
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
async fn an_empty_string_is_none_where_a_string_may_stand() {
    let api = Api::start().await;
    let strings = ["phone", "company", "notes", "source", "status", "campaign_id", "assigned_to", "last_contact"];
    let emptied: Value = strings.into_iter().map(|name| (name.to_owned(), json!(" "))).collect::<Map<_, _>>().into();
    let made = create(&api, emptied, 201).await;
    for name in strings {
        let default = match name {
            "source" => json!("other"),
            "status" => json!("new"),
            _ => Value::Null,
        };
        assert_eq!(made[name], default, "{name}");
    }
    for name in ["score", "custom_fields"] {
        assert_eq!(faults(&create(&api, json!({ name: "" }), 400).await), [(name, "invalid")]);
    }
}

#[tokio::test]
async fn what_was_read_can_be_sent_back() {
    let api = Api::start().await;
    let made = create(&api, json!({}), 201).await;
    let path = format!("/dev/crm/leads/{}", made["id"].as_str().unwrap());
    // As an import may leave them: more than a caller may set.
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
async fn a_leap_second_is_the_one_after_it() {
    let api = Api::start().await;
    let made = create(&api, json!({ "last_contact": "2016-12-31T23:59:60.5Z" }), 201).await;
    assert_eq!(made["last_contact"], "2017-01-01T00:00:00.500Z");
    let last = json!({ "email": "bob@example.com", "last_contact": "9999-12-31T23:59:60Z" });
    assert_eq!(faults(&create(&api, last, 400).await), [("last_contact", "out_of_range")]);
    assert_eq!(api.read(&format!("/dev/crm/leads/{}", made["id"].as_str().unwrap())).await, made);
}
