//! Lists are sorted by every date, number and short text of their records.

use std::cmp::Ordering;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use shared::accounts::users::User;
use shared::crm::customers::Customer;
use shared::crm::feedback::Feedback;
use shared::crm::interactions::{CustomerInteraction, LeadInteraction};
use shared::crm::leads::Lead;
use shared::crm::orders::Order;
use shared::crm::suppressions::Suppression;
use shared::query::Spec;
use shared::records::Record;
use shared::values::kind::Kind;
use shared::{jobs, mail};

use crate::emails::queued;
use crate::support::{self, Api, body, faults, id};

/// Follows a list's links and returns the records of all pages.
pub async fn pages(api: &Api, path: &str) -> Vec<Value> {
    let (mut records, mut next) = (Vec::new(), Some(path.to_owned()));
    while let Some(path) = next {
        let answer = api.get(&path).send().await.unwrap();
        let link = answer.headers().get("link").map(|link| link.to_str().unwrap().to_owned());
        next = link.map(|link| link.trim_start_matches('<').split('>').next().unwrap().to_owned());
        records.extend(body(answer, 200).await.as_array().unwrap().clone());
    }
    records
}

/// Texts whose order differs with case and accents.
fn fold(text: &str) -> String {
    text.to_lowercase().replace(['á', 'à'], "a").replace('é', "e").replace('ü', "u")
}

fn compare(kind: Kind, one: &Value, other: &Value) -> Ordering {
    match (kind, one, other) {
        (Kind::Word(words), Value::String(one), Value::String(other)) => {
            let place = |word: &String| words.iter().position(|known| known == word).unwrap();
            place(one).cmp(&place(other))
        }
        (Kind::Time, Value::String(one), Value::String(other)) => {
            let time = |text: &String| text.parse::<DateTime<Utc>>().unwrap();
            time(one).cmp(&time(other))
        }
        (_, Value::String(one), Value::String(other)) => fold(one).cmp(&fold(other)).then_with(|| one.cmp(other)),
        _ => one.as_f64().unwrap().total_cmp(&other.as_f64().unwrap()),
    }
}

/// Reads a list page by page in each of its orders, and compares it with the sorted list.
async fn check(api: &Api, path: &str, spec: &Spec) {
    let all = api.read(path).await.as_array().unwrap().clone();
    assert!(all.len() > 2, "{path} has {} records", all.len());
    for field in spec.sortable() {
        for sign in ["", "-"] {
            let directed = |order: Ordering| if sign.is_empty() { order } else { order.reverse() };
            let mut expected = all.clone();
            expected.sort_by(|one, other| {
                let (left, right) = (&one[field.name], &other[field.name]);
                let by_id = || directed(id(one).cmp(id(other)));
                match (left.is_null(), right.is_null()) {
                    (true, true) => by_id(),
                    // Empty values are last in both directions.
                    (true, false) => Ordering::Greater,
                    (false, true) => Ordering::Less,
                    (false, false) => directed(compare(field.kind, left, right)).then_with(by_id),
                }
            });
            let query = format!("{path}?sort={sign}{}&limit=2", field.name);
            let sorted = pages(api, &query).await;
            let values = |records: &[Value]| -> Vec<(Value, Value)> {
                records.iter().map(|record| (record[field.name].clone(), record["id"].clone())).collect()
            };
            assert_eq!(values(&sorted), values(&expected), "{query}");
        }
    }
}

const NAMES: [&str; 7] = ["Zoe", "abel", "Ábel", "ABEL", "Émile", "emile", "abel"];

/// Creates records of every kind, some with the same values and some with empty ones.
async fn fill(api: &Api) -> (String, String) {
    let (mut lead, mut customer) = (String::new(), String::new());
    for (n, name) in NAMES.into_iter().enumerate() {
        let email = format!("{}@example.com", ["c", "a", "b", "e", "d", "g", "f"][n]);
        let has = |value: Value| if n % 3 == 0 { Value::Null } else { value };
        let lead_body = json!({
            "name": name, "email": email, "company": has(json!(NAMES[6 - n])), "phone": has(json!(format!("+{}", n % 2))),
            "status": (["won", "new", "lost"][n % 3]), "source": (["website", "campaign"][n % 2]), "score": ([50.0, 7.5, 50.0][n % 3]),
            "last_contact": has(json!(format!("2026-01-{:02}", 20 - n))),
        });
        lead = id(&api.create("/dev/crm/leads", lead_body).await).to_owned();
        let customer_body = json!({
            "name": name, "email": email, "company": has(json!(name)), "type": (["business", "individual"][n % 2]),
            "credit_limit": has(json!(([10.0, 9.5][n % 2]))), "tax_id": has(json!(format!("T{n}"))), "payment_terms": has(json!("Net 30")),
        });
        customer = id(&api.create("/dev/crm/customers", customer_body).await).to_owned();
        api.create("/dev/crm/users", json!({ "name": name, "email": email })).await;
        api.create("/dev/crm/suppressions", json!({ "email": email })).await;
        queued(api, &format!("to-{email}"), None).await;
    }
    for n in 0..5 {
        let has = |value: &str| if n % 2 == 0 { Value::Null } else { json!(value) };
        let order = json!({ "customer_id": customer, "product_id": customer, "quantity": ([3, 20, 3, 1, 5][n]),
            "status": (["shipped", "pending"][n % 2]), "order_date": format!("2026-02-{:02}", 20 - n) });
        api.create("/dev/crm/orders", order).await;
        let note = json!({ "type": (["note", "call"][n % 2]), "next_action": has(NAMES[n]), "next_action_date": has("2026-03-01") });
        api.create(&format!("/dev/crm/leads/{lead}/interactions"), note).await;
        let call = json!({ "type": (["support", "email"][n % 2]), "subject": NAMES[n], "date": format!("2026-01-{:02}", 9 - n),
            "outcome": has("good") });
        api.create(&format!("/dev/crm/customers/{customer}/interactions"), call).await;
        api.import("Name,Email\n").await;
    }
    (lead, customer)
}

#[tokio::test]
async fn every_list_is_sorted_by_every_ordered_field() {
    let api = Api::start().await;
    api.leaves_jobs("import_leads");
    let (lead, customer) = fill(&api).await;
    sqlx::query(
        "INSERT INTO feedback (workspace_id, id, customer_id, status, rating, category, requested_at, reminders, answered_at, created_at, updated_at)
         SELECT $1, gen_random_uuid(), id, 'answered', 1 + n % 3, CASE WHEN n % 2 = 0 THEN name END, now(), n % 2, now(), now(), now()
         FROM (SELECT id, name, row_number() OVER (ORDER BY id)::smallint AS n FROM customers WHERE workspace_id = $1) AS customers",
    )
    .bind(api.workspace_id)
    .execute(&mut api.connection().await)
    .await
    .unwrap();
    check(&api, "/dev/crm/leads", &Lead::LIST).await;
    // The first list that is filtered by scores refreshes them.
    api.read("/dev/crm/customers?segment=new").await;
    check(&api, "/dev/crm/customers", &Customer::LIST).await;
    check(&api, "/dev/crm/orders", &Order::LIST).await;
    check(&api, "/dev/crm/feedback", &Feedback::LIST).await;
    check(&api, "/dev/crm/users", &User::LIST).await;
    check(&api, "/dev/crm/suppressions", &Suppression::LIST).await;
    check(&api, "/dev/crm/emails", &mail::LIST).await;
    check(&api, "/dev/crm/jobs", &jobs::LIST).await;
    check(&api, &format!("/dev/crm/leads/{lead}/interactions"), &LeadInteraction::LIST).await;
    check(&api, &format!("/dev/crm/customers/{customer}/interactions"), &CustomerInteraction::LIST).await;
}

#[tokio::test]
async fn an_order_without_an_index_needs_a_limit() {
    let api = Api::start().await;
    for path in
        ["leads?sort=name", "leads?sort=-score", "customers?sort=segment", "orders?sort=quantity", "users?sort=name"]
    {
        let answer = support::json(api.get(&format!("/dev/crm/{path}")), 400).await;
        assert_eq!(faults(&answer), [("sort", "needs_limit")], "{path}");
        assert_eq!(api.read(&format!("/dev/crm/{path}&limit=5")).await, json!([]));
    }
    for path in ["leads/export?sort=name", "customers/export?sort=-health_score"] {
        let answer = support::json(api.get(&format!("/dev/crm/{path}")), 400).await;
        assert_eq!(faults(&answer), [("sort", "needs_limit")], "{path}");
    }
    for path in [
        "leads?sort=created_at",
        "leads?sort=-email",
        "customers?sort=email",
        "orders?sort=-order_date",
        "leads/export?sort=email",
    ] {
        assert_eq!(api.get(&format!("/dev/crm/{path}")).send().await.unwrap().status(), 200, "{path}");
    }
    for name in ["notes", "assigned_to", "custom_fields", "id", "workspace_id", "", "-"] {
        let answer = support::json(api.get(&format!("/dev/crm/leads?sort={name}&limit=1")), 400).await;
        assert_eq!(faults(&answer), [("sort", "invalid")], "{name}");
    }
}

/// A cursor holds only the start of a long text; the rest is read from the record.
#[tokio::test]
async fn texts_that_are_too_long_for_a_cursor_are_sorted_exactly() {
    let api = Api::start().await;
    let long = "中".repeat(190);
    for (n, end) in ["c", "a", "b", "b", "d"].into_iter().enumerate() {
        let email = format!("{n}@example.com");
        api.create("/dev/crm/leads", json!({ "name": format!("{long}{end}"), "email": email })).await;
    }
    for (sort, expected) in [("name", "abbcd"), ("-name", "dcbba")] {
        let path = format!("/dev/crm/leads?sort={sort}&limit=1");
        let link = api.get(&path).send().await.unwrap().headers()["link"].to_str().unwrap().to_owned();
        assert!(link.len() < path.len() + 530, "{}", link.len());
        let names = pages(&api, &path).await;
        let ends: String = names.iter().map(|lead| lead["name"].as_str().unwrap().chars().last().unwrap()).collect();
        assert_eq!(ends, expected);
    }
    // The record of a cursor was deleted: the list continues after the start of its name.
    let first = api.get("/dev/crm/leads?sort=name&limit=1").send().await.unwrap();
    let link = first.headers()["link"].to_str().unwrap().trim_start_matches('<').split('>').next().unwrap().to_owned();
    let deleted = body(first, 200).await;
    api.delete(&format!("/dev/crm/leads/{}", id(&deleted[0])), 204).await;
    assert_eq!(pages(&api, &link).await.len(), 4);
}

#[tokio::test]
async fn a_sorted_list_is_filtered_and_searched() {
    let api = Api::start().await;
    api.leaves_jobs("import_leads");
    fill(&api).await;
    let found = async |query: &str| -> Vec<String> {
        let leads = pages(&api, &format!("/dev/crm/leads?{query}&limit=2")).await;
        leads.iter().map(|lead| lead["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(found("sort=name&q=abel&name[ne]=emile").await, ["ABEL", "abel", "abel", "Ábel"]);
    assert_eq!(found("sort=-name&name=emile").await, ["Émile", "emile"]);
    assert_eq!(found("sort=score&status=new&q=abel").await, ["abel", "Émile"]);
    assert_eq!(found("sort=company&company=null").await, ["Zoe", "ABEL", "abel"]);
    let count = api.get("/dev/crm/leads?sort=name&q=abel&limit=1&count=true").send().await.unwrap();
    assert_eq!(count.headers()["x-total-count"], "6");
}
