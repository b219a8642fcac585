//! An address stays suppressed as long as anything speaks against emailing it.

use serde_json::json;

use super::*;

async fn undo(api: &Api, job: &Value) -> i64 {
    let undo = support::json(api.post(&format!("/dev/crm/jobs/{}/undo", id(job))), 202).await;
    api.ended(&undo).await["result"]["unsuppressed"].as_i64().unwrap()
}

const FILE: &str = "Name,Email,Email Opt Out\nAl,al@example.com,yes\nBo,bo@example.com,no\n";

#[tokio::test]
async fn the_undo_of_a_file_leaves_what_another_file_says() {
    let (api, _worker) = start().await;
    let first = import(&api, LEADS, "", FILE).await;
    let second = import(&api, CUSTOMERS, "", FILE).await;
    let again = import(&api, LEADS, "", FILE).await;
    assert_eq!([&first, &second, &again].map(|job| count(job, "suppressed")), [1, 0, 0], "it is suppressed once");
    assert_eq!(undo(&api, &first).await, 0);
    let left = &api.read(SUPPRESSIONS).await[0];
    assert_has(left, json!({ "email": "al@example.com", "job_id": second["id"], "line": 2 }));
    assert_eq!(undo(&api, &again).await, 0);
    assert_eq!(suppressed(&api).await, ["al@example.com"]);
    assert_eq!(undo(&api, &second).await, 1);
    assert!(suppressed(&api).await.is_empty());
}

#[tokio::test]
async fn the_undo_of_a_file_leaves_what_a_caller_says() {
    let (api, _worker) = start().await;
    let job = import(&api, LEADS, "", FILE).await;
    let al = json!({ "email": "al@example.com" });
    assert_eq!(api.send(reqwest::Method::POST, SUPPRESSIONS, al, 200).await["scope"], "all");
    let bounces = import(&api, LEADS, "", "Name,Email,Bounced\nAl,al@example.com,yes\nCy,cy@example.com,yes\n").await;
    assert_eq!(count(&bounces, "suppressed"), 1, "Al is suppressed already");
    assert_eq!(undo(&api, &job).await, 0);
    assert_eq!(undo(&api, &bounces).await, 1);
    assert_has(
        &api.read(SUPPRESSIONS).await[0],
        json!({ "email": "al@example.com", "reason": "manual", "job_id": null }),
    );
    let id = id(&api.read(SUPPRESSIONS).await[0]).to_owned();
    api.delete(&format!("{SUPPRESSIONS}/{id}"), 204).await;
    assert!(suppressed(&api).await.is_empty());
}

#[tokio::test]
async fn a_person_who_unsubscribed_stays_so_when_a_bounce_is_lifted() {
    let (api, _worker) = start().await;
    let file = "email,reason\nal@example.com,Hard bounce\n";
    let bounced = import(&api, SUPPRESSIONS, "", file).await;
    import(&api, LEADS, "", FILE).await;
    assert_eq!(each(&api.read(SUPPRESSIONS).await, "scope"), ["all"], "a narrower one does not replace it");
    assert_eq!(undo(&api, &bounced).await, 0);
    assert_has(&api.read(SUPPRESSIONS).await[0], json!({ "reason": "imported", "scope": "marketing" }));
}
