//! Deleted records are listed as long as they can be restored.

use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use testing::earlier;

use crate::list_sorts::pages;
use crate::support::{self, Api, each, faults, id};

const LEADS: &str = "/dev/crm/leads";

async fn created(api: &Api, path: &str, body: Value) -> String {
    id(&api.create(path, body).await).to_owned()
}

#[tokio::test]
async fn deleted_records_are_listed_last_deleted_first() {
    let api = Api::start().await;
    let mut ids = Vec::new();
    for name in ["Ann", "Bob", "Eve", "Joe"] {
        let lead = json!({ "name": name, "email": format!("{name}@example.com"), "custom_fields": { "tier": "gold" } });
        ids.push(created(&api, LEADS, lead).await);
    }
    let before = api.read(&format!("{LEADS}/{}", ids[2])).await;
    for n in [1, 2, 0] {
        api.delete(&format!("{LEADS}/{}", ids[n]), 204).await;
    }
    let deleted = api.read(&format!("{LEADS}?deleted=true")).await;
    assert_eq!(each(&deleted, "name"), ["Ann", "Eve", "Bob"]);
    let mut eve = deleted[1].clone();
    let deleted_at = eve.as_object_mut().unwrap().remove("deleted_at").unwrap();
    assert_eq!(eve, before);
    assert!(deleted_at.as_str() > before["updated_at"].as_str(), "{deleted_at}");
    assert_eq!(pages(&api, &format!("{LEADS}?deleted=true&limit=1")).await, *deleted.as_array().unwrap());
    let counted = api.get(&format!("{LEADS}?deleted=true&limit=1&count=true")).send().await.unwrap();
    assert_eq!(counted.headers()["x-total-count"], "3");

    for (query, expected) in [
        (format!("id={}", ids[1]), vec!["Bob"]),
        (format!("id={},{}", ids[1], ids[0]), vec!["Ann", "Bob"]),
        (format!("id={}", ids[3]), vec![]),
        ("email=EVE@example.com".to_owned(), vec!["Eve"]),
        (format!("import_job_id={}", ids[0]), vec![]),
        ("import_job_id=null".to_owned(), vec!["Ann", "Eve", "Bob"]),
    ] {
        assert_eq!(each(&api.read(&format!("{LEADS}?deleted=true&{query}")).await, "name"), expected, "{query}");
    }

    // Restored records are no longer deleted; deleted again, they are listed once.
    support::json(api.post(&format!("{LEADS}/{}/restore", ids[1])), 200).await;
    assert_eq!(each(&api.read(&format!("{LEADS}?deleted=true")).await, "name"), ["Ann", "Eve"]);
    api.delete(&format!("{LEADS}/{}", ids[1]), 204).await;
    assert_eq!(each(&api.read(&format!("{LEADS}?deleted=true")).await, "name"), ["Bob", "Ann", "Eve"]);
    assert_eq!(each(&api.read(&format!("{LEADS}?deleted=false")).await, "name"), ["Joe"]);
    assert_eq!(api.read("/dev/crm/customers?deleted=true").await, json!([]));

    let old = format!("UPDATE history SET {} WHERE record_id = $1", earlier("created_at", "31 days"));
    sqlx::query(AssertSqlSafe(old))
        .bind(ids[0].parse::<uuid::Uuid>().unwrap())
        .execute(&mut api.connection().await)
        .await
        .unwrap();
    assert_eq!(each(&api.read(&format!("{LEADS}?deleted=true")).await, "name"), ["Bob", "Eve"]);
}

#[tokio::test]
async fn records_that_were_deleted_with_another_one_are_not_listed() {
    let api = Api::start().await;
    let customer = json!({ "name": "Ann", "email": "ann@example.com" });
    let customer = created(&api, "/dev/crm/customers", customer).await;
    let order = json!({ "customer_id": customer, "product_id": customer, "quantity": 1 });
    let (kept, deleted) =
        (created(&api, "/dev/crm/orders", order.clone()).await, created(&api, "/dev/crm/orders", order).await);
    api.delete(&format!("/dev/crm/orders/{deleted}"), 204).await;
    assert_eq!(each(&api.read("/dev/crm/orders?deleted=true").await, "id"), [deleted.as_str()]);
    api.delete(&format!("/dev/crm/customers/{customer}"), 204).await;
    assert_eq!(each(&api.read("/dev/crm/orders?deleted=true").await, "id"), [deleted.as_str()]);
    assert_eq!(each(&api.read("/dev/crm/customers?deleted=true").await, "id"), [customer.as_str()]);
    assert_eq!(api.read("/dev/crm/feedback?deleted=true").await, json!([]));
    assert_eq!(api.read(&format!("/dev/crm/orders?id={kept}")).await, json!([]));
}

#[tokio::test]
async fn a_list_of_deleted_records_takes_few_parameters() {
    let api = Api::start().await;
    for (query, expected) in [
        ("sort=name", ("sort", "unknown")),
        ("fields=name", ("fields", "unknown")),
        ("status=new", ("status", "unknown")),
        ("q=ann", ("q", "unknown")),
        ("custom.tier=gold", ("custom.tier", "unknown")),
        ("tz=UTC", ("tz", "unknown")),
        ("deleted=true", ("deleted", "duplicate")),
        ("id=x", ("id", "invalid")),
        ("cursor=x", ("cursor", "invalid")),
    ] {
        let answer = support::json(api.get(&format!("{LEADS}?deleted=true&{query}")), 400).await;
        assert_eq!(faults(&answer), [expected], "{query}");
    }
    for n in 0..4 {
        let person = json!({ "name": "x", "email": format!("{n}@example.com") });
        for path in [LEADS, "/dev/crm/customers"] {
            let id = created(&api, path, person.clone()).await;
            api.delete(&format!("{path}/{id}"), 204).await;
        }
    }
    let page = api.get(&format!("{LEADS}?deleted=true&limit=1")).send().await.unwrap();
    let link = page.headers()["link"].to_str().unwrap();
    let cursor = link.split("cursor=").nth(1).unwrap().split('>').next().unwrap();
    for path in [format!("{LEADS}?limit=1"), "/dev/crm/customers?deleted=true".to_owned()] {
        let answer = support::json(api.get(&format!("{path}&cursor={cursor}")), 400).await;
        assert_eq!(faults(&answer), [("cursor", "invalid")], "{path}");
    }
}
