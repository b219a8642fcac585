//! Clones and copied servers are on hold; a promoted standby is not.

use reqwest::Method;
use serde_json::json;
use shared::accounts::workspaces;
use shared::migrate;
use testing::Database;
use testing::copies;
use testing::server::Server;
use testing::smtp::MailServer;
use testing::temp_cluster::TempCluster;

use super::{NURTURE, command, mail, queue_emails, sending, status, until_on_hold, until_sent};
use crate::nurture::many_leads;
use crate::support::{self, Api};
use crate::workflows::{rows, run};

#[tokio::test(flavor = "multi_thread")]
async fn a_clone_is_on_hold_until_it_is_released() {
    let api = Api::start().await;
    queue_emails(&api, 5, &[]).await;
    let original = api.stopped().await;
    let clone = Api::over(copies::clone(&original).await.unwrap(), |_| {}).await;
    let server = MailServer::start().await;
    let worker = sending(&clone.database, &server, &[]);
    until_on_hold(&worker).await;
    let found = status(&clone.database).await;
    assert_eq!(
        found["reason"],
        "email is on hold: the database was restored, copied or moved, and an operator must release it"
    );
    assert_eq!(found["place"]["system_identifier"], found["remembered"]["system_identifier"]);
    assert_ne!(found["place"]["database_oid"], found["remembered"]["database_oid"]);
    assert_eq!((&found["emails_waiting"], server.count()), (&json!(5), 0));

    mail(&clone.database, &["release"]).await;
    until_sent(&clone.database, 5).await;
    assert_eq!(server.count(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clone_without_any_email_sends_its_own() {
    let api = Api::start().await;
    let server = MailServer::start().await;
    let mut worker = sending(&api.database, &server, &[]);
    // A run, after which the original remembers its place.
    run(&api, NURTURE).await;
    worker.terminate().await;
    let original = api.stopped().await;

    let clone = Api::over(copies::clone(&original).await.unwrap(), |_| {}).await;
    let _worker = sending(&clone.database, &server, &[]);
    many_leads(&clone, 3).await;
    run(&clone, NURTURE).await;
    until_sent(&clone.database, 3).await;
    assert_eq!(server.count(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copied_server_is_on_hold_under_another_url_and_a_promoted_standby_sends() {
    const OWN: [(&str, &str); 1] = [("CRM_PUBLIC_URL", "https://crm.example")];
    const STAGING: [(&str, &str); 1] = [("CRM_PUBLIC_URL", "https://staging.example")];
    let server = Server::find().await.unwrap();
    let cluster = TempCluster::start(&server).await.unwrap();
    cluster.database("crm").await.unwrap();
    let original = Database::on(&cluster, "crm");
    migrate::run(&support::settings(original.url()).database, |_| {}).await.unwrap();
    workspaces::create(&mut support::connect(original.url()).await, "acme").await.unwrap();
    let api = Api::over(original, |_| {}).await;
    queue_emails(&api, 5, &OWN).await;

    let copied = cluster.copy(&server, false).await.unwrap();
    let sink = MailServer::start().await;
    {
        let copy = Database::on(&copied, "crm");
        // A process without a URL does not compare it, and one with another URL does.
        let staging = sending(&copy, &sink, &STAGING);
        until_on_hold(&staging).await;
        assert_eq!(sink.count(), 0);
        // Both workers decide for themselves: the emails leave under the URL that the database remembers.
        let own = sending(&copy, &sink, &OWN);
        until_sent(&copy, 5).await;
        let output = command(&copy, &["release"], &STAGING).output().await.unwrap();
        assert!(output.status.success(), "{output:?}");
        until_on_hold(&own).await;
    }
    copied.stop().await.unwrap();

    let standby = cluster.copy(&server, true).await.unwrap();
    rows(&api, "UPDATE leads SET name = name || ' II'").await;
    drop(api);
    cluster.stop().await.unwrap();
    let promoted = Database::on(&standby, "crm");
    sqlx::query("SELECT pg_promote()").execute(promoted.pool()).await.unwrap();
    let api = Api::over(promoted, |_| {}).await;
    let sink = MailServer::start().await;
    let worker = sending(&api.database, &sink, &OWN);
    until_sent(&api.database, 5).await;
    assert_eq!(sink.count(), 5);
    api.send(Method::POST, "/dev/crm/leads", json!({ "name": "Una", "email": "una@example.com" }), 201).await;
    let job = run(&api, NURTURE).await;
    assert_eq!(job["status"], "succeeded", "{job}");
    until_sent(&api.database, 6).await;
    drop((worker, api));
    standby.stop().await.unwrap();
}
