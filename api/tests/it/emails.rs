//! Emails are listed, resent and marked as sent, and changes of their records cancel them.

use reqwest::Method;
use serde_json::{Value, json};
use shared::events::Actor;
use shared::mail::templates::Rendered;
use shared::mail::{self, Event, NewEmail, Sender};
use shared::records::RecordType;
use shared::values::{Email, Field};
use uuid::Uuid;

use crate::support::{self, Api, each, faults, id};

const EMAILS: &str = "/dev/crm/emails";

/// Queues an email.
pub async fn queued(api: &Api, to: &str, subject: Option<(RecordType, Uuid)>) -> Uuid {
    let id = Uuid::now_v7();
    let sender = Sender { name: Some("Acme".into()), email: "hello@acme.example".into(), reply_to: None };
    let new = NewEmail {
        id,
        event: Event::Nurture,
        event_key: format!("nurture:{id}"),
        subject,
        to_name: Some("Ada\r\nBcc: eve@example.com".into()),
        to_email: Email::from_text(to).unwrap(),
        content: Rendered { subject: "Hello".into(), text: "Hi Ada".into(), html: "<p>Hi Ada</p>".into() },
        unsubscribe: Some("https://crm.example/unsubscribe/x".into()),
        time_zone: None,
    };
    mail::queue(&mut api.connection().await, &Actor::worker(api.workspace_id), &sender, &[new]).await.unwrap();
    id
}

pub async fn set_state(api: &Api, id: Uuid, state: &str) {
    sqlx::query("UPDATE emails SET state = $2, answer = 'said so' WHERE id = $1")
        .bind(id)
        .bind(state)
        .execute(&mut api.connection().await)
        .await
        .unwrap();
}

async fn state(api: &Api, id: Uuid) -> Value {
    api.read(&format!("{EMAILS}/{id}")).await["state"].clone()
}

#[tokio::test]
async fn an_email_is_returned_with_its_headers_and_bodies() {
    let api = Api::start().await;
    let lead = Uuid::now_v7();
    let id = queued(&api, "Ada@Example.com", Some((RecordType::Lead, lead))).await;
    let email = api.read(&format!("{EMAILS}/{id}")).await;
    for (field, value) in [
        ("id", json!(id)),
        ("state", json!("queued")),
        ("event", json!("nurture")),
        ("event_key", json!(format!("nurture:{id}"))),
        ("record", json!({ "type": "lead", "id": lead })),
        ("from_name", json!("Acme")),
        ("from_email", json!("hello@acme.example")),
        ("to_email", json!("Ada@Example.com")),
        ("subject", json!("Hello")),
        ("failures", json!(0)),
        ("answer", json!(null)),
        ("sent_at", json!(null)),
        ("text_body", json!("Hi Ada")),
        ("html_body", json!("<p>Hi Ada</p>")),
    ] {
        assert_eq!(email[field], value, "{field}");
    }
    assert_eq!(email["next_try_at"], email["created_at"]);
    let headers = email["headers"].as_array().unwrap();
    let header = |name: &str| headers.iter().find(|header| header["name"] == name).unwrap()["value"].as_str().unwrap();
    assert_eq!(header("From"), "Acme <hello@acme.example>");
    assert_eq!(header("To"), "Ada Bcc: eve@example.com <Ada@Example.com>");
    assert_eq!(header("Message-ID"), format!("<{id}@acme.example>"));
    assert_eq!(header("List-Unsubscribe"), "<https://crm.example/unsubscribe/x>");
    assert_eq!(header("List-Unsubscribe-Post"), "List-Unsubscribe=One-Click");
    assert_eq!((header("Auto-Submitted"), header("Precedence")), ("auto-generated", "bulk"));
    let feedback_id: Vec<&str> = header("Feedback-ID").split(':').collect();
    assert_eq!(feedback_id[..3], [id.to_string(), api.workspace_id.to_string(), "nurture".into()]);
    assert!(feedback_id.len() == 4 && (5..=15).contains(&feedback_id[3].len()), "{feedback_id:?}");
}

#[tokio::test]
async fn emails_are_filtered_and_paged() {
    let api = Api::start().await;
    let lead = Uuid::now_v7();
    let first = queued(&api, "ada@example.com", Some((RecordType::Lead, lead))).await;
    let second = queued(&api, "bob@example.com", None).await;
    let third = queued(&api, "eve@example.com", None).await;
    set_state(&api, second, "unknown").await;
    set_state(&api, third, "sent").await;
    for (query, expected) in [
        ("", vec![third, second, first]),
        ("state=unknown", vec![second]),
        ("state=queued,sent", vec![third, first]),
        ("event=nurture", vec![third, second, first]),
        ("event=followups", vec![]),
        ("to_email=ADA@example.com", vec![first]),
        ("to_email=ADA@example.com,eve@example.com", vec![third, first]),
        (&format!("subject_id={lead}"), vec![first]),
        ("subject_type=lead", vec![first]),
        ("sort=created_at&limit=2", vec![first, second]),
    ] {
        let listed = api.read(&format!("{EMAILS}?{query}")).await;
        let expected: Vec<String> = expected.iter().map(Uuid::to_string).collect();
        assert_eq!(each(&listed, "id"), expected, "{query}");
    }
    for (query, fault) in [
        ("state=gone", ("state", "invalid")),
        ("event=x", ("event", "invalid")),
        ("to=ada", ("to", "unknown")),
        ("subject_id=1", ("subject_id", "invalid")),
    ] {
        let answer = support::json(api.get(&format!("{EMAILS}?{query}")), 400).await;
        assert_eq!(faults(&answer), [fault], "{query}");
    }
}

#[tokio::test]
async fn only_emails_that_wait_can_be_cancelled() {
    let api = Api::start().await;
    let id = queued(&api, "ada@example.com", None).await;
    let cancel = format!("{EMAILS}/{id}/cancel");
    for current in ["sending", "sent", "bounced", "unknown", "suppressed", "cancelled"] {
        set_state(&api, id, current).await;
        support::json(api.post(&cancel), 409).await;
    }
    for current in ["queued", "deferred"] {
        set_state(&api, id, current).await;
        // A worker that has leased the email does not send it.
        let lease = "UPDATE emails SET lease_until = now() + interval '1 minute' WHERE id = $1";
        sqlx::query(lease).bind(id).execute(&mut api.connection().await).await.unwrap();
        let email = support::json(api.post(&cancel), 200).await;
        assert_eq!((&email["state"], &email["next_try_at"]), (&json!("cancelled"), &json!(null)));
    }
    let audit = api.read(&format!("/dev/crm/audit?subject.id={id}")).await;
    assert_eq!(each(&audit, "type"), ["email.cancelled", "email.cancelled"]);
    support::json(api.post(&format!("{EMAILS}/{}/cancel", Uuid::now_v7())), 404).await;
}

#[tokio::test]
async fn only_unknown_and_bounced_emails_can_be_resent() {
    let api = Api::start().await;
    let id = queued(&api, "ada@example.com", None).await;
    let resend = format!("{EMAILS}/{id}/resend");
    for current in ["queued", "sending", "sent", "deferred", "suppressed", "cancelled"] {
        set_state(&api, id, current).await;
        support::json(api.post(&resend), 409).await;
    }
    for current in ["unknown", "bounced"] {
        set_state(&api, id, current).await;
        let email = support::json(api.post(&resend), 200).await;
        assert_eq!((&email["state"], &email["answer"]), (&json!("queued"), &json!(null)));
        // The email is queued already.
        support::json(api.post(&resend), 409).await;
    }
    support::json(api.post(&resend).json(&json!({ "now": true })), 400).await;
    support::json(api.post(&format!("{EMAILS}/{}/resend", Uuid::now_v7())), 404).await;
}

#[tokio::test]
async fn an_unknown_email_can_be_marked_as_sent() {
    let api = Api::start().await;
    let id = queued(&api, "ada@example.com", None).await;
    let mark_sent = format!("{EMAILS}/{id}/mark-sent");
    for current in ["queued", "sending", "sent", "bounced"] {
        set_state(&api, id, current).await;
        support::json(api.post(&mark_sent), 409).await;
    }
    set_state(&api, id, "unknown").await;
    let email = support::json(api.post(&mark_sent), 200).await;
    assert_eq!(email["state"], "sent");
    assert!(email["sent_at"].is_string());
}

#[tokio::test]
async fn a_new_address_a_block_or_a_deletion_cancels_queued_emails() {
    let api = Api::start().await;
    for (path, kind) in [("/dev/crm/leads", RecordType::Lead), ("/dev/crm/customers", RecordType::Customer)] {
        let record = api.create(path, json!({ "name": "Ada", "email": "ada@example.com" })).await;
        let record_path = format!("{path}/{}", id(&record));
        let record_id: Uuid = id(&record).parse().unwrap();
        let queue_email = || queued(&api, "ada@example.com", Some((kind, record_id)));

        let email = queue_email().await;
        api.send(Method::PUT, &record_path, json!({ "name": "Ada L", "email": "ADA@example.com" }), 200).await;
        assert_eq!(state(&api, email).await, "queued", "the address is the same");
        api.send(Method::PUT, &record_path, json!({ "email": "ada2@example.com" }), 200).await;
        assert_eq!(state(&api, email).await, "cancelled");

        let (email, sent) = (queue_email().await, queue_email().await);
        set_state(&api, sent, "sent").await;
        let items = json!({ "items": [{ "id": record_id, "email": "ada3@example.com" }] });
        support::json(api.post(&format!("{path}/batch")).json(&items), 200).await;
        assert_eq!((state(&api, email).await, state(&api, sent).await), (json!("cancelled"), json!("sent")));

        let email = queue_email().await;
        api.delete(&record_path, 204).await;
        assert_eq!(state(&api, email).await, "cancelled");
    }

    let customer = api.create("/dev/crm/customers", json!({ "name": "Bob", "email": "bob@example.com" })).await;
    let path = format!("/dev/crm/customers/{}", id(&customer));
    let email = queued(&api, "bob@example.com", Some((RecordType::Customer, id(&customer).parse().unwrap()))).await;
    api.send(Method::PUT, &path, json!({ "status": "inactive" }), 200).await;
    assert_eq!(state(&api, email).await, "queued");
    api.send(Method::PUT, &path, json!({ "status": "blocked" }), 200).await;
    assert_eq!(state(&api, email).await, "cancelled");
}
