//! The outbox: every email that was sent or will be sent.
//!
//! An email is a row, written in the transaction of the event that causes it, under the event's
//! unique key. So the event and its email are committed together, and a second run of the same
//! event finds the email in the outbox. Workers send the emails that are due.

pub mod action_urls;
pub mod breaks;
mod content;
mod emails;
pub mod event;
mod lease;
mod mark;
pub mod place;
mod rate_limit;
mod report;
pub mod senders;
pub mod suppressions;
pub mod templates;
mod windows;

use std::collections::HashSet;

use chrono_tz::Tz;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::events::Actor;
use crate::mail::report::{record_events, reported};
use crate::mail::suppressions::is_suppressed;
use crate::mail::templates::Rendered;
use crate::mail::windows::Windows;
use crate::platform::{db, trace};
use crate::records::RecordType;
use crate::string_enum;
use crate::values::{self, Time, key_domain};

pub use content::{Content, Header, one_line};
pub use emails::{COLUMNS, Email, LIST, WholeEmail, cancel, get, mark_sent, resend};
pub use event::Event;
pub use lease::*;
pub use mark::*;
pub use rate_limit::{Turn, lease_in_turn, prune_rate_limits};
pub use windows::{Window, reconsider, wait_for_window};

/// The queue to notify after emails were added to the outbox.
pub const QUEUE: &str = "mail";

string_enum! {
    /// The state of an email.
    EmailState {
        /// Waiting to be sent.
        Queued = "queued",
        /// Being sent over a connection to the mail server.
        Sending = "sending",
        /// Accepted by the mail server.
        Sent = "sent",
        /// Delivery failed temporarily and will be retried.
        Deferred = "deferred",
        /// Delivery failed permanently.
        Bounced = "bounced",
        /// Not sent, because a suppression of the address covers it.
        Suppressed = "suppressed",
        /// The connection broke before the server confirmed delivery. Never resent automatically.
        Unknown = "unknown",
        /// Not sent, because the reason for it no longer applies or the recipient's address
        /// changed.
        Cancelled = "cancelled",
    }
}

/// The sender of an email.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sender {
    /// The display name.
    pub name: Option<String>,
    /// The address.
    pub email: String,
    /// The address for replies, if it differs.
    pub reply_to: Option<String>,
}

/// An email to add to the outbox.
#[derive(Debug, Clone)]
pub struct NewEmail {
    /// Chosen by the caller, so that the link to unsubscribe can contain it.
    pub id: Uuid,
    /// The event that causes it.
    pub event: Event,
    /// Identifies the occurrence of the event, which causes one email only.
    pub event_key: String,
    /// The record of the recipient: a lead, a customer or a user.
    pub subject: Option<(RecordType, Uuid)>,
    /// The recipient's name.
    pub to_name: Option<String>,
    /// The recipient's address.
    pub to_email: values::Email,
    /// The subject and the body.
    pub content: Rendered,
    /// The URL for unsubscribing, in bulk emails.
    pub unsubscribe: Option<String>,
    /// The recipient's time zone, if it is known.
    pub time_zone: Option<Tz>,
}

/// The result of adding an email to the outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Queued {
    /// The email was added.
    New,
    /// A suppression of the address covers the email, so nothing was written.
    Suppressed,
    /// The event already had an email.
    Before,
}

/// Which of a record's waiting emails to cancel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancel {
    /// All of them.
    All,
    /// Those of one event.
    Of(Event),
}

/// The most emails in one statement.
const BATCH: usize = 1_000;

/// Adds emails to the outbox, in the caller's transaction, and returns the result for each, in the
/// same order. They name what caused them: the job or the request of the actor, and the present trace. A bulk
/// email outside of the workspace's sending window is due when the window opens.
/// After the commit the caller notifies [`QUEUE`] with the
/// [`Notifier`](crate::queue::notify::Notifier).
pub async fn queue(
    connection: &mut PgConnection,
    actor: &Actor,
    sender: &Sender,
    emails: &[NewEmail],
) -> Result<Vec<Queued>> {
    let openings = openings(connection, actor.workspace_id, emails).await?;
    let mut queued = Vec::with_capacity(emails.len());
    for (batch, openings) in emails.chunks(BATCH).zip(openings.chunks(BATCH)) {
        queued.extend(queue_batch(connection, actor, sender, (batch, openings)).await?);
    }
    if queued.len() != emails.len() {
        return Err(Error::internal("the outbox did not answer for each email"));
    }
    Ok(queued)
}

/// When the sending window opens for each email, if it is closed.
async fn openings(connection: &mut PgConnection, workspace_id: Uuid, emails: &[NewEmail]) -> Result<Vec<Option<Time>>> {
    let mut windows = Windows::default();
    if emails.iter().any(|email| email.event.is_bulk()) {
        windows = Windows::read(connection, &[workspace_id]).await?;
    }
    if windows.is_empty() {
        return Ok(vec![None; emails.len()]);
    }
    let now = db::database_now(connection).await?;
    let opening = |email: &NewEmail| {
        let window = windows.of(workspace_id, email.time_zone.map(Tz::name)).filter(|_| email.event.is_bulk())?;
        Some(window.next_opening(now)).filter(|opening| *opening > now)
    };
    Ok(emails.iter().map(opening).collect())
}

async fn queue_batch(
    connection: &mut PgConnection,
    actor: &Actor,
    sender: &Sender,
    (emails, openings): (&[NewEmail], &[Option<Time>]),
) -> Result<Vec<Queued>> {
    let suppressed = suppressed(connection, actor.workspace_id, emails).await?;
    let wanted = emails.iter().zip(openings).filter(|(email, _)| !suppressed.contains(&email.id));
    let written = write(connection, actor, sender, &wanted.collect::<Vec<_>>()).await?;
    Ok(emails
        .iter()
        .map(|NewEmail { id, .. }| match (suppressed.contains(id), written.contains(id)) {
            (true, _) => Queued::Suppressed,
            (false, true) => Queued::New,
            (false, false) => Queued::Before,
        })
        .collect())
}

/// The ids of the emails to addresses that must not get them.
async fn suppressed(connection: &mut PgConnection, workspace_id: Uuid, emails: &[NewEmail]) -> Result<HashSet<Uuid>> {
    let suppressed: Vec<Uuid> = sqlx::query_scalar(concat!(
        "SELECT id FROM unnest($2::uuid[], $3::text[], $4::text[]) AS new (id, to_email_key, event) WHERE ",
        is_suppressed!("new.to_email_key", "new.event")
    ))
    .bind(workspace_id)
    .bind(emails.iter().map(|email| email.id).collect::<Vec<_>>())
    .bind(emails.iter().map(|email| email.to_email.key()).collect::<Vec<_>>())
    .bind(emails.iter().map(|email| email.event.as_str()).collect::<Vec<_>>())
    .fetch_all(connection)
    .await?;
    Ok(suppressed.into_iter().collect())
}

/// Writes emails, and returns the ids of those that are new. Rows are written in the order of their keys, so that two
/// runs of the same events cannot deadlock.
async fn write(
    connection: &mut PgConnection,
    actor: &Actor,
    sender: &Sender,
    emails: &[(&NewEmail, &Option<Time>)],
) -> Result<HashSet<Uuid>> {
    fn all<'a, T>(emails: &[(&'a NewEmail, &Option<Time>)], field: impl Fn(&'a NewEmail) -> T) -> Vec<T> {
        emails.iter().map(|(email, _)| field(email)).collect()
    }
    let keys: Vec<String> = all(emails, |email| email.to_email.key());
    let written: Vec<Uuid> = sqlx::query_scalar(
        "INSERT INTO emails (workspace_id, from_name, from_email, reply_to, id, event, event_key, subject_type,
             subject_id, to_name, to_email, to_email_key, to_domain, subject, text_body, html_body, unsubscribe,
             to_time_zone, opens_at, run_at, job_id, request_id, trace_context)
         SELECT $1, $2, $3, $4, id, event, event_key, subject_type,
             subject_id, to_name, to_email, to_email_key, to_domain, subject, text_body, html_body, unsubscribe,
             to_time_zone, opens_at, greatest(opens_at, now()), $20, $21, $22
         FROM unnest($5::uuid[], $6::text[], $7::text[], $8::text[], $9::uuid[], $10::text[], $11::text[],
             $12::text[], $13::text[], $14::text[], $15::text[], $16::text[], $17::text[], $18::text[],
             $19::timestamptz[]) WITH ORDINALITY
             AS new (id, event, event_key, subject_type, subject_id, to_name, to_email, to_email_key, to_domain,
                 subject, text_body, html_body, unsubscribe, to_time_zone, opens_at, place)
         ORDER BY event_key, place
         ON CONFLICT (workspace_id, event_key) DO NOTHING
         RETURNING id",
    )
    .bind(actor.workspace_id)
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
    .bind(&keys)
    .bind(keys.iter().map(|key| key_domain(key)).collect::<Vec<_>>())
    .bind(all(emails, |email| email.content.subject.as_str()))
    .bind(all(emails, |email| email.content.text.as_str()))
    .bind(all(emails, |email| email.content.html.as_str()))
    .bind(all(emails, |email| email.unsubscribe.as_deref()))
    .bind(all(emails, |email| email.time_zone.map(Tz::name)))
    .bind(emails.iter().map(|(_, opening)| **opening).collect::<Vec<_>>())
    .bind(actor.job_id())
    .bind(&actor.request_id)
    .bind(trace::stored())
    .fetch_all(connection)
    .await?;
    Ok(written.into_iter().collect())
}

/// Cancels the emails that wait to be sent to a record, because its address changed, it was deleted
/// or blocked, or it left the sequence. Emails that are being sent still arrive. Returns the number
/// of cancelled emails.
pub async fn cancel_to(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    (record, id): (RecordType, Uuid),
    cancel: Cancel,
) -> Result<u64> {
    cancel_to_all(connection, workspace_id, record, &[(id, cancel)]).await
}

/// Cancels the waiting emails of events that no longer matter to their recipients, as [`cancel_to`]
/// does.
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

/// Cancels the waiting emails of many records of one type, as [`cancel_to`] does.
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
    // A higher attempt revokes the lease of a worker that holds one of the emails.
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

/// Suppresses the emails of a scope that wait to be sent to these addresses, given as
/// [`values::Email::key`](crate::values::Email::key). Emails that are being sent still arrive.
/// Returns the number of suppressed emails.
async fn suppress_all(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    scope: suppressions::Scope,
    email_keys: &[String],
) -> Result<u64> {
    if email_keys.is_empty() {
        return Ok(0);
    }
    let covered = Event::ALL.iter().filter(|event| scope.covers(**event)).map(|event| event.as_str());
    // Rows are locked in the order of their ids, so that two statements cannot deadlock.
    let suppressed = sqlx::query(concat!(
        "WITH suppressed AS (
             UPDATE emails SET state = 'suppressed', attempt = attempt + 1, lease_until = NULL, updated_at = now()
             WHERE workspace_id = $1 AND id = ANY (ARRAY(
                 SELECT id FROM emails
                 WHERE workspace_id = $1 AND to_email_key = ANY ($2) AND state IN ('queued', 'deferred')
                     AND event = ANY ($3)
                 ORDER BY id FOR UPDATE
             ))
             RETURNING ",
        reported!(),
        ") ",
        record_events!("suppressed")
    ))
    .bind(workspace_id)
    .bind(email_keys)
    .bind(covered.collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(suppressed.rows_affected())
}

/// The recipient and the sender of an email.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addressee {
    /// The recipient's address.
    pub email: values::Email,
    /// The sender as shown to the recipient.
    pub sender: String,
    /// The recipient's record, if there is one.
    pub record_id: Option<Uuid>,
}

/// Returns the recipient and the sender of an email.
///
/// # Errors
/// [`Error::NotFound`](crate::Error::NotFound).
pub async fn addressee(connection: &mut PgConnection, workspace_id: Uuid, id: Uuid) -> Result<Addressee> {
    let (email, sender, record_id) = sqlx::query_as(
        "SELECT to_email, coalesce(from_name, from_email), subject_id FROM emails WHERE id = $1 AND workspace_id = $2",
    )
    .bind(id)
    .bind(workspace_id)
    .fetch_one(connection)
    .await?;
    Ok(Addressee { email, sender, record_id })
}
