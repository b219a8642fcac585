//! After a loss, a release sets aside what the lost database may have sent.

use std::collections::BTreeMap;
use std::process::Stdio;

use chrono::Utc;
use reqwest::Method;
use serde_json::{Value, json};
use testing::copies::{self, Dump};
use testing::earlier;
use testing::smtp::MailServer;

use super::{NURTURE, command, emails, mail, queue_emails, sending, status, until, until_on_hold, until_sent, writing};
use crate::feedback;
use crate::nurture::many_leads;
use crate::support::{self, Api, each, id};
use crate::workflows::{days_pass, put_settings, rows, run};

/// A workspace with 200 emails in the outbox and much that is due: a night, steps of nurture, a reminder,
/// a next action, and a request for feedback that no worker has emailed.
async fn busy() -> Api {
    let api = Api::start().await;
    put_settings(&api, json!({ "notification_email": "boss@acme.example" })).await;
    let mut worker = writing(&api.database, &[]);
    many_leads(&api, 199).await;
    run(&api, NURTURE).await;
    let asked = feedback::customer(&api, "asked@example.com").await;
    api.ended(&feedback::ask(&api, &asked).await).await;
    assert_eq!(emails(&api.database, "queued").await, 200);
    // Its first steps fall due one after the other, and none was sent.
    let late = api.create("/dev/crm/leads", json!({ "name": "Late", "email": "late@example.com" })).await;
    let call = json!({ "type": "note", "next_action": "Call", "next_action_date": "2024-01-01" });
    api.create(&format!("/dev/crm/leads/{}/interactions", id(&late)), call).await;
    days_pass(&api, 4).await;
    worker.terminate().await;
    let pending = feedback::customer(&api, "pending@example.com").await;
    feedback::ask(&api, &pending).await;
    rows(&api, &format!("UPDATE schedules SET {}, due_at = now()", earlier("passed_until", "4 days"))).await;
    api
}

async fn jobs(api: &Api, kind: &str) -> Value {
    api.read(&format!("/dev/crm/jobs?kind={kind}")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_anything_twice_after_a_dump_was_restored() {
    let original = busy().await;
    let lost_since = Utc::now().to_rfc3339();
    let dump = Dump::of(&original.database).await.unwrap();

    // The original sends all of it, until it is lost.
    let sent = MailServer::start().await;
    let mut worker = sending(&original.database, &sent, &[]);
    until("the night has ended", async || each(&jobs(&original, "nightly").await, "status") == ["succeeded"]).await;
    let asked = async || each(&jobs(&original, "request_feedback").await, "status") == ["succeeded"; 2];
    until("the requests are in the outbox", asked).await;
    let waits = async || emails(&original.database, "queued").await + emails(&original.database, "sending").await;
    until("all emails are sent", async || waits().await == 0).await;
    worker.terminate().await;
    assert!(sent.count() > 400, "{} messages", sent.count());

    // The copy sends nothing.
    let copy = Api::over(dump.restore().await.unwrap(), |_| {}).await;
    let server = MailServer::start().await;
    let worker = sending(&copy.database, &server, &[]);
    until_on_hold(&worker).await;
    for kind in ["nightly", "request_feedback"] {
        let waits = async || jobs(&copy, kind).await[0]["error"].is_string();
        until("the job waits", waits).await;
        let job = jobs(&copy, kind).await[0].clone();
        assert_eq!(job["status"], "queued", "{job}");
        assert!(job["error"].as_str().unwrap().starts_with("email is on hold: the database was restored"), "{job}");
    }
    assert_eq!((server.count(), emails(&copy.database, "queued").await), (0, 200));

    // Released, it sends nothing that was due.
    let listed = mail(&copy.database, &["release", "--lost-since", &lost_since, "--json"]).await;
    let mut listed: Vec<Value> = listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let summary = listed.pop().unwrap();
    let mut events = BTreeMap::<&str, usize>::new();
    for email in &listed {
        *events.entry(email["event"].as_str().unwrap()).or_default() += 1;
    }
    let expected = [("feedback_reminder", 1), ("feedback_request", 1), ("followups", 1), ("nurture", 201)];
    assert_eq!(events, expected.into());
    assert_eq!((&summary["unknown"], &summary["set_aside"]), (&json!(200), &json!(204)), "{summary}");
    let of = |to: &str| listed.iter().filter(|email| email["email"] == to).count();
    assert_eq!([of("late@example.com"), of("boss@acme.example"), of("asked@example.com")], [2, 1, 1]);
    assert!(listed.iter().all(|email| email["workspace"] == "acme" && email["due_at"].is_string()), "{listed:?}");
    until("the night has ended", async || each(&jobs(&copy, "nightly").await, "status") == ["succeeded"]).await;
    assert_eq!(jobs(&copy, "request_feedback").await[0]["status"], "cancelled");
    assert_eq!(server.count(), 0);
    let unknown = copy.read("/dev/crm/emails?state=unknown").await;
    assert_eq!(unknown.as_array().unwrap().len(), 200);
    assert!(unknown[0]["answer"].as_str().unwrap().contains("--lost-since"), "{}", unknown[0]);

    // It sends what is new.
    copy.send(Method::POST, "/dev/crm/leads", json!({ "name": "New", "email": "new@example.com" }), 201).await;
    run(&copy, NURTURE).await;
    until_sent(&copy.database, 1).await;
    let mut messages = BTreeMap::<(String, String), usize>::new();
    for message in sent.taken().into_iter().chain(server.taken()) {
        *messages.entry((message.to.clone(), message.header("Subject").unwrap().to_owned())).or_default() += 1;
    }
    let twice: Vec<_> = messages.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_broke_off_holds_email_until_it_is_run_again() {
    let api = Api::start().await;
    queue_emails(&api, 20, &[]).await;
    days_pass(&api, 30).await;
    let original = api.stopped().await;
    let copy = Api::over(copies::clone(&original).await.unwrap(), |_| {}).await;
    let server = MailServer::start().await;
    let worker = sending(&copy.database, &server, &[]);
    until_on_hold(&worker).await;

    // Nobody reads what it lists.
    let lost = ["release", "--lost-since", "2026-01-01T00:00:00Z"];
    let mut release =
        command(&copy.database, &lost, &[]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(release.stdout.take());
    let output = release.wait_with_output().await.unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot list what is set aside"), "{output:?}");
    let found = status(&copy.database).await;
    assert_eq!((&found["on_hold"], &found["lost_since"]), (&json!(true), &json!("2026-01-01T00:00:00Z")));
    assert_eq!(found["reason"], "email is on hold: a release has begun and not ended");

    // It cannot be forgotten by a release that would send all that is due.
    let plain = command(&copy.database, &["release"], &[]).output().await.unwrap();
    let reason = "crm-api: --lost-since must be given: a release with --lost-since has begun and not ended\n";
    assert_eq!((plain.status.code(), String::from_utf8_lossy(&plain.stderr).as_ref()), (Some(1), reason));
    let started = support::json(copy.post(NURTURE), 202).await;
    let path = format!("/dev/crm/jobs/{}", id(&started));
    until("the run waits", async || copy.read(&path).await["error"].is_string()).await;

    let listed = mail(&copy.database, &lost).await;
    // Each lead had the first step, and the other two fell due.
    assert_eq!(listed.matches("  nurture  lead ").count(), 40, "{listed}");
    assert!(listed.contains("40 emails that fell due are marked as done"), "{listed}");
    let job = copy.ended(&started).await;
    assert_eq!((&job["result"]["sent"], &job["result"]["leads"]), (&json!(0), &json!(20)), "{job}");
    assert_eq!((server.count(), emails(&copy.database, "unknown").await), (0, 20));
    assert_eq!(status(&copy.database).await["on_hold"], false);
}
