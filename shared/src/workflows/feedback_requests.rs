//! Requests for feedback: who is asked, and what their emails say.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use crate::accounts::settings::{self, Settings};
use crate::crm::feedback::{Feedback, FeedbackChanges, FeedbackStatus, OPEN_REQUEST, event_key};
use crate::error::{Error, Reason, Result};
use crate::mail::action_urls::{Action, ActionUrls};
use crate::mail::suppressions::is_suppressed;
use crate::mail::templates::Renderer;
use crate::mail::{self, Event, NewEmail, Queued, Sender};
use crate::platform::db;
use crate::queue::{self, Job, NewJob, Payload};
use crate::records::history::Actor;
use crate::records::{self, Fields, Record, RecordType};
use crate::string_enum;
use crate::values::{Company, Email, Name};

/// The job that mails a request.
#[derive(Debug, Serialize, Deserialize)]
pub struct RequestFeedback {
    /// The [`Feedback`].
    pub feedback_id: Uuid,
}

impl Payload for RequestFeedback {
    const KIND: &'static str = "request_feedback";
    const QUEUE: &'static str = "workflows";
}

/// Asks a customer for feedback: makes it, and the job that mails the request. A request that is open and
/// whose mail never left is taken up again. Needs a transaction.
///
/// # Errors
/// [`Error::NotFound`] without such a customer; [`Error::Conflict`] if the customer was asked and has not
/// answered yet, is blocked, or takes no mails.
pub async fn request(connection: &mut PgConnection, actor: &Actor, customer_id: Uuid) -> Result<Job> {
    let workspace_id = actor.workspace_id;
    // Locked, so that whoever blocks the customer comes before this or after it.
    let (is_blocked, is_suppressed): (bool, bool) = sqlx::query_as(concat!(
        "SELECT status = 'blocked', ",
        is_suppressed!("customers.email"),
        " FROM customers WHERE workspace_id = $1 AND id = $2 FOR SHARE OF customers"
    ))
    .bind(workspace_id)
    .bind(customer_id)
    .fetch_one(&mut *connection)
    .await?;
    if is_blocked {
        return Err(Error::conflict(Reason::Blocked, "status", "the customer is blocked"));
    }
    if is_suppressed {
        return Err(Error::conflict(Reason::Suppressed, "email", "the customer's address is suppressed"));
    }
    let id = match open_request(connection, workspace_id, customer_id).await? {
        Some(id) => {
            give_up_unsent(connection, workspace_id, id).await?;
            id
        }
        None => make(connection, workspace_id, customer_id).await?,
    };
    let job_id = Uuid::now_v7();
    // One job is under way for a request, so that of two who take it up again one does.
    let job = NewJob::new(workspace_id, &RequestFeedback { feedback_id: id })?.id(job_id);
    let mut job = job.subject(Feedback::TYPE.as_str(), id).dedupe_key(format!("{}:{id}", RequestFeedback::KIND));
    if let Some(request_id) = &actor.request_id {
        job = job.request_id(request_id);
    }
    let job = queue::enqueue(connection, job).await?;
    if job.id != job_id {
        return Err(OPEN_REQUEST.conflict(Some(id)));
    }
    Ok(job)
}

/// The customer's open request, locked.
async fn open_request(connection: &mut PgConnection, workspace_id: Uuid, customer_id: Uuid) -> Result<Option<Uuid>> {
    Ok(sqlx::query_scalar(
        "SELECT id FROM feedback WHERE workspace_id = $1 AND customer_id = $2 AND status = 'requested' FOR UPDATE",
    )
    .bind(workspace_id)
    .bind(customer_id)
    .fetch_optional(connection)
    .await?)
}

/// A new request, whose mail is not written yet.
async fn make(connection: &mut PgConnection, workspace_id: Uuid, customer_id: Uuid) -> Result<Uuid> {
    let changes = FeedbackChanges { customer_id: Some(customer_id), ..FeedbackChanges::default() };
    let feedback = Feedback::new(Uuid::now_v7(), db::now(), changes);
    let mut feedback = feedback.ok_or_else(|| Error::internal("feedback has no customer"))?;
    feedback.derive_fields(None);
    records::insert_all(connection, workspace_id, None, std::slice::from_ref(&feedback)).await?;
    Ok(feedback.id)
}

/// Gives up the mail of a request that was cancelled or suppressed before it left: its key is free for the
/// mail of the next asking. So at most one mail of a request ever leaves.
///
/// # Errors
/// [`Error::Conflict`] if its mail has left, or will.
async fn give_up_unsent(connection: &mut PgConnection, workspace_id: Uuid, id: Uuid) -> Result<()> {
    let key = event_key(id, None);
    sqlx::query(
        "UPDATE emails SET event_key = event_key || ':' || id
         WHERE workspace_id = $1 AND event_key = $2 AND state IN ('cancelled', 'suppressed')",
    )
    .bind(workspace_id)
    .bind(&key)
    .execute(&mut *connection)
    .await?;
    let stands: Option<i32> = sqlx::query_scalar("SELECT 1 FROM emails WHERE workspace_id = $1 AND event_key = $2")
        .bind(workspace_id)
        .bind(&key)
        .fetch_optional(connection)
        .await?;
    if stands.is_some() { Err(OPEN_REQUEST.conflict(Some(id))) } else { Ok(()) }
}

/// Those of the requests whose own mail has left, or will.
pub(super) async fn mailed(connection: &mut PgConnection, workspace_id: Uuid, ids: &[Uuid]) -> Result<HashSet<Uuid>> {
    let keys: HashMap<String, Uuid> = ids.iter().map(|id| (event_key(*id, None), *id)).collect();
    let found: Vec<String> = sqlx::query_scalar(
        "SELECT event_key FROM emails
         WHERE workspace_id = $1 AND event_key = ANY ($2) AND state NOT IN ('cancelled', 'suppressed')",
    )
    .bind(workspace_id)
    .bind(keys.keys().collect::<Vec<_>>())
    .fetch_all(connection)
    .await?;
    Ok(found.iter().filter_map(|key| keys.get(key).copied()).collect())
}

/// A customer who is written to.
#[derive(Debug, Clone, FromRow)]
pub(super) struct Recipient {
    pub id: Uuid,
    name: Name,
    pub email: Email,
    company: Option<Company>,
    pub blocked: bool,
    pub suppressed: bool,
}

/// The customers with these ids. They stay as they are until the transaction ends, so that whoever
/// blocks one, or changes an address, finds the mails to it.
pub(super) async fn recipients(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    customers: &[Uuid],
) -> Result<Vec<Recipient>> {
    Ok(sqlx::query_as(concat!(
        "SELECT id, name, email, company, status = 'blocked' AS blocked, ",
        is_suppressed!("customers.email"),
        " AS suppressed
         FROM customers WHERE workspace_id = $1 AND id = ANY ($2) ORDER BY id FOR SHARE OF customers"
    ))
    .bind(workspace_id)
    .bind(customers)
    .fetch_all(connection)
    .await?)
}

/// Fills in the templates of one workspace.
pub(super) struct Composer<'a> {
    workspace_id: Uuid,
    urls: &'a ActionUrls<'a>,
    renderer: Arc<Renderer>,
    pub sender: Sender,
}

impl<'a> Composer<'a> {
    pub async fn new(
        connection: &mut PgConnection,
        workspace_id: Uuid,
        urls: &'a ActionUrls<'a>,
        settings: &Settings,
    ) -> Result<Self> {
        let sender = settings::sender(connection, workspace_id, settings, urls.mail).await?;
        Ok(Self { workspace_id, urls, renderer: Renderer::read(settings.all_templates()).await?, sender })
    }

    /// For each feedback its request, or the reminder of that number; `None` if its template cannot be
    /// filled in.
    pub async fn write(&self, feedback: &[(Uuid, &Recipient, Option<i16>)]) -> Result<Vec<Option<NewEmail>>> {
        let drafts: Vec<Draft> = feedback.iter().map(|(id, recipient, _)| self.draft(*id, recipient)).collect();
        let contexts = feedback.iter().zip(&drafts);
        let contexts =
            contexts.map(|((.., reminder), draft)| (event(*reminder).as_str().to_owned(), draft.context.clone()));
        let contents = self.renderer.render_all(contexts.collect()).await?;
        let emails = feedback.iter().zip(drafts).zip(contents);
        Ok(emails
            .map(|(((feedback_id, recipient, reminder), draft), content)| {
                let event = event(*reminder);
                let content = content.inspect_err(|error| {
                    tracing::warn!(%error, %feedback_id, template = event.as_str(), "a template cannot be filled in");
                });
                Some(NewEmail {
                    id: draft.id,
                    event,
                    event_key: event_key(*feedback_id, *reminder),
                    subject: Some((RecordType::Customer, recipient.id)),
                    to_name: Some(recipient.name.as_ref().to_owned()),
                    to_email: recipient.email.clone(),
                    content: content.ok()?,
                    unsubscribe: Some(draft.unsubscribe),
                })
            })
            .collect())
    }

    fn draft(&self, feedback_id: Uuid, recipient: &Recipient) -> Draft {
        let id = Uuid::now_v7();
        let unsubscribe = self.urls.url(Action::Unsubscribe, self.workspace_id, id);
        let context = json!({
            "customer": {
                "name": recipient.name,
                "first_name": recipient.name.first(),
                "email": recipient.email,
                "company": recipient.company,
            },
            "sender": { "name": self.sender.name },
            "url": self.urls.url(Action::Feedback, self.workspace_id, feedback_id),
            "unsubscribe_url": unsubscribe,
        });
        Draft { id, unsubscribe, context }
    }
}

/// An email whose template is still to be filled in.
struct Draft {
    id: Uuid,
    unsubscribe: String,
    context: Value,
}

fn event(reminder: Option<i16>) -> Event {
    if reminder.is_none() { Event::FeedbackRequest } else { Event::FeedbackReminder }
}

string_enum! {
    /// Why a request was not mailed.
    Unsent {
        /// The customer was blocked since.
        Blocked = "blocked",
        /// The customer's address takes no mails of this workspace.
        Suppressed = "suppressed",
        /// It was answered, or has expired, since.
        Closed = "closed",
        /// The customer was deleted since.
        Deleted = "deleted",
        /// The template cannot be filled in for the customer.
        Template = "template",
    }
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Sent {
    /// How many mails were put into the outbox for it: one or none.
    sent: u8,
    /// Why there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    skipped: Option<Unsent>,
}

impl Sent {
    /// Whether there is a mail to be sent.
    pub fn is_sent(self) -> bool {
        self.sent > 0
    }
}

impl From<Option<Unsent>> for Sent {
    fn from(skipped: Option<Unsent>) -> Self {
        Self { sent: u8::from(skipped.is_none()), skipped }
    }
}

/// Puts the mail of a request into the outbox. Needs a transaction, which the caller fences.
///
/// # Errors
/// [`Error::Unavailable`](crate::Error::Unavailable) when the database is away.
pub async fn send_request(
    connection: &mut PgConnection,
    actor: &Actor,
    urls: &ActionUrls<'_>,
    id: Uuid,
) -> Result<Sent> {
    Ok(try_request(connection, actor, urls, id).await?.into())
}

async fn try_request(
    connection: &mut PgConnection,
    actor: &Actor,
    urls: &ActionUrls<'_>,
    id: Uuid,
) -> Result<Option<Unsent>> {
    let workspace_id = actor.workspace_id;
    let customer: Option<Uuid> =
        sqlx::query_scalar("SELECT customer_id FROM feedback WHERE workspace_id = $1 AND id = $2")
            .bind(workspace_id)
            .bind(id)
            .fetch_optional(&mut *connection)
            .await?;
    let recipient = match customer {
        Some(customer) => recipients(connection, workspace_id, &[customer]).await?.pop(),
        None => None,
    };
    let feedback = records::lock::<Feedback>(connection, workspace_id, &[id]).await?.pop();
    let (Some(recipient), Some(before)) = (recipient, feedback) else { return Ok(Some(Unsent::Deleted)) };
    let unsent = match () {
        () if before.status != FeedbackStatus::Requested => Some(Unsent::Closed),
        () if recipient.blocked => Some(Unsent::Blocked),
        () if recipient.suppressed => Some(Unsent::Suppressed),
        () => None,
    };
    if unsent.is_some() {
        return Ok(unsent);
    }
    let settings = settings::get(connection, workspace_id).await?;
    let composer = Composer::new(connection, workspace_id, urls, &settings).await?;
    let Some(email) = composer.write(&[(id, &recipient, None)]).await?.pop().flatten() else {
        return Ok(Some(Unsent::Template));
    };
    match mail::queue(connection, workspace_id, &composer.sender, &[email]).await?[..] {
        [Queued::Suppressed] => return Ok(Some(Unsent::Suppressed)),
        [Queued::Before] => return Ok(None),
        [Queued::New] => {}
        _ => return Err(Error::internal("the outbox did not answer for the mail")),
    }
    let now = db::now();
    let mut after = Feedback { requested_at: now, ..before.clone() };
    records::mark_changed(&before, &mut after, now);
    records::update_all(connection, actor, &[(before, after)]).await?;
    Ok(None)
}
