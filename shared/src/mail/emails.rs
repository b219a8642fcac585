//! Mails as callers see them, and what an operator decides about them.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{FromRow, PgConnection, Row};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Content, EmailState, Event, Header};
use crate::error::{Error, Reason, Result};
use crate::query::{Filter, FilterKind, Order, OrderKind, Spec};
use crate::queue::Subject;
use crate::records::RecordType;
use crate::values::email_key;

/// The list of mails. Ids are made in the order of time, so they stand for it.
pub const LIST: Spec = Spec {
    table: "emails",
    filters: &[
        Filter { name: "state", kind: FilterKind::Word(EmailState::WORDS) },
        Filter { name: "event", kind: FilterKind::Word(Event::WORDS) },
        Filter { name: "to_email", kind: FilterKind::Email(email_key!("to_email")) },
        Filter { name: "subject_type", kind: FilterKind::Word(RecordType::WORDS) },
        Filter { name: "subject_id", kind: FilterKind::Id },
        Filter { name: "created_at", kind: FilterKind::Time },
        Filter { name: "sent_at", kind: FilterKind::Time },
    ],
    orders: &[Order { name: "created_at", expression: "id", kind: OrderKind::Id }],
    indexed: &["to_email"],
    searchable: false,
    branches: Some(("state", EmailState::WORDS)),
};

macro_rules! columns {
    () => {
        "id, event, event_key, subject_type, subject_id, from_name, from_email, reply_to, to_name, \
            to_email, subject, state, failures, run_at, answer, created_at, updated_at, sent_at"
    };
}

/// The columns of [`Email`], for the statement of a list.
pub const COLUMNS: &str = columns!();

/// The columns of [`WholeEmail`].
macro_rules! whole {
    () => {
        concat!(columns!(), ", text_body, html_body, unsubscribe")
    };
}

/// A mail as callers see it.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Email {
    /// Made by the program, in the order of time.
    pub id: Uuid,
    /// Where it stands.
    pub state: EmailState,
    /// What caused it.
    pub event: Event,
    /// Which occurrence of that; it has one mail, ever.
    pub event_key: String,
    /// The record it is written to.
    pub record: Option<Subject>,
    /// The sender's name.
    pub from_name: Option<String>,
    /// The sender's address.
    pub from_email: String,
    /// Where answers go, if not there.
    pub reply_to: Option<String>,
    /// The recipient's name.
    pub to_name: Option<String>,
    /// The recipient's address.
    pub to_email: String,
    /// The subject.
    pub subject: String,
    /// Tries in a row that were put off.
    pub failures: i16,
    /// When it is tried next, if it waits.
    pub next_try_at: Option<DateTime<Utc>>,
    /// What the server said last, or why there was nothing to hear.
    pub answer: Option<String>,
    /// When it was put into the outbox.
    pub created_at: DateTime<Utc>,
    /// When its state last changed.
    pub updated_at: DateTime<Utc>,
    /// When the server took it.
    pub sent_at: Option<DateTime<Utc>>,
}

impl<'r> FromRow<'r, sqlx::postgres::PgRow> for Email {
    fn from_row(row: &'r sqlx::postgres::PgRow) -> sqlx::Result<Self> {
        let state: EmailState = row.try_get("state")?;
        let subject_type: Option<String> = row.try_get("subject_type")?;
        let subject_id: Option<Uuid> = row.try_get("subject_id")?;
        let waits = matches!(state, EmailState::Queued | EmailState::Deferred);
        Ok(Self {
            id: row.try_get("id")?,
            state,
            event: row.try_get("event")?,
            event_key: row.try_get("event_key")?,
            record: subject_type.zip(subject_id).map(|(kind, id)| Subject { kind, id }),
            from_name: row.try_get("from_name")?,
            from_email: row.try_get("from_email")?,
            reply_to: row.try_get("reply_to")?,
            to_name: row.try_get("to_name")?,
            to_email: row.try_get("to_email")?,
            subject: row.try_get("subject")?,
            failures: row.try_get("failures")?,
            next_try_at: if waits { Some(row.try_get("run_at")?) } else { None },
            answer: row.try_get("answer")?,
            created_at: row.try_get("created_at")?,
            updated_at: row.try_get("updated_at")?,
            sent_at: row.try_get("sent_at")?,
        })
    }
}

/// A mail with all that it says.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct WholeEmail {
    /// The mail.
    #[serde(flatten)]
    pub email: Email,
    /// The head of the message, before it is encoded for its way.
    pub headers: Vec<Header>,
    /// The body as plain text.
    pub text_body: String,
    /// The same as HTML.
    pub html_body: Option<String>,
}

impl<'r> FromRow<'r, sqlx::postgres::PgRow> for WholeEmail {
    fn from_row(row: &'r sqlx::postgres::PgRow) -> sqlx::Result<Self> {
        let (email, content) = (Email::from_row(row)?, Content::from_row(row)?);
        let headers = content.headers(email.id);
        Ok(Self { email, headers, text_body: content.text_body, html_body: content.html_body })
    }
}

/// One mail.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn get(connection: &mut PgConnection, workspace_id: Uuid, id: Uuid) -> Result<WholeEmail> {
    Ok(sqlx::query_as(concat!("SELECT ", whole!(), " FROM emails WHERE id = $1 AND workspace_id = $2"))
        .bind(id)
        .bind(workspace_id)
        .fetch_one(connection)
        .await?)
}

/// Puts a mail into the queue again that is `unknown` or `bounced`: an operator has decided so. After
/// the commit the caller notifies [`QUEUE`](super::QUEUE).
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Conflict`] for a mail in any other state.
pub async fn resend(connection: &mut PgConnection, workspace_id: Uuid, id: Uuid) -> Result<WholeEmail> {
    let queued = sqlx::query_as(concat!(
        "UPDATE emails SET state = 'queued', attempt = attempt + 1, failures = 0, run_at = now(), answer = NULL, updated_at = now()
         WHERE id = $1 AND workspace_id = $2 AND state IN ('unknown', 'bounced')
         RETURNING ",
        whole!()
    ));
    decide(connection, queued, workspace_id, id).await
}

/// Says that a mail which is `unknown` was sent after all.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Conflict`] for a mail in any other state.
pub async fn mark_sent(connection: &mut PgConnection, workspace_id: Uuid, id: Uuid) -> Result<WholeEmail> {
    let sent = sqlx::query_as(concat!(
        "UPDATE emails SET state = 'sent', attempt = attempt + 1, sent_at = updated_at, updated_at = now()
         WHERE id = $1 AND workspace_id = $2 AND state = 'unknown'
         RETURNING ",
        whole!()
    ));
    decide(connection, sent, workspace_id, id).await
}

async fn decide(
    connection: &mut PgConnection,
    statement: sqlx::query::QueryAs<'_, sqlx::Postgres, WholeEmail, sqlx::postgres::PgArguments>,
    workspace_id: Uuid,
    id: Uuid,
) -> Result<WholeEmail> {
    if let Some(email) = statement.bind(id).bind(workspace_id).fetch_optional(&mut *connection).await? {
        return Ok(email);
    }
    let state = get(connection, workspace_id, id).await?.email.state;
    Err(Error::conflict(Reason::WrongState, "state", format!("the email is {}", state.as_str())))
}
