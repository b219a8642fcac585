//! What the outbox promises, statement by statement.

use dev::testing::Database;
use shared::fields::{Email, Field};
use shared::mail::{self, Event, NewEmail, Queued, Sender};
use shared::records::RecordType;
use shared::templates::Rendered;
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

pub(crate) const WORKSPACE: Uuid = Uuid::from_u128(1);

pub(crate) fn sender() -> Sender {
    Sender { name: Some("Acme".into()), email: "hello@acme.example".into(), reply_to: None }
}

pub(crate) fn email(key: &str, to: &str) -> NewEmail {
    NewEmail {
        id: Uuid::now_v7(),
        event: Event::Nurture,
        event_key: key.into(),
        subject: None,
        to_name: Some("Ann".into()),
        to_email: Email::from_text(to).unwrap(),
        content: Rendered { subject: format!("About {key}"), text: "Hello".into(), html: "<p>Hello</p>".into() },
        unsubscribe: None,
    }
}

pub(crate) async fn suppress(connection: &mut PgConnection, email: &str) {
    sqlx::query(
        "INSERT INTO suppressions (workspace_id, id, email, reason, created_at) VALUES ($1, $2, $3, 'manual', now())",
    )
    .bind(WORKSPACE)
    .bind(Uuid::now_v7())
    .bind(email)
    .execute(connection)
    .await
    .unwrap();
}

#[tokio::test]
async fn an_event_has_one_mail_ever_and_a_suppressed_address_none() {
    let database = Database::create().await;
    let connection = &mut *database.pool().acquire().await.unwrap();
    suppress(connection, "No@Example.com").await;
    let emails = [email("b", "bob@example.com"), email("a", "ann@example.com"), email("c", "no@example.COM")];
    let queued = mail::queue(connection, WORKSPACE, &sender(), &emails).await.unwrap();
    assert_eq!(queued, [Queued::New, Queued::New, Queued::Suppressed]);

    let again = [email("a", "ann@example.com"), email("d", "dan@example.com"), email("d", "dan@example.com")];
    let queued = mail::queue(connection, WORKSPACE, &sender(), &again).await.unwrap();
    assert_eq!(queued, [Queued::Before, Queued::New, Queued::Before]);
    // Another workspace has events of its own.
    let queued = mail::queue(connection, Uuid::from_u128(2), &sender(), &again[..1]).await.unwrap();
    assert_eq!(queued, [Queued::New]);
}

#[tokio::test]
async fn a_mail_is_there_with_its_event_or_not_at_all() {
    let database = Database::create().await;
    let connection = &mut *database.pool().acquire().await.unwrap();
    let mut event = connection.begin().await.unwrap();
    mail::queue(&mut event, WORKSPACE, &sender(), &[email("a", "ann@example.com")]).await.unwrap();
    event.rollback().await.unwrap();
    let queued = mail::queue(connection, WORKSPACE, &sender(), &[email("a", "ann@example.com")]).await.unwrap();
    assert_eq!(queued, [Queued::New]);
}

#[tokio::test]
async fn what_waits_for_a_record_is_cancelled_with_it() {
    let database = Database::create().await;
    let connection = &mut *database.pool().acquire().await.unwrap();
    let lead = (RecordType::Lead, Uuid::now_v7());
    let to_lead = |key| NewEmail { subject: Some(lead), ..email(key, "ann@example.com") };
    let emails = [to_lead("a"), to_lead("b"), email("c", "ann@example.com")];
    mail::queue(connection, WORKSPACE, &sender(), &emails).await.unwrap();
    assert_eq!(mail::cancel_to(connection, WORKSPACE, (RecordType::Customer, lead.1)).await.unwrap(), 0);
    assert_eq!(mail::cancel_to(connection, WORKSPACE, lead).await.unwrap(), 2);
    assert_eq!(mail::cancel_to(connection, WORKSPACE, lead).await.unwrap(), 0);
}
