//! What jobs write reaches endpoints as a summary, or record by record.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};
use testing::receiver::{Answer, Received};

use super::{LEADS, Setup, types, verifies};
use crate::support::{each, id};

fn subjects(received: &[Received]) -> BTreeSet<String> {
    received.iter().map(|it| it.json()["subject"]["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn an_endpoint_can_get_an_event_for_each_record_that_a_job_wrote() {
    let setup = Setup::start().await;
    let _worker = setup.worker();
    let summary =
        setup.webhook(json!({ "url": setup.receiver.url("/summary"), "events": ["lead.*", "job.changed"] })).await;
    let every =
        setup.webhook(json!({ "url": setup.receiver.url("/each"), "events": ["lead.*"], "bulk": "each" })).await;
    let rows: String = (0..250).map(|n| format!("Lead {n},lead{n}@example.com\n")).collect();
    let job = setup.api.imported("/dev/crm/leads/import", format!("name,email\n{rows}")).await;
    assert_eq!(job["result"]["created"], 250);
    setup.until_all(&every, 250, "delivered").await;
    let received = setup.receiver.until(251).await;
    let (of_each, of_summary): (Vec<_>, Vec<_>) = received.into_iter().partition(|request| request.path == "/each");
    assert_eq!(types(&of_summary), ["job.changed"]);
    let leads = setup.api.read(LEADS).await;
    assert_eq!(subjects(&of_each), each(&leads, "id").into_iter().map(str::to_owned).collect());
    for request in &of_each {
        let event = request.json();
        assert_eq!(
            (&event["type"], &event["actor"]),
            (&json!("lead.created"), &json!({ "type": "job", "id": job["id"] }))
        );
        let lead: &Value = leads.as_array().unwrap().iter().find(|lead| lead["id"] == event["subject"]["id"]).unwrap();
        assert_eq!(event["data"]["email"], lead["email"]);
        assert!(verifies(request, &every["secret"]));
    }
    setup.until_all(&summary, 1, "delivered").await;
}

#[tokio::test]
async fn records_that_are_gone_or_had_an_event_of_their_own_are_left_out() {
    let setup = Setup::start().await;
    let webhook = setup.webhook(json!({ "events": ["lead.*"], "bulk": "each" })).await;
    let mut worker = testing::Process::worker(&setup.api.database, &["--queues", "imports"]);
    let job =
        setup.api.imported("/dev/crm/leads/import", "name,email\nA,a@example.com\nB,b@example.com\nC,c@example.com\n");
    assert_eq!(job.await["result"]["created"], 3);
    worker.kill9().await;
    let leads = setup.api.read(&format!("{LEADS}?sort=email")).await;
    let [kept, changed, deleted] = [0, 1, 2].map(|n| format!("{LEADS}/{}", id(&leads[n])));
    setup.api.send(Method::PUT, &changed, json!({ "notes": "later" }), 200).await;
    setup.api.delete(&deleted, 204).await;
    let _worker = setup.worker();
    let received = setup.receiver.until(3).await;
    let mut all = types(&received);
    all.sort_unstable();
    assert_eq!(all, ["lead.created", "lead.deleted", "lead.updated"]);
    let created = received.iter().find(|it| it.json()["type"] == "lead.created").unwrap();
    assert!(kept.ends_with(created.json()["subject"]["id"].as_str().unwrap()));
    setup.until_all(&webhook, 3, "delivered").await;
}

#[tokio::test]
async fn a_walk_continues_after_its_worker_was_killed() {
    let setup = Setup::start().await;
    setup.receiver.script(|_| Answer { after: std::time::Duration::from_millis(20), ..Answer::status(200) });
    let mut worker = setup.worker();
    let webhook = setup.webhook(json!({ "events": ["lead.created"], "bulk": "each" })).await;
    let rows: String = (0..400).map(|n| format!("Lead {n},lead{n}@example.com\n")).collect();
    setup.api.imported("/dev/crm/leads/import", format!("name,email\n{rows}")).await;
    setup.receiver.until(120).await;
    worker.kill9().await;
    let _worker = setup.worker();
    setup.until_all(&webhook, 400, "delivered").await;
    assert_eq!(subjects(&setup.receiver.received()).len(), 400);
}
