//! Emails are found, resent, marked as sent and cancelled over all workspaces.

use reqwest::Method;
use serde_json::{Value, json};
use testing::Process;
use testing::smtp::MailServer;
use uuid::Uuid;

use super::{Operations, ids, matching, newest};
use crate::emails::{queued, set_state};
use crate::holds::until;
use crate::support;

/// Emails in this state.
async fn emails(operations: &Operations, to: &[&str], state: &str) -> Vec<Uuid> {
    let mut ids = Vec::new();
    for to in to {
        let id = queued(&operations.api, to, None).await;
        set_state(&operations.api, id, state).await;
        ids.push(id);
    }
    ids
}

async fn state(operations: &Operations, id: Uuid) -> Value {
    operations.read(&format!("/emails/{id}")).await["state"].clone()
}

#[tokio::test]
async fn emails_of_all_workspaces_are_filtered_and_shown() {
    let operations = Operations::start().await;
    operations.workspace("globex").await;
    let unknown = emails(&operations, &["ada@example.com", "bob@Example.org"], "unknown").await;
    let sent = emails(&operations, &["eve@example.com"], "sent").await;
    let waiting = emails(&operations, &["dan@example.com"], "queued").await;
    for (filter, expected) in [
        (&[][..], newest(&[&unknown, &sent, &waiting])),
        (&[("state", "unknown")], newest(&[&unknown])),
        (&[("state", "unknown"), ("domain", "EXAMPLE.org")], vec![unknown[1]]),
        (&[("domain", "example.com")], newest(&[&unknown[..1], &sent, &waiting])),
        (&[("event", "nurture"), ("workspace", "acme")], newest(&[&unknown, &sent, &waiting])),
        (&[("event", "followups")], vec![]),
        (&[("workspace", "globex")], vec![]),
        (&[("older_than", "1h")], vec![]),
    ] {
        let query: Vec<String> = filter.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let options: Vec<String> =
            filter.iter().map(|(name, value)| format!("--{}={value}", name.replace('_', "-"))).collect();
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let listed = operations.read(&format!("/emails?{}", query.join("&"))).await;
        assert_eq!(ids(&listed), expected, "{filter:?}");
        assert_eq!(operations.json(&[&["emails", "list"], &options[..]].concat()).await, listed, "{filter:?}");
        let count = operations.read(&format!("/emails/count?{}", query.join("&"))).await;
        assert_eq!(count, json!({ "count": expected.len() }), "{filter:?}");
        assert_eq!(operations.json(&[&["emails", "count"], &options[..]].concat()).await, count, "{filter:?}");
    }
    let id = unknown[0];
    let shown = operations.read(&format!("/emails/{id}")).await;
    assert_eq!((&shown["workspace"], &shown["to_email"]), (&json!("acme"), &json!("ada@example.com")));
    assert_eq!((&shown["message_id"], &shown["answer"]), (&json!(format!("<{id}@acme.example>")), &json!("said so")));
    // Bodies have links that authorize the recipient.
    assert!(shown["text_body"].is_null() && shown["html_body"].is_null());
    assert_eq!(operations.json(&["emails", "show", &id.to_string()]).await, shown);
    let nobody = Uuid::now_v7();
    support::json(operations.request(Method::GET, &format!("/emails/{nobody}")), 404).await;
    let error = operations.error(&["emails", "show", &nobody.to_string()]).await;
    assert_eq!(error, format!("crm-api: there is no email {nobody}"));
    assert!(operations.print(&["emails", "list"]).await.starts_with("ID "));
}

#[tokio::test]
async fn emails_are_decided_about_by_filter_and_by_id() {
    let operations = Operations::start().await;
    let unknown = emails(&operations, &["ada@example.com", "bob@example.com", "eve@example.org"], "unknown").await;
    let bounced = emails(&operations, &["gone@example.org"], "bounced").await;
    let waiting = emails(&operations, &["dan@example.com", "fay@example.com"], "queued").await;

    // Bounced emails can be resent, but nobody can say that they were sent.
    let refused = operations.send("/emails/resend", matching(json!({ "domain": "example.org" }), 1), 409).await;
    assert_eq!(refused["matched"], 2);
    let marked = operations.act("/emails/mark-sent", matching(json!({ "domain": "example.org" }), 1)).await;
    assert_eq!((&marked["action"], &marked["done"]), (&json!("emails.mark_sent"), &json!(1)));
    assert_eq!(state(&operations, unknown[2]).await, "sent");
    let resent = operations.act("/emails/resend", matching(json!({ "state": "bounced" }), 1)).await;
    assert_eq!((&resent["matched"], &resent["done"]), (&json!(1), &json!(1)));
    assert_eq!(state(&operations, bounced[0]).await, "queued");
    let cancelled = operations.act("/emails/cancel", json!({ "ids": [waiting[0], unknown[0]] })).await;
    assert_eq!((&cancelled["matched"], &cancelled["done"]), (&json!(2), &json!(1)));
    assert_eq!([state(&operations, waiting[0]).await, state(&operations, unknown[0]).await], ["cancelled", "unknown"]);

    let counted = operations.run(&["emails", "mark-sent", "--state", "unknown"]).await;
    assert_eq!(counted.status.code(), Some(2), "{counted:?}");
    let marked = operations.print(&["emails", "mark-sent", "--state", "unknown", "--expect", "2"]).await;
    assert_eq!(marked, "2 matched, 2 marked as sent.\n");
    let cancelled = operations.print(&["emails", "cancel", "--all", "--expect", "2"]).await;
    assert_eq!(cancelled, "2 matched, 2 cancelled.\n");
    let again = operations.print(&["emails", "resend", &bounced[0].to_string()]).await;
    assert!(again.starts_with("1 matched, 0 queued again, 1 could no longer"), "{again}");

    let log = operations.api.read("/dev/crm/audit?actor.type=operator").await;
    let types: Vec<&str> = log.as_array().unwrap().iter().map(|entry| entry["type"].as_str().unwrap()).collect();
    let [marked, cancelled] = ["email.marked_sent", "email.cancelled"];
    assert_eq!(types, [cancelled, cancelled, marked, marked, cancelled, "email.resent", marked]);
    assert_eq!(log[6]["actor"]["id"], operations.read("/actions?action=emails.mark_sent").await[1]["id"]);
}

#[tokio::test]
async fn somebody_who_opted_out_since_gets_no_second_email() {
    let operations = Operations::start().await;
    let unknown = emails(&operations, &["ada@example.com", "bob@example.com"], "unknown").await;
    operations.api.create("/dev/crm/suppressions", json!({ "email": "bob@example.com" })).await;
    operations.act("/emails/resend", matching(json!({ "state": "unknown" }), 2)).await;
    let server = MailServer::start().await;
    let port = server.address.port().to_string();
    let settings = [("CRM_MAIL__HOST", "localhost"), ("CRM_MAIL__PORT", port.as_str()), ("CRM_MAIL__TLS", "none")];
    let _worker = Process::worker_with(&operations.api.database, &[], &settings);
    until("both emails have ended", async || {
        state(&operations, unknown[0]).await == "sent" && state(&operations, unknown[1]).await == "suppressed"
    })
    .await;
}
