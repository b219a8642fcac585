//! What operators pause and suspend waits, and everything else goes on.

use reqwest::{Client, Method};
use serde_json::{Value, json};
use shared::accounts::scopes::Scopes;
use shared::accounts::workspaces;
use shared::operations::pauses::{self, Target};
use testing::Process;
use testing::smtp::MailServer;
use uuid::Uuid;

use crate::feedback_page;
use crate::holds::{NURTURE, sending, until};
use crate::support::{self, Api};

const IMPORT: &str = "/dev/crm/leads/import";

async fn pause(api: &Api, target: &Target) {
    pauses::pause(&mut api.connection().await, target, Some("trouble")).await.unwrap();
}

async fn resume(api: &Api, target: &Target) {
    assert!(pauses::resume(&mut api.connection().await, target).await.unwrap());
}

/// Starts an import of one lead.
async fn import(api: &Api, email: &str) -> Value {
    let file = format!("name,email\nAda,{email}\n");
    let form = reqwest::multipart::Form::new().part("file", reqwest::multipart::Part::text(file).file_name("a.csv"));
    support::json(api.post(IMPORT).multipart(form), 202).await
}

async fn status(api: &Api, job: &Value) -> String {
    let job = api.read(&format!("/dev/crm/jobs/{}", support::id(job))).await;
    job["status"].as_str().unwrap().to_owned()
}

/// Waits until the worker knows that something else is paused than before.
async fn until_noted(worker: &Process, times: usize) {
    until("the worker has read what is paused", async || {
        worker.output().matches("what is paused has changed").count() >= times
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_queue_kind_or_workspace_waits_and_others_do_not() {
    let api = Api::start().await;
    let other = Api::start().await;
    let other_workspace = Target::Workspace(other.workspace_id);
    assert!(pauses::pause(&mut api.connection().await, &other_workspace, None).await.is_err(), "it is elsewhere");
    drop(other);

    let worker = Process::worker(&api.database, &[]);
    let mut noted = 0;
    for target in [
        Target::Queue("imports".to_owned()),
        Target::Kind("import_leads".to_owned()),
        Target::Workspace(api.workspace_id),
    ] {
        pause(&api, &target).await;
        noted += 1;
        until_noted(&worker, noted).await;
        let waits = import(&api, &format!("{noted}@example.com")).await;
        let is_workspace = matches!(target, Target::Workspace(_));
        if !is_workspace {
            // A job of another queue and kind.
            let job = support::json(api.post(&format!("{NURTURE}?dry_run=true")), 202).await;
            assert_eq!(api.ended(&job).await["status"], "succeeded");
        }
        assert_eq!(status(&api, &waits).await, "queued", "{target:?}");
        let paused = pauses::list(&mut api.connection().await).await.unwrap();
        assert_eq!((paused.len(), paused[0].reason.as_deref()), (1, Some("trouble")));

        resume(&api, &target).await;
        noted += 1;
        assert_eq!(api.ended(&waits).await["status"], "succeeded", "{target:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_outbox_sends_nothing_also_to_a_worker_that_starts_later() {
    let api = Api::start().await;
    api.create("/dev/crm/leads", json!({ "name": "Ada", "email": "ada@example.com" })).await;
    let mail = Target::Queue("mail".to_owned());
    pause(&api, &mail).await;
    let server = MailServer::start().await;
    let _worker = sending(&api.database, &server, &[]);
    let run = support::json(api.post(NURTURE), 202).await;
    assert_eq!(api.ended(&run).await["result"]["sent"], 1);
    assert_eq!(server.count(), 0);
    resume(&api, &mail).await;
    until("the email is sent", async || server.count() == 1).await;
}

#[tokio::test]
async fn only_what_exists_can_be_paused() {
    let api = Api::start().await;
    let mut connection = api.connection().await;
    for (target, field) in [(Target::Queue("imprts".to_owned()), "queue"), (Target::Kind("nothing".to_owned()), "kind")]
    {
        let error = pauses::pause(&mut connection, &target, None).await.unwrap_err();
        assert!(matches!(&error, shared::Error::Invalid(faults) if faults[0].field == field), "{error:?}");
        assert!(pauses::resume(&mut connection, &target).await.is_err());
    }
    let unknown = Target::Workspace(Uuid::nil());
    assert!(matches!(pauses::pause(&mut connection, &unknown, None).await, Err(shared::Error::NotFound)));
    assert!(!pauses::resume(&mut connection, &Target::Workspace(api.workspace_id)).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_workspace_is_refused_while_its_customers_can_still_unsubscribe_and_answer() {
    let api = Api::start().await;
    api.leaves_jobs("find_themes");
    api.create("/dev/crm/leads", json!({ "name": "Bob", "email": "bob@example.com" })).await;
    let (_, page) = feedback_page::asked(&api).await;
    let run = support::json(api.post(NURTURE), 202).await;
    let waits = import(&api, "cyd@example.com").await;

    workspaces::suspend(&mut api.connection().await, api.workspace_id).await.unwrap();
    support::until(403, || api.get("/dev/crm/leads")).await;
    let refused = support::json(api.get("/dev/crm/jobs"), 403).await;
    assert_eq!(refused, json!({ "message": "Workspace is suspended" }));
    support::json(api.post(NURTURE), 403).await;

    // A worker does the work of another workspace, and leaves that of this one.
    let server = MailServer::start().await;
    let _worker = sending(&api.database, &server, &[]);
    let mut connection = api.connection().await;
    let workspace = workspaces::create(&mut connection, "other").await.unwrap();
    let (key, _) = support::new_key(&mut connection, workspace.id, "test", Scopes::ALL, None).await;
    let file = "name,email\nDan,dan@example.com\n";
    let form = reqwest::multipart::Form::new().part("file", reqwest::multipart::Part::text(file).file_name("a.csv"));
    let theirs = api.request_with(key.reveal(), Method::POST, IMPORT).multipart(form);
    let theirs = support::json(theirs, 202).await;
    until("the job of the other workspace ends", async || {
        let path = format!("/dev/crm/jobs/{}", support::id(&theirs));
        let job = support::json(api.request_with(key.reveal(), Method::GET, &path), 200).await;
        job["status"] == "succeeded"
    })
    .await;
    let untouched: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM jobs WHERE workspace_id = $1 AND status = 'queued' AND worker_id IS NULL",
    )
    .bind(api.workspace_id)
    .fetch_one(&mut connection)
    .await
    .unwrap();
    assert_eq!((untouched, server.count()), (3, 0), "the run, the import and the request for feedback wait");

    // Links in emails work.
    let answered = feedback_page::submit(&page, &[("rating", "5")]).await;
    assert_eq!(answered.status(), 303);
    let (_, _, token) = crate::suppressions::queue_email(&api, "bob@example.com").await;
    let left = Client::new().post(api.url(&format!("/unsubscribe/{token}"))).send().await.unwrap();
    assert_eq!(left.status(), 200);

    workspaces::unsuspend(&mut connection, api.workspace_id).await.unwrap();
    support::until(200, || api.get("/dev/crm/leads")).await;
    assert_eq!(api.ended(&waits).await["status"], "succeeded");
    assert_eq!(api.ended(&run).await["status"], "succeeded");
    let to: Vec<String> = sqlx::query_scalar("SELECT to_email FROM emails WHERE state = 'sent'")
        .fetch_all(&mut connection)
        .await
        .unwrap();
    assert!(!to.contains(&"bob@example.com".to_owned()), "he unsubscribed meanwhile");
}
