//! Bulk changes while others change the same records, and while workers die.

use reqwest::Method;
use serde_json::json;
use sqlx::Connection;
use testing::Process;

use super::{LEADS, OWNER, accepted, bulk, count, counts, entries, import, lead, rejected, start};
use crate::runs::kill_after_pages;
use crate::support::{self, Api, id};

#[tokio::test]
async fn the_records_of_a_change_are_those_that_matched_when_it_was_accepted() {
    let api = Api::start().await;
    let ada = lead(&api, "ada", json!({ "status": "won" })).await;
    let bob = lead(&api, "bob", json!({ "status": "won" })).await;
    let eve = lead(&api, "eve", json!({ "status": "won" })).await;
    let body = json!({ "filter": { "status": "won" }, "action": "update", "set": { "score": 9 } });
    let job = accepted(&api, LEADS, body).await;
    // Ada no longer matches, Bob has the score already, Eve is deleted, and Zoe is late.
    api.send(Method::PUT, &format!("{LEADS}/{}", id(&ada)), json!({ "status": "lost" }), 200).await;
    api.send(Method::PUT, &format!("{LEADS}/{}", id(&bob)), json!({ "score": 9 }), 200).await;
    api.delete(&format!("{LEADS}/{}", id(&eve)), 204).await;
    let zoe = lead(&api, "zoe", json!({ "status": "won" })).await;
    let _worker = Process::worker(&api.database, &[]);
    let job = api.ended(&job).await;
    assert_eq!(counts(&job), [3, 1, 1, 1]);
    assert_eq!(rejected(&api, &job).await, [(id(&eve).to_owned(), "not_found".to_owned())]);
    let ada = api.read(&format!("{LEADS}/{}", id(&ada))).await;
    assert_eq!((&ada["status"], &ada["score"]), (&json!("lost"), &json!(9)));
    assert_eq!(api.read(&format!("{LEADS}/{}", id(&zoe))).await["score"], 0);
}

#[tokio::test]
async fn another_workspace_is_never_touched() {
    let api = Api::start().await;
    let theirs = lead(&api, "ada", json!({})).await;
    let deleted = lead(&api, "bob", json!({})).await;
    api.delete(&format!("{LEADS}/{}", id(&deleted)), 204).await;
    let their_key = api.key.clone();
    let mut api = api.on("another").await;
    let _worker = Process::worker(&api.database, &[]);
    let mine = lead(&api, "ada", json!({})).await;
    let job = bulk(&api, LEADS, json!({ "filter": "all", "action": "update", "set": { "score": 9 } })).await;
    assert_eq!(counts(&job), [1, 1, 0, 0]);
    let filter = json!({ "id": [id(&theirs), id(&deleted), id(&mine)] });
    let job = bulk(&api, LEADS, json!({ "filter": filter, "action": "delete", "confirm": 1 })).await;
    assert_eq!(counts(&job), [1, 1, 0, 0]);
    let job = bulk(&api, LEADS, json!({ "filter": filter, "action": "restore" })).await;
    assert_eq!(counts(&job), [1, 1, 0, 0]);
    api.key = their_key;
    assert_eq!(api.read(LEADS).await, json!([theirs]));
    for path in ["/errors", "/records", ""] {
        support::json(api.get(&format!("/dev/crm/jobs/{}{path}", id(&job))), 404).await;
    }
    support::json(api.post(&format!("/dev/crm/jobs/{}/undo", id(&job))), 404).await;
}

#[tokio::test]
async fn killed_workers_change_every_record_once() {
    let api = Api::start().await;
    let importing = Process::worker(&api.database, &[]);
    import(&api, "new", 12_000).await;
    drop(importing);
    for (action, set, confirm, column) in [
        ("update", json!({ "status": "lost" }), 12_000, "status = 'lost' AND lost_at = updated_at"),
        ("assign", json!({ "assigned_to": OWNER }), 12_000, "assigned_to IS NOT NULL"),
    ] {
        let body = json!({ "filter": "all", "action": action, "set": set, "confirm": confirm });
        let job = accepted(&api, LEADS, body).await;
        let (killed_at, job) = kill_after_pages(&api, &job).await;
        assert!(!killed_at.is_empty(), "no worker was killed in time");
        assert_eq!(counts(&job), [confirm, confirm, 0, 0]);
        assert_eq!(entries(&api, &job).await, (confirm, confirm));
        assert_eq!(count(&api, &format!("SELECT count(*) FROM leads WHERE {column}")).await, confirm);
    }
    assert_eq!(count(&api, "SELECT count(*) FROM bulk_targets").await, 0);
}

#[tokio::test]
async fn a_cancelled_change_keeps_its_steps_and_resumes() {
    let (api, worker) = start().await;
    import(&api, "new", 2_500).await;
    drop(worker);
    let body = json!({ "filter": "all", "action": "delete", "confirm": 2_500 });
    let job = accepted(&api, LEADS, body).await;
    let path = format!("/dev/crm/jobs/{}", id(&job));
    // Others hold a record of the second chunk, so that the job is cancelled after its first.
    let mut other = api.connection().await;
    let mut hold = other.begin().await.unwrap();
    sqlx::query(
        "SELECT 1 FROM leads WHERE workspace_id = $1
             AND id = (SELECT id FROM leads WHERE workspace_id = $1 ORDER BY id OFFSET 1500 LIMIT 1) FOR UPDATE",
    )
    .bind(api.workspace_id)
    .execute(&mut *hold)
    .await
    .unwrap();
    let worker = Process::worker(&api.database, &[]);
    while api.read(&path).await["progress"]["done"] != json!(1_000) {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let cancelled = support::json(api.post(&format!("{path}/cancel")), 200).await;
    assert_eq!((&cancelled["status"], &cancelled["result"]["changed"]), (&json!("cancelled"), &json!(1_000)));
    hold.rollback().await.unwrap();
    drop(worker);
    assert_eq!(count(&api, "SELECT count(*) FROM leads").await, 1_500);
    support::json(api.post(&format!("{path}/retry")), 202).await;
    let _worker = Process::worker(&api.database, &[]);
    let job = api.ended(&job).await;
    assert_eq!(counts(&job), [2_500, 2_500, 0, 0]);
    assert_eq!(entries(&api, &job).await, (2_500, 2_500));
}

#[tokio::test]
async fn changes_of_the_same_records_at_once_leave_nothing_out() {
    let (api, _worker) = start().await;
    import(&api, "new", 1_000).await;
    let update = |set| json!({ "filter": "all", "action": "update", "set": set });
    let one = accepted(&api, LEADS, update(json!({ "score": 7 }))).await;
    let other = accepted(&api, LEADS, update(json!({ "source": "social" }))).await;
    // Single updates meanwhile are kept, too.
    let leads = api.read(&format!("{LEADS}?limit=50")).await;
    for lead in leads.as_array().unwrap() {
        api.send(Method::PUT, &format!("{LEADS}/{}", id(lead)), json!({ "notes": "called" }), 200).await;
    }
    for job in [one, other] {
        let job = api.ended(&job).await;
        assert_eq!(counts(&job), [1_000, 1_000, 0, 0]);
        assert_eq!(entries(&api, &job).await, (1_000, 1_000));
    }
    assert_eq!(count(&api, "SELECT count(*) FROM leads WHERE score = 7 AND source = 'social'").await, 1_000);
    assert_eq!(count(&api, "SELECT count(*) FROM leads WHERE notes = 'called'").await, 50);
}
