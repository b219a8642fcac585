//! All records that match a filter are changed by one request.

mod actions;
mod concurrency;
mod enrolment;
mod requests;
mod undo;

use reqwest::Method;
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use testing::Process;
use uuid::Uuid;

use crate::support::{self, Api, each, id};

const LEADS: &str = "/dev/crm/leads";
const CUSTOMERS: &str = "/dev/crm/customers";
const ORDERS: &str = "/dev/crm/orders";
const OWNER: &str = "019ab3f2-7d20-7a11-9c3e-5b6f8a2d4c10";
const NOBODY: &str = "0191d2c0-6f5e-7000-8000-00000000000a";

async fn start() -> (Api, Process) {
    let api = Api::start().await;
    let worker = Process::worker(&api.database, &[]);
    (api, worker)
}

/// Sends a bulk change, and returns its job.
async fn accepted(api: &Api, list: &str, body: Value) -> Value {
    api.send(Method::POST, &format!("{list}/bulk"), body, 202).await
}

/// Sends a bulk change, and returns its job when it has ended.
async fn bulk(api: &Api, list: &str, body: Value) -> Value {
    let job = accepted(api, list, body).await;
    let job = api.ended(&job).await;
    assert_eq!(job["status"], "succeeded", "{job}");
    job
}

/// The numbers of records that matched, were changed, were unchanged, and were rejected.
fn counts(job: &Value) -> [i64; 4] {
    let done = &job["progress"]["done"];
    assert_eq!((done, done), (&job["result"]["matched"], &job["progress"]["total"]), "{job}");
    ["matched", "changed", "unchanged", "failed"].map(|count| job["result"][count].as_i64().unwrap())
}

/// The id and the reason of each record that a job rejected.
async fn rejected(api: &Api, job: &Value) -> Vec<(String, String)> {
    let errors = api.read(&format!("/dev/crm/jobs/{}/errors", id(job))).await;
    let text = |error: &Value, pointer: &str| error.pointer(pointer).unwrap().as_str().unwrap().to_owned();
    errors.as_array().unwrap().iter().map(|error| (text(error, "/row/id"), text(error, "/code"))).collect()
}

/// What a job did: the outcome and the id of each record.
async fn done(api: &Api, job: &Value) -> Vec<(String, String)> {
    let effects = api.read(&format!("/dev/crm/jobs/{}/records?limit=1000", id(job))).await;
    let pairs = each(&effects, "outcome").into_iter().zip(each(&effects, "id"));
    pairs.map(|(outcome, id)| (outcome.to_owned(), id.to_owned())).collect()
}

async fn lead(api: &Api, name: &str, fields: Value) -> Value {
    let mut body = json!({ "name": name, "email": format!("{name}@example.com") });
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    api.create(LEADS, body).await
}

async fn customer(api: &Api, name: &str) -> Value {
    api.create(CUSTOMERS, json!({ "name": name, "email": format!("{name}@example.com") })).await
}

async fn order(api: &Api, customer: &Value) -> Value {
    api.create(ORDERS, json!({ "customer_id": id(customer), "product_id": NOBODY, "quantity": 1 })).await
}

/// Imports leads with this status, named by their numbers.
async fn import(api: &Api, status: &str, number: usize) {
    let row = |n| format!("{status} {n},{status}{n}@example.com,{status}\n");
    let file = format!("name,email,status\n{}", (0..number).map(row).collect::<String>());
    let job = api.imported(&format!("{LEADS}/import"), file).await;
    assert_eq!(job["result"]["created"], json!(number), "{job}");
}

/// Counts with a statement.
async fn count(api: &Api, statement: &str) -> i64 {
    sqlx::query_scalar(AssertSqlSafe(statement.to_owned())).fetch_one(&mut api.connection().await).await.unwrap()
}

/// The numbers of entries that a job left in the history, and of their records.
async fn entries(api: &Api, job: &Value) -> (i64, i64) {
    let job: Uuid = id(job).parse().unwrap();
    let entries = "SELECT count(*), count(DISTINCT record_id) FROM history WHERE actor_type = 'job' AND actor_id = $1";
    sqlx::query_as(entries).bind(job).fetch_one(&mut api.connection().await).await.unwrap()
}

#[tokio::test]
async fn a_thousand_won_leads_are_assigned_with_one_dry_run_and_one_call() {
    let (api, _worker) = start().await;
    import(&api, "won", 1_038).await;
    import(&api, "new", 10).await;
    let body = |more: Value| {
        let mut body = json!({ "filter": { "status": "won" }, "action": "assign", "set": { "assigned_to": OWNER } });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };

    let dry = bulk(&api, LEADS, body(json!({ "dry_run": true }))).await;
    assert_eq!(counts(&dry), [1_038, 1_038, 0, 0]);
    assert_eq!((&dry["result"]["dry_run"], &dry["result"]["confirm"]), (&json!(true), &json!(1_038)));
    assert_eq!(count(&api, "SELECT count(*) FROM leads WHERE assigned_to IS NOT NULL").await, 0);
    assert_eq!(entries(&api, &dry).await, (0, 0));

    let refused = api.send(Method::POST, &format!("{LEADS}/bulk"), body(json!({})), 400).await;
    assert_eq!(support::faults(&refused), [("confirm", "confirm_required")]);
    assert!(refused["errors"][0]["message"].as_str().unwrap().contains("1038"), "{refused}");

    let accepted = api.post(&format!("{LEADS}/bulk")).json(&body(json!({ "confirm": 1_038 }))).send().await.unwrap();
    let location = accepted.headers()["location"].to_str().unwrap().to_owned();
    let job = support::body(accepted, 202).await;
    assert_eq!((location, &job["kind"]), (format!("/dev/crm/jobs/{}", id(&job)), &json!("bulk_leads")));
    assert_eq!(job["progress"], json!({ "done": 0, "total": 1_038 }));
    let job = api.ended(&job).await;
    assert_eq!(counts(&job), [1_038, 1_038, 0, 0]);
    let result = json!({ "action": "assign", "matched": 1_038, "changed": 1_038, "unchanged": 0, "failed": 0,
        "dry_run": false, "confirm": 1_038 });
    assert_eq!(job["result"], result);

    let assigned = format!("{LEADS}?limit=1000&count=true&assigned_to={OWNER}");
    let response = api.get(&assigned).send().await.unwrap();
    assert_eq!(response.headers()["x-total-count"], "1038");
    let leads = support::body(response, 200).await;
    assert!(leads.as_array().unwrap().iter().all(|lead| lead["status"] == "won"));
    // Each lead has one entry, by the job.
    assert_eq!(entries(&api, &job).await, (1_038, 1_038));
    let history = api.read(&format!("{LEADS}/{}/history", id(&leads[0]))).await;
    assert_eq!(history[0]["actor"], json!({ "type": "job", "id": id(&job) }));
    assert_eq!(history[0]["changes"], json!({ "assigned_to": { "from": null, "to": OWNER } }));
    let effects = done(&api, &job).await;
    assert_eq!(effects.len(), 1_000);
    assert!(effects.iter().all(|(outcome, _)| outcome == "updated"));
    assert_eq!(rejected(&api, &job).await, []);

    // The same again changes nothing.
    let again = bulk(&api, LEADS, body(json!({ "confirm": 1_038 }))).await;
    assert_eq!(counts(&again), [1_038, 0, 1_038, 0]);
    assert_eq!(entries(&api, &again).await, (0, 0));
}

#[tokio::test]
async fn every_filter_of_the_list_selects_records() {
    let (api, _worker) = start().await;
    let ada =
        lead(&api, "ada", json!({ "score": 90, "company": "Analytical, Ltd", "custom_fields": { "tier": 1 } })).await;
    let bob = lead(&api, "bob", json!({ "score": 40, "company": "Boats", "assigned_to": OWNER })).await;
    let eve = lead(&api, "eve", json!({ "status": "lost", "source": "referral" })).await;
    for (filter, matching) in [
        (json!({ "status": "new" }), vec![&ada, &bob]),
        (json!({ "status": "new,lost" }), vec![&ada, &bob, &eve]),
        (json!({ "status": ["new", "lost"], "score[gte]": 40 }), vec![&ada, &bob]),
        (json!({ "score": 90 }), vec![&ada]),
        (json!({ "company": ["Analytical, Ltd", "boats"] }), vec![&ada, &bob]),
        (json!({ "assigned_to": "null" }), vec![&ada, &eve]),
        (json!({ "source[ne]": "other" }), vec![&eve]),
        (json!({ "custom.tier": 1 }), vec![&ada]),
        (json!({ "q": "boat" }), vec![&bob]),
        (json!({ "email": "ADA@example.com" }), vec![&ada]),
        (json!({ "id": [id(&ada), id(&eve), NOBODY] }), vec![&ada, &eve]),
        (json!({ "created_at[lt]": "2020-01-01", "tz": "Asia/Tokyo" }), vec![]),
        (json!({ "deleted": false, "score": 90 }), vec![&ada]),
        (json!("all"), vec![&ada, &bob, &eve]),
    ] {
        let body = json!({ "filter": filter, "action": "update", "set": { "score": 1 }, "dry_run": true });
        let job = bulk(&api, LEADS, body).await;
        assert_eq!(job["result"]["matched"], json!(matching.len()), "{filter}");
    }
    let body = json!({ "filter": { "score[gte]": 40, "q": "boats" }, "action": "update", "set": { "score": 1 } });
    let job = bulk(&api, LEADS, body).await;
    assert_eq!(done(&api, &job).await, [("updated".to_owned(), id(&bob).to_owned())]);

    // Customers by what is computed for them.
    let customer = customer(&api, "carl").await;
    order(&api, &customer).await;
    let body =
        json!({ "filter": { "segment": "prospects" }, "action": "update", "set": { "notes": "n" }, "dry_run": true });
    assert_eq!(counts(&bulk(&api, CUSTOMERS, body).await), [0, 0, 0, 0]);
}
