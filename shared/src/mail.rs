//! The outbox: every mail that was or will be sent.
//!
//! A mail is a row, written in the transaction of the event that causes it, under a key that its
//! event has once. So an event and its mail are one fact, and a second run of the same event finds
//! its mail there already. Workers send what is due.

pub mod action_urls;
pub mod breaks;
mod content;
mod emails;
pub mod event;
mod lease;
mod mark;
mod rate_limit;
pub mod senders;
pub mod suppressions;
pub mod templates;

use std::borrow::Cow;

use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::mail::suppressions::is_suppressed;
use crate::mail::templates::Rendered;
use crate::records::RecordType;
use crate::string_enum;
use crate::values::{self, email_key};

pub use content::{Content, Header, one_line};
pub use emails::{COLUMNS, Email, LIST, WholeEmail, get, mark_sent, resend};
pub use event::Event;
pub use lease::*;
pub use mark::*;
pub use rate_limit::{Turn, is_limited, lease_in_turn, prune_rate_limits};

/// The queue that is notified when emails wait to be sent.
pub const QUEUE: &str = "mail";

string_enum! {
    /// Where a mail stands.
    EmailState {
        /// Waiting for its turn.
        Queued = "queued",
        /// On its way: a connection has it.
        Sending = "sending",
        /// The server has taken it.
        Sent = "sent",
        /// The server, or the way to it, did not let it through for now; it is tried again.
        Deferred = "deferred",
        /// The server has refused it for good.
        Bounced = "bounced",
        /// Its address takes no mail of this workspace any more.
        Suppressed = "suppressed",
        /// Whether the server has taken it is not known; it is never sent again by itself.
        Unknown = "unknown",
        /// What it was to be sent for is gone, or its address has changed.
        Cancelled = "cancelled",
    }
}

/// Who mails come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sender {
    /// The name that readers see.
    pub name: Option<String>,
    /// The address.
    pub email: String,
    /// Where answers go, if not there.
    pub reply_to: Option<String>,
}

/// A mail that is about to be put into the outbox.
#[derive(Debug, Clone)]
pub struct NewEmail {
    /// Made by the caller, so that the link to unsubscribe can carry it.
    pub id: Uuid,
    /// What causes it.
    pub event: Event,
    /// Which occurrence of that: it has one mail, ever.
    pub event_key: String,
    /// The record it is written to: a lead, a customer or a user.
    pub subject: Option<(RecordType, Uuid)>,
    /// The name of whoever gets it.
    pub to_name: Option<String>,
    /// Their address.
    pub to_email: values::Email,
    /// What it says.
    pub content: Rendered,
    /// Bulk mails: where their readers can unsubscribe.
    pub unsubscribe: Option<String>,
}

/// What became of a mail that was to be put into the outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Queued {
    /// It is there.
    New,
    /// Its address takes no mail of this workspace: nothing was written.
    Suppressed,
    /// Its event has a mail already.
    Before,
}

/// Which of the mails that wait for a record are cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancel {
    /// All of them.
    All,
    /// Those of one event.
    Of(Event),
}

/// Mails in one statement at most.
const BATCH: usize = 1_000;

/// Puts mails into the outbox, in the caller's transaction, and tells in their order what became of
/// each. After the commit the caller notifies by the [`Notifier`](crate::queue::notify::Notifier) of [`QUEUE`].
///
/// # Errors
/// [`Error::Unavailable`](crate::Error::Unavailable) when the database is away.
pub async fn queue(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    sender: &Sender,
    emails: &[NewEmail],
) -> Result<Vec<Queued>> {
    let mut queued = Vec::with_capacity(emails.len());
    for batch in emails.chunks(BATCH) {
        queued.extend(queue_batch(connection, workspace_id, sender, batch).await?);
    }
    if queued.len() != emails.len() {
        return Err(Error::internal("the outbox did not answer for each email"));
    }
    Ok(queued)
}

async fn queue_batch(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    sender: &Sender,
    emails: &[NewEmail],
) -> Result<Vec<Queued>> {
    fn all<'a, T>(emails: &'a [NewEmail], field: impl Fn(&'a NewEmail) -> T) -> Vec<T> {
        emails.iter().map(field).collect()
    }
    // Written in the order of their keys, so that two runs of the same events never wait in a circle.
    let written: Vec<(bool, bool)> = sqlx::query_as(concat!(
        "WITH new AS (
             SELECT new.*, ",
        is_suppressed!("new.to_email"),
        " AS suppressed
             FROM unnest($5::uuid[], $6::text[], $7::text[], $8::text[], $9::uuid[], $10::text[], $11::text[],
                 $12::text[], $13::text[], $14::text[], $15::text[], $16::text[]) WITH ORDINALITY
                 AS new (id, event, event_key, subject_type, subject_id, to_name, to_email,
                     to_domain, subject, text_body, html_body, unsubscribe, place)
         ), written AS (
             INSERT INTO emails (workspace_id, from_name, from_email, reply_to, id, event, event_key, subject_type,
                 subject_id, to_name, to_email, to_domain, subject, text_body, html_body, unsubscribe)
             SELECT $1, $2, $3, $4, id, event, event_key, subject_type,
                 subject_id, to_name, to_email, to_domain, subject, text_body, html_body, unsubscribe
             FROM new WHERE NOT suppressed ORDER BY event_key, place
             ON CONFLICT (workspace_id, event_key) DO NOTHING
             RETURNING id
         )
         SELECT new.suppressed, written.id IS NOT NULL FROM new LEFT JOIN written USING (id) ORDER BY new.place"
    ))
    .bind(workspace_id)
    .bind(&sender.name)
    .bind(&sender.email)
    .bind(&sender.reply_to)
    .bind(all(emails, |email| email.id))
    .bind(all(emails, |email| email.event.as_str()))
    .bind(all(emails, |email| email.event_key.as_str()))
    .bind(all(emails, |email| email.subject.map(|(kind, _)| kind.as_str())))
    .bind(all(emails, |email| email.subject.map(|(_, id)| id)))
    .bind(all(emails, |email| email.to_name.as_deref()))
    .bind(all(emails, |email| email.to_email.as_ref()))
    .bind(all(emails, |email| domain(email.to_email.as_ref())))
    .bind(all(emails, |email| email.content.subject.as_str()))
    .bind(all(emails, |email| email.content.text.as_str()))
    .bind(all(emails, |email| email.content.html.as_str()))
    .bind(all(emails, |email| email.unsubscribe.as_deref()))
    .fetch_all(connection)
    .await?;
    Ok(written
        .into_iter()
        .map(|(suppressed, new)| match (suppressed, new) {
            (true, _) => Queued::Suppressed,
            (false, true) => Queued::New,
            (false, false) => Queued::Before,
        })
        .collect())
}

/// What stands behind the @, in lower case.
fn domain(email: &str) -> Cow<'_, str> {
    email.rsplit_once('@').map_or(Cow::Borrowed(email), |(_, domain)| Cow::Owned(domain.to_ascii_lowercase()))
}

/// Cancels what waits to be sent to a record, since its address has changed, it was deleted or blocked,
/// or it has left the sequence. What is on its way already arrives. Returns how many mails there were.
///
/// # Errors
/// [`Error::Unavailable`](crate::Error::Unavailable) when the database is away.
pub async fn cancel_to(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    (record, id): (RecordType, Uuid),
    cancel: Cancel,
) -> Result<u64> {
    cancel_to_all(connection, workspace_id, record, &[(id, cancel)]).await
}

/// Cancels the mails of events that nobody needs to hear of any more, as [`cancel_to`] does.
///
/// # Errors
/// [`Error::Unavailable`](crate::Error::Unavailable) when the database is away.
pub async fn cancel_events(connection: &mut PgConnection, workspace_id: Uuid, event_keys: &[String]) -> Result<u64> {
    let cancelled = sqlx::query(
        "UPDATE emails SET state = 'cancelled', attempt = attempt + 1, lease_until = NULL, updated_at = now()
         WHERE workspace_id = $1 AND event_key = ANY ($2) AND state IN ('queued', 'deferred')",
    )
    .bind(workspace_id)
    .bind(event_keys)
    .execute(connection)
    .await?;
    Ok(cancelled.rows_affected())
}

/// As [`cancel_to`], for many records of one kind, each with what is cancelled of its mails.
///
/// # Errors
/// [`Error::Unavailable`](crate::Error::Unavailable) when the database is away.
pub async fn cancel_to_all(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    record: RecordType,
    records: &[(Uuid, Cancel)],
) -> Result<u64> {
    if records.is_empty() {
        return Ok(0);
    }
    let ids: Vec<Uuid> = records.iter().map(|(id, _)| *id).collect();
    let events = records.iter().map(|(_, cancel)| match cancel {
        Cancel::All => None,
        Cancel::Of(event) => Some(event.as_str()),
    });
    let events: Vec<Option<&str>> = events.collect();
    // The attempt rises, so that a worker that holds one of them finds it gone.
    let cancelled = sqlx::query(
        "UPDATE emails SET state = 'cancelled', attempt = attempt + 1, lease_until = NULL, updated_at = now()
         WHERE workspace_id = $1 AND id = ANY (ARRAY(
             SELECT id FROM emails
             WHERE workspace_id = $1 AND subject_id = ANY ($3) AND subject_type = $2 AND state IN ('queued', 'deferred')
                 AND EXISTS (
                     SELECT FROM unnest($3::uuid[], $4::text[]) AS stopped (id, event)
                     WHERE stopped.id = emails.subject_id AND (stopped.event IS NULL OR stopped.event = emails.event)
                 )
             ORDER BY id FOR UPDATE
         ))",
    )
    .bind(workspace_id)
    .bind(record)
    .bind(ids)
    .bind(events)
    .execute(connection)
    .await?;
    Ok(cancelled.rows_affected())
}

/// Gives up what waits to be sent to an address, given as [`values::Email::key`](crate::values::Email::key)
/// makes it. What is on its way already arrives. Returns how many mails there were.
///
/// # Errors
/// [`Error::Unavailable`](crate::Error::Unavailable) when the database is away.
pub async fn suppress(connection: &mut PgConnection, workspace_id: Uuid, email_key: &str) -> Result<u64> {
    // In the order of their ids, so that two statements never wait for each other in a circle.
    let suppressed = sqlx::query(concat!(
        "UPDATE emails SET state = 'suppressed', attempt = attempt + 1, lease_until = NULL, updated_at = now()
         WHERE workspace_id = $1 AND id = ANY (ARRAY(
             SELECT id FROM emails
             WHERE workspace_id = $1 AND ",
        email_key!("to_email"),
        " = $2 AND state IN ('queued', 'deferred')
             ORDER BY id FOR UPDATE
         ))"
    ))
    .bind(workspace_id)
    .bind(email_key)
    .execute(connection)
    .await?;
    Ok(suppressed.rows_affected())
}

/// Whom a mail was written to, and who wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addressee {
    /// The address it went to.
    pub email: values::Email,
    /// The sender as its reader saw it.
    pub sender: String,
}

/// The addressee of a mail.
///
/// # Errors
/// [`Error::NotFound`](crate::Error::NotFound).
pub async fn addressee(connection: &mut PgConnection, workspace_id: Uuid, id: Uuid) -> Result<Addressee> {
    let (email, sender) = sqlx::query_as(
        "SELECT to_email, coalesce(from_name, from_email) FROM emails WHERE id = $1 AND workspace_id = $2",
    )
    .bind(id)
    .bind(workspace_id)
    .fetch_one(connection)
    .await?;
    Ok(Addressee { email, sender })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_domain_is_what_stands_behind_the_at_in_lower_case() {
        assert_eq!(domain("Ann@Example.COM"), "example.com");
        assert_eq!(domain("ann@bücher.example"), "bücher.example");
    }
}
