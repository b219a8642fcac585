//! Emails of all workspaces: found by filter, shown, resent, marked as sent and cancelled.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::postgres::PgRow;
use sqlx::{Connection, FromRow, PgConnection};
use uuid::Uuid;

use super::actions::actor;
use super::batches::Changed;
use super::filter::{Common, id_bounds, text};
use super::found::{self, Found, Query, Summary, names};
use crate::error::{Error, Result};
use crate::mail::{self, EmailState, Event};
use crate::query::parameters::Parameters;

/// Which emails.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct EmailFilter {
    #[serde(flatten)]
    common: Common,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<EmailState>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<Event>,
    #[serde(skip_serializing_if = "Option::is_none")]
    domain: Option<String>,
}

impl EmailFilter {
    /// Takes the filter from parameters: `workspace`, `state`, `event`, `domain` (of the recipients), `created_after`,
    /// `created_before` and `older_than`.
    pub fn take(given: &mut Parameters<'_>) -> Self {
        Self {
            common: Common::take(given),
            state: given.take("state"),
            event: given.take("event"),
            domain: given.take_as("domain", text).map(|domain| domain.to_lowercase()),
        }
    }

    /// Whether all emails match.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Those of the states that match.
    fn states(&self, allowed: &[EmailState]) -> Vec<&'static str> {
        allowed
            .iter()
            .filter(|state| self.state.is_none_or(|wanted| wanted == **state))
            .map(|state| state.as_str())
            .collect()
    }

    /// A query by a statement of this file, for the emails of a workspace in the allowed states that match.
    fn query<O: for<'r> FromRow<'r, PgRow>>(
        &self,
        statement: &'static str,
        workspace_id: Uuid,
        allowed: &[EmailState],
    ) -> Query<'_, O> {
        let (first, last) = id_bounds(self.common.created_after, self.common.created_before);
        found::query(statement)
            .bind(workspace_id)
            .bind(self.states(allowed))
            .bind(self.event)
            .bind(&self.domain)
            .bind(self.common.created_after)
            .bind(self.common.created_before)
            .bind(first)
            .bind(last)
    }

    /// As [`Self::query`], one for each workspace that matches.
    async fn queries<O: for<'r> FromRow<'r, PgRow>>(
        &self,
        connection: &mut PgConnection,
        statement: &'static str,
        allowed: &[EmailState],
    ) -> Result<Vec<Query<'_, O>>> {
        let workspaces = self.common.workspaces(connection).await?;
        Ok(workspaces.into_iter().map(|workspace_id| self.query(statement, workspace_id, allowed)).collect())
    }
}

/// What emails must meet besides their workspace and state, for the arguments of [`EmailFilter::query`].
macro_rules! matching {
    () => {
        "($3::text IS NULL OR event = $3) AND ($4::text IS NULL OR to_domain = $4)
            AND ($5::timestamptz IS NULL OR created_at >= $5) AND ($6::timestamptz IS NULL OR created_at < $6)
            AND id >= $7 AND id <= $8"
    };
}

/// An email, as operators see it: without its body, which may have links that authorize its recipient.
#[derive(Debug, Clone, FromRow, Serialize)]
pub struct EmailSummary {
    /// The email's id.
    pub id: Uuid,
    /// Its workspace.
    pub workspace_id: Uuid,
    /// The name of its workspace.
    #[sqlx(default)]
    pub workspace: String,
    /// Its state.
    pub state: EmailState,
    /// The event that caused it.
    pub event: Event,
    /// The recipient's address.
    pub to_email: String,
    /// The subject.
    pub subject: String,
    /// The number of attempts in a row that failed temporarily.
    pub failures: i16,
    /// When delivery is next attempted, while it waits.
    pub next_try_at: Option<DateTime<Utc>>,
    /// The server's last answer, or the reason why the server did not answer.
    pub answer: Option<String>,
    /// The worker that holds it, or that held it last.
    pub worker_id: Option<Uuid>,
    /// When it was added to the outbox.
    pub created_at: DateTime<Utc>,
    /// When its state last changed.
    pub updated_at: DateTime<Utc>,
    /// When the server accepted it.
    pub sent_at: Option<DateTime<Utc>>,
}

/// The columns of [`EmailSummary`].
macro_rules! summary {
    () => {
        "id, workspace_id, state, event, to_email, subject, failures,
         CASE WHEN state IN ('queued', 'deferred') THEN run_at END AS next_try_at, answer, worker_id, created_at,
         updated_at, sent_at"
    };
}

impl Summary for EmailSummary {
    const SELECT: &'static str =
        concat!("SELECT ", summary!(), " FROM emails WHERE workspace_id = $1 AND id = ANY ($2)");

    fn id(&self) -> Uuid {
        self.id
    }

    fn of(self, workspace: String) -> Self {
        Self { workspace, ..self }
    }
}

/// An email with what its message is found by in the log of the mail server.
#[derive(Debug, Clone, Serialize)]
pub struct EmailDetails {
    /// What lists show.
    #[serde(flatten)]
    pub summary: EmailSummary,
    /// The Message-ID.
    pub message_id: Option<String>,
    /// The occurrence of the event.
    pub event_key: String,
}

/// The newest emails of a workspace, each state by its part of the index.
const NEWEST: &str = concat!(
    "SELECT $1::uuid AS workspace_id, newest.id FROM unnest($2::text[]) AS wanted (state)
     JOIN LATERAL (
         SELECT id FROM emails WHERE workspace_id = $1 AND emails.state = wanted.state AND ",
    matching!(),
    " ORDER BY id DESC LIMIT $9
     ) AS newest ON true
     ORDER BY newest.id DESC LIMIT $9"
);

const COUNT: &str =
    concat!("SELECT count(*) FROM emails WHERE workspace_id = $1 AND state = ANY ($2) AND ", matching!());

/// Those of some emails that match. They are locked until the transaction ends.
const STILL_MATCHING: &str = concat!(
    "SELECT id FROM emails WHERE workspace_id = $1 AND state = ANY ($2) AND ",
    matching!(),
    " AND id = ANY ($9) ORDER BY id FOR UPDATE"
);

/// Counts the emails that match.
pub async fn count(connection: &mut PgConnection, filter: &EmailFilter) -> Result<i64> {
    let counts = filter.queries(connection, COUNT, EmailState::ALL).await?;
    found::count(connection, counts).await
}

/// Lists emails of all workspaces, the newest first.
pub async fn list(connection: &mut PgConnection, filter: &EmailFilter, limit: i64) -> Result<Vec<EmailSummary>> {
    let lists = filter.queries(connection, NEWEST, EmailState::ALL).await?;
    found::list(connection, lists, limit).await
}

/// Returns an email of any workspace.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn show(connection: &mut PgConnection, id: Uuid) -> Result<EmailDetails> {
    let (workspace_id, _) = locate(connection, &[id]).await?.first().copied().ok_or(Error::NotFound)?;
    let select = concat!("SELECT ", summary!(), " FROM emails WHERE workspace_id = $1 AND id = $2");
    let mut summary: EmailSummary =
        sqlx::query_as(select).bind(workspace_id).bind(id).fetch_one(&mut *connection).await?;
    summary.workspace = names(connection).await?.remove(&workspace_id).unwrap_or_default();
    let whole = mail::get(connection, workspace_id, id).await?;
    let message_id = whole.headers.iter().find(|header| header.name.eq_ignore_ascii_case("message-id"));
    Ok(EmailDetails {
        summary,
        message_id: message_id.map(|header| header.value.clone()),
        event_key: whole.email.event_key,
    })
}

/// Finds the workspaces of emails. Unknown ids are left out.
pub(super) async fn locate(connection: &mut PgConnection, ids: &[Uuid]) -> Result<Vec<(Uuid, Uuid)>> {
    let located = "SELECT emails.workspace_id, emails.id FROM workspaces
         JOIN emails ON emails.workspace_id = workspaces.id AND emails.id = ANY ($1)";
    Ok(sqlx::query_as(located).bind(ids).fetch_all(connection).await?)
}

/// What an operator decides about emails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// They are sent again.
    Resend,
    /// They were sent.
    MarkSent,
    /// They are not sent.
    Cancel,
}

impl Decision {
    /// The states in which callers can decide so.
    fn allowed(self) -> &'static [EmailState] {
        match self {
            Self::Resend => &[EmailState::Unknown, EmailState::Bounced],
            Self::MarkSent => &[EmailState::Unknown],
            Self::Cancel => &[EmailState::Queued, EmailState::Deferred],
        }
    }

    /// Finds all emails that match, and about which this can be decided.
    pub(super) async fn find(self, connection: &mut PgConnection, filter: &EmailFilter) -> Result<Found> {
        let lists = filter.queries(connection, NEWEST, self.allowed()).await?;
        found::all(connection, lists).await
    }

    /// Decides about those of the emails that still match, in one transaction, as callers can. Nothing is sent to an
    /// address that has been suppressed since.
    pub(super) async fn apply(
        self,
        connection: &mut PgConnection,
        action_id: Uuid,
        workspace_id: Uuid,
        ids: &[Uuid],
        filter: &EmailFilter,
    ) -> Result<Changed> {
        let mut transaction = connection.begin().await?;
        let matching = filter.query(STILL_MATCHING, workspace_id, self.allowed());
        let done = found::still_matching(&mut transaction, matching, ids).await?;
        let actor = actor(workspace_id, action_id);
        for id in &done {
            match self {
                Self::Resend => mail::resend(&mut transaction, &actor, *id).await?,
                Self::MarkSent => mail::mark_sent(&mut transaction, &actor, *id).await?,
                Self::Cancel => mail::cancel(&mut transaction, &actor, *id).await?,
            };
        }
        transaction.commit().await?;
        let queues = if self == Self::Resend { vec![mail::QUEUE] } else { Vec::new() };
        Ok(Changed { done, queues, ..Changed::default() })
    }
}
