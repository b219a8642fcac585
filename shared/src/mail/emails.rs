//! Emails as the API returns them, and the actions of operators on them.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{FromRow, PgConnection, Row};
use utoipa::ToSchema;
use uuid::Uuid;

use super::windows::Windows;
use super::{Content, EmailState, Event, Header};
use crate::error::{Error, Reason, Result};
use crate::events::{self, Actor, EventType, NewEvent, SubjectType};
use crate::query::{Item, ListField, Order, OrderKind, Spec};
use crate::queue::Subject;
use crate::records::RecordType;
use crate::values::etag::Tagged;
use crate::values::kind::Kind;

/// An email's `next_try_at`.
const NEXT_TRY_AT: &str = "CASE WHEN state IN ('queued', 'deferred') THEN run_at END";

/// The list of emails. Ids are ordered by time, so sorting by `created_at` uses them.
pub const LIST: Spec = Spec {
    table: "emails",
    fields: &[
        ListField::new("id", Kind::Id),
        ListField::new("state", Kind::Word(EmailState::WORDS)),
        ListField::new("event", Kind::Word(Event::WORDS)),
        ListField::new("event_key", Kind::Line),
        ListField::new("record", Kind::Json),
        ListField::new("from_name", Kind::Name),
        ListField::new("from_email", Kind::Line),
        ListField::new("reply_to", Kind::Line),
        ListField::new("to_name", Kind::Name),
        ListField::new("to_email", Kind::Email),
        ListField::new("subject", Kind::Line),
        ListField::new("failures", Kind::Number),
        ListField::computed("next_try_at", Kind::Time, NEXT_TRY_AT),
        ListField::new("answer", Kind::Text),
        ListField::new("created_at", Kind::Time),
        ListField::new("updated_at", Kind::Time),
        ListField::new("sent_at", Kind::Time),
    ],
    filters: &[ListField::new("subject_type", Kind::Word(RecordType::WORDS)), ListField::new("subject_id", Kind::Id)],
    orders: &[Order { name: "created_at", expression: "id", kind: OrderKind::Id }],
    indexed: &["to_email"],
    searchable: false,
    branches: Some(("state", EmailState::WORDS)),
    only: None,
};

macro_rules! columns {
    () => {
        "id, event, event_key, subject_type, subject_id, from_name, from_email, reply_to, to_name, \
            to_email, subject, state, failures, run_at, answer, created_at, updated_at, sent_at"
    };
}

pub(super) use columns;

/// The columns of [`Email`], for the statement of a list.
pub const COLUMNS: &str = columns!();

macro_rules! all_columns {
    () => {
        concat!(columns!(), ", workspace_id, text_body, html_body, unsubscribe, to_time_zone, opens_at")
    };
}

/// An email in the outbox.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Email {
    /// Assigned by the server. Ids are ordered by time.
    pub id: Uuid,
    /// The email's state.
    pub state: EmailState,
    /// The event that caused the email.
    pub event: Event,
    /// Identifies the occurrence of the event, which causes one email only.
    pub event_key: String,
    /// The recipient's record.
    pub record: Option<Subject>,
    /// The sender's name.
    pub from_name: Option<String>,
    /// The sender's address.
    pub from_email: String,
    /// The address for replies, if it differs.
    pub reply_to: Option<String>,
    /// The recipient's name.
    pub to_name: Option<String>,
    /// The recipient's address.
    pub to_email: String,
    /// The subject.
    pub subject: String,
    /// The number of attempts in a row that failed temporarily.
    pub failures: i16,
    /// When delivery is next attempted, while the email is waiting: for its turn, for a retry, or for
    /// its sending window to open.
    pub next_try_at: Option<DateTime<Utc>>,
    /// The server's last answer, or the reason why the server did not answer.
    pub answer: Option<String>,
    /// When the email was added to the outbox.
    pub created_at: DateTime<Utc>,
    /// When the state last changed.
    pub updated_at: DateTime<Utc>,
    /// When the server accepted the email.
    pub sent_at: Option<DateTime<Utc>>,
}

impl Item for Email {}

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

/// An email with its headers and body.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct WholeEmail {
    /// The email.
    #[serde(flatten)]
    pub email: Email,
    /// The headers of the message, before they are encoded for transport.
    pub headers: Vec<Header>,
    /// The body as plain text.
    pub text_body: String,
    /// The body as HTML.
    pub html_body: Option<String>,
}

impl Tagged for WholeEmail {}

impl<'r> FromRow<'r, sqlx::postgres::PgRow> for WholeEmail {
    fn from_row(row: &'r sqlx::postgres::PgRow) -> sqlx::Result<Self> {
        let (email, content) = (Email::from_row(row)?, Content::from_row(row)?);
        let headers = content.headers(email.id);
        Ok(Self { email, headers, text_body: content.text_body, html_body: content.html_body })
    }
}

/// Returns one email with its content.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn get(connection: &mut PgConnection, workspace_id: Uuid, id: Uuid) -> Result<WholeEmail> {
    Ok(sqlx::query_as(concat!("SELECT ", all_columns!(), " FROM emails WHERE id = $1 AND workspace_id = $2"))
        .bind(id)
        .bind(workspace_id)
        .fetch_one(connection)
        .await?)
}

/// Queues an email again that is `unknown` or `bounced`, on someone's decision. It leaves at once
/// or, if it is bulk email, when its sending window opens. After the commit the caller notifies
/// [`QUEUE`](super::QUEUE).
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Conflict`] for an email in any other state.
pub async fn resend(connection: &mut PgConnection, actor: &Actor, id: Uuid) -> Result<WholeEmail> {
    let workspace_id = actor.workspace_id;
    let opens_at = opening(connection, workspace_id, id).await?;
    let queued = sqlx::query_as(concat!(
        "UPDATE emails SET state = 'queued', attempt = attempt + 1, failures = 0, run_at = greatest($3, now()),
             opens_at = $3, answer = NULL, updated_at = now()
         WHERE id = $1 AND workspace_id = $2 AND state IN ('unknown', 'bounced')
         RETURNING ",
        all_columns!()
    ));
    let email = decide(connection, queued.bind(id).bind(workspace_id).bind(opens_at), workspace_id, id).await?;
    report(connection, actor, &email.email, &[EventType::EmailResent]).await?;
    Ok(email)
}

/// When the sending window of an email opens, if it is closed.
async fn opening(connection: &mut PgConnection, workspace_id: Uuid, id: Uuid) -> Result<Option<DateTime<Utc>>> {
    let (event, time_zone, now): (Event, Option<String>, DateTime<Utc>) =
        sqlx::query_as("SELECT event, to_time_zone, now() FROM emails WHERE workspace_id = $1 AND id = $2")
            .bind(workspace_id)
            .bind(id)
            .fetch_one(&mut *connection)
            .await?;
    if !event.is_bulk() {
        return Ok(None);
    }
    let windows = Windows::read(connection, &[workspace_id]).await?;
    let opening = windows.of(workspace_id, time_zone.as_deref()).map(|window| window.next_opening(now));
    Ok(opening.filter(|opening| *opening > now))
}

/// Marks an `unknown` email as sent, on someone's decision.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Conflict`] for an email in any other state.
pub async fn mark_sent(connection: &mut PgConnection, actor: &Actor, id: Uuid) -> Result<WholeEmail> {
    let workspace_id = actor.workspace_id;
    let sent = sqlx::query_as(concat!(
        "UPDATE emails SET state = 'sent', attempt = attempt + 1, sent_at = updated_at, updated_at = now()
         WHERE id = $1 AND workspace_id = $2 AND state = 'unknown'
         RETURNING ",
        all_columns!()
    ));
    let email = decide(connection, sent.bind(id).bind(workspace_id), workspace_id, id).await?;
    report(connection, actor, &email.email, &[EventType::EmailMarkedSent, EventType::EmailSent]).await?;
    Ok(email)
}

/// Cancels an email that waits to be sent, on someone's decision.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Conflict`] for an email in any other state.
pub async fn cancel(connection: &mut PgConnection, actor: &Actor, id: Uuid) -> Result<WholeEmail> {
    let workspace_id = actor.workspace_id;
    // A higher attempt revokes the lease of a worker that holds the email.
    let cancelled = sqlx::query_as(concat!(
        "UPDATE emails SET state = 'cancelled', attempt = attempt + 1, lease_until = NULL, updated_at = now()
         WHERE id = $1 AND workspace_id = $2 AND state IN ('queued', 'deferred')
         RETURNING ",
        all_columns!()
    ));
    let email = decide(connection, cancelled.bind(id).bind(workspace_id), workspace_id, id).await?;
    report(connection, actor, &email.email, &[EventType::EmailCancelled]).await?;
    Ok(email)
}

async fn report(connection: &mut PgConnection, actor: &Actor, email: &Email, types: &[EventType]) -> Result<()> {
    let subject = events::Subject { kind: SubjectType::Email, id: email.id };
    let new = types.iter().map(|event_type| NewEvent::new(*event_type, subject, email)).collect::<Result<_>>()?;
    events::record(connection, actor, new).await
}

async fn decide(
    connection: &mut PgConnection,
    statement: sqlx::query::QueryAs<'_, sqlx::Postgres, WholeEmail, sqlx::postgres::PgArguments>,
    workspace_id: Uuid,
    id: Uuid,
) -> Result<WholeEmail> {
    if let Some(email) = statement.fetch_optional(&mut *connection).await? {
        return Ok(email);
    }
    let state = get(connection, workspace_id, id).await?.email.state;
    Err(Error::conflict_with(id, Reason::WrongState, "state", format!("the email is {}", state.as_str())))
}
