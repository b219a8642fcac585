//! Bulk changes are undone.

use reqwest::Method;
use serde_json::{Value, json};

use super::{CUSTOMERS, LEADS, ORDERS, OWNER, bulk, customer, lead, order, rejected, start};
use crate::support::{self, Api, id};

/// Undoes a bulk change; returns the job.
async fn undo(api: &Api, job: &Value) -> Value {
    let undo = support::json(api.post(&format!("/dev/crm/jobs/{}/undo", id(job))), 202).await;
    assert_eq!((&undo["kind"], &undo["subject"]), (&json!("undo_bulk"), &json!({ "type": "job", "id": id(job) })));
    let undo = api.ended(&undo).await;
    assert_eq!(undo["status"], "succeeded", "{undo}");
    undo
}

/// How many records were removed, restored and left.
fn undone(job: &Value) -> [i64; 3] {
    ["removed", "restored", "left"].map(|count| job["result"][count].as_i64().unwrap())
}

/// A record without the time of its last change.
async fn read(api: &Api, list: &str, record: &Value) -> Value {
    let mut record = api.read(&format!("{list}/{}", id(record))).await;
    record.as_object_mut().unwrap().remove("updated_at");
    record
}

#[tokio::test]
async fn an_update_is_taken_back_in_records_that_nobody_changed_since() {
    let (api, _worker) = start().await;
    let ada = lead(&api, "ada", json!({ "score": 10, "assigned_to": OWNER })).await;
    let bob = lead(&api, "bob", json!({ "score": 20, "first_name": "Bob" })).await;
    let before = read(&api, LEADS, &ada).await;
    let set = json!({ "score": 99, "status": "won", "assigned_to": null, "name": "Somebody" });
    let job = bulk(&api, LEADS, json!({ "filter": "all", "action": "update", "set": set })).await;
    api.send(Method::PUT, &format!("{LEADS}/{}", id(&bob)), json!({ "notes": "called" }), 200).await;
    let changed = read(&api, LEADS, &bob).await;

    let undone_job = undo(&api, &job).await;
    assert_eq!(undone(&undone_job), [0, 1, 1]);
    assert_eq!(rejected(&api, &undone_job).await, [(id(&bob).to_owned(), "changed".to_owned())]);
    assert_eq!(read(&api, LEADS, &ada).await, before);
    assert_eq!(read(&api, LEADS, &bob).await, changed);
    // A second undo leaves what the first one did.
    assert_eq!(undone(&undo(&api, &job).await), [0, 0, 2]);

    let order = order(&api, &customer(&api, "carl").await).await;
    let before = read(&api, ORDERS, &order).await;
    let job = bulk(&api, ORDERS, json!({ "filter": "all", "action": "update", "set": { "quantity": 5 } })).await;
    assert_eq!(undone(&undo(&api, &job).await), [0, 1, 0]);
    assert_eq!(read(&api, ORDERS, &order).await, before);
}

/// A customer without what the worker computes some time after each change.
fn as_written(mut customer: Value) -> Value {
    for field in ["health_band", "health_score", "segment"] {
        customer.as_object_mut().unwrap().remove(field).unwrap();
    }
    customer
}

#[tokio::test]
async fn deleted_records_come_back() {
    let (api, _worker) = start().await;
    let (ada, bob, eve) = (customer(&api, "ada").await, customer(&api, "bob").await, customer(&api, "eve").await);
    let order = order(&api, &ada).await;
    let before = read(&api, CUSTOMERS, &ada).await;
    let job = bulk(&api, CUSTOMERS, json!({ "filter": "all", "action": "delete", "confirm": 3 })).await;
    // Bob is restored by hand, and another Eve was created.
    support::json(api.post(&format!("{CUSTOMERS}/{}/restore", id(&bob))), 200).await;
    customer(&api, "eve").await;
    let undone_job = undo(&api, &job).await;
    assert_eq!(undone(&undone_job), [0, 1, 2]);
    let mut left = rejected(&api, &undone_job).await;
    left.sort();
    let mut expected = vec![(id(&bob).to_owned(), "changed".to_owned()), (id(&eve).to_owned(), "taken".to_owned())];
    expected.sort();
    assert_eq!(left, expected);
    assert_eq!(as_written(read(&api, CUSTOMERS, &ada).await), as_written(before));
    assert_eq!(api.read(&format!("{ORDERS}/{}", id(&order))).await["customer_id"], ada["id"]);
}

#[tokio::test]
async fn restored_records_are_deleted_again() {
    let (api, _worker) = start().await;
    let (ada, bob, eve) = (customer(&api, "ada").await, customer(&api, "bob").await, customer(&api, "eve").await);
    let old = order(&api, &ada).await;
    bulk(&api, CUSTOMERS, json!({ "filter": "all", "action": "delete", "confirm": 3 })).await;
    let job = bulk(&api, CUSTOMERS, json!({ "filter": "all", "action": "restore" })).await;
    api.send(Method::PUT, &format!("{CUSTOMERS}/{}", id(&bob)), json!({ "notes": "called" }), 200).await;
    // What is new since then would be deleted, too.
    order(&api, &eve).await;
    let undone_job = undo(&api, &job).await;
    assert_eq!(undone(&undone_job), [1, 0, 2]);
    let left: Vec<String> = rejected(&api, &undone_job).await.into_iter().map(|(id, _)| id).collect();
    assert!(left.contains(&id(&bob).to_owned()) && left.contains(&id(&eve).to_owned()), "{left:?}");
    support::json(api.get(&format!("{CUSTOMERS}/{}", id(&ada))), 404).await;
    support::json(api.get(&format!("{ORDERS}/{}", id(&old))), 404).await;
    // The record can be restored as before.
    support::json(api.post(&format!("{CUSTOMERS}/{}/restore", id(&ada))), 200).await;
    api.read(&format!("{ORDERS}/{}", id(&old))).await;
}

#[tokio::test]
async fn conversions_and_unfinished_changes_are_not_undone() {
    let (api, worker) = start().await;
    let ada = lead(&api, "ada", json!({})).await;
    let job = bulk(&api, LEADS, json!({ "filter": { "id": id(&ada) }, "action": "convert", "confirm": 1 })).await;
    let refused = support::json(api.post(&format!("/dev/crm/jobs/{}/undo", id(&job))), 409).await;
    assert_eq!(refused["errors"][0]["code"], "not_undoable");
    drop(worker);
    api.leaves_jobs("bulk_leads");
    let body = json!({ "filter": "all", "action": "update", "set": { "score": 1 } });
    let job = super::accepted(&api, LEADS, body).await;
    let refused = support::json(api.post(&format!("/dev/crm/jobs/{}/undo", id(&job))), 409).await;
    assert_eq!(refused["errors"][0]["code"], "job_unfinished");
    // Undoing a cancelled change that did nothing does nothing.
    support::json(api.post(&format!("/dev/crm/jobs/{}/cancel", id(&job))), 200).await;
    let _worker = testing::Process::worker(&api.database, &[]);
    assert_eq!(undone(&undo(&api, &job).await), [0, 0, 0]);
}
