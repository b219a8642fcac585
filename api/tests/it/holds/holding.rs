//! A hold stops what a worker has already leased, holds over restarts, and makes runs wait.

use std::time::Duration;

use serde_json::json;
use sqlx::AssertSqlSafe;
use testing::smtp::{Act, MailServer, Stage};

use super::{NURTURE, emails, mail, queue_emails, sending, status, until, until_on_hold, until_sent};
use crate::doctor;
use crate::support::{self, Api, id};
use crate::workflows::rows;

/// What an operator does, or what happens when another database takes the place of the worker's one.
const HOLD: &str = "UPDATE mail_place SET held_since = now()";
const MOVED: &str = "UPDATE mail_place SET database_oid = database_oid + 1";

#[tokio::test(flavor = "multi_thread")]
async fn emails_that_a_worker_has_leased_do_not_leave_after_a_hold_begins() {
    for hold in [HOLD, MOVED] {
        let api = Api::start().await;
        queue_emails(&api, 20, &[]).await;
        let server = MailServer::start().await;
        server.act(|moment| if moment.stage == Stage::Dot { Act::Wait(Duration::from_secs(2)) } else { Act::Accept });
        let worker = sending(&api.database, &server, &[("CRM_MAIL__CONNECTIONS", "1")]);
        until("an email is being sent", async || emails(&api.database, "sending").await == 1).await;
        rows(&api, hold).await;
        server.act(|_| Act::Accept);
        until_on_hold(&worker).await;
        let leased = async || -> i64 {
            let leased = "SELECT count(*) FROM emails WHERE lease_until IS NOT NULL";
            sqlx::query_scalar(AssertSqlSafe(leased)).fetch_one(&mut api.connection().await).await.unwrap()
        };
        until("the worker has handed all emails back", async || leased().await == 0).await;
        // The one that was being sent when the hold began.
        assert_eq!((server.count(), emails(&api.database, "sent").await), (1, 1), "{hold}");
        assert_eq!(emails(&api.database, "queued").await, 19, "{hold}");

        mail(&api.database, &["release"]).await;
        until_sent(&api.database, 20).await;
        assert_eq!(server.count(), 20);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_holds_email_and_releases_it() {
    let api = Api::start().await;
    let server = MailServer::start().await;
    let mut worker = sending(&api.database, &server, &[]);
    assert_eq!(status(&api.database).await["on_hold"], false);
    assert!(mail(&api.database, &["hold"]).await.starts_with("email is on hold: an operator holds it\n"));
    until_on_hold(&worker).await;

    // A run waits, and says why; a dry run and other jobs do not wait.
    api.create("/dev/crm/leads", json!({ "name": "Ada", "email": "ada@example.com" })).await;
    let run = support::json(api.post(NURTURE), 202).await;
    let path = format!("/dev/crm/jobs/{}", id(&run));
    until("the run waits", async || api.read(&path).await["error"].is_string()).await;
    let waiting = api.read(&path).await;
    assert_eq!(
        (&waiting["status"], &waiting["error"]),
        (&json!("queued"), &json!("email is on hold: an operator holds it"))
    );
    assert!(waiting["retry_at"].is_string(), "{waiting}");
    let dry = support::json(api.post(&format!("{NURTURE}?dry_run=true")), 202).await;
    assert_eq!(api.ended(&dry).await["status"], "succeeded");
    let import = api.imported("/dev/crm/customers/import", "name,email\nCyd,cyd@example.com\n").await;
    assert_eq!(import["status"], "succeeded");
    assert_eq!(status(&api.database).await["jobs_waiting"], 1);

    // The API's operators see it, too.
    let ready = support::json(reqwest::Client::new().get(format!("http://{}/readyz", api.admin)), 200).await;
    assert_eq!(ready, json!({ "message": "ready", "email": "email is on hold: an operator holds it" }));
    let findings = doctor::examine(&api.database, &[]).await;
    let found = doctor::finding(&findings, "mail.hold");
    assert_eq!(found["level"], "fault");
    assert_eq!(found["message"], "No email is sent: email is on hold: an operator holds it.");

    // It holds for a worker that starts later.
    worker.terminate().await;
    let worker = sending(&api.database, &server, &[]);
    until_on_hold(&worker).await;
    assert_eq!((server.count(), emails(&api.database, "queued").await), (0, 0));

    mail(&api.database, &["release"]).await;
    assert_eq!(api.ended(&run).await["status"], "succeeded");
    until_sent(&api.database, 1).await;
    assert_eq!(server.count(), 1);
    assert_eq!(status(&api.database).await["on_hold"], false);
}
