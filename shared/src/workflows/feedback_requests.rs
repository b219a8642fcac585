//! Requests for feedback: who is asked, and what their emails say.

mod set_aside;

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};
use sqlx::{FromRow, PgConnection};
use utoipa::ToSchema;
use uuid::Uuid;

use super::composer::{Composer, Draft};
use crate::accounts::settings;
use crate::crm::feedback::{Feedback, FeedbackChanges, FeedbackStatus, OPEN_REQUEST, event_key};
use crate::error::{Error, Reason, Result};
use crate::mail::action_urls::ActionUrls;
use crate::mail::suppressions::{self, is_suppressed};
use crate::mail::{self, Event, Queued};
use crate::platform::db;
use crate::queue::{self, Job, NewJob, Page, Pages, Payload};
use crate::records::history::Actor;
use crate::records::{self, Fields, Record, RecordType};
use crate::string_enum;
use crate::values::dates::zone;
use crate::values::json_schema::Shape;
use crate::values::{Company, Email, Name};

pub use set_aside::set_aside;

/// The job that emails a request.
#[derive(Debug, Serialize, Deserialize)]
pub struct RequestFeedback {
    /// The [`Feedback`].
    pub feedback_id: Uuid,
}

impl Payload for RequestFeedback {
    const KIND: &'static str = "request_feedback";
    const QUEUE: &'static str = "workflows";
    const WRITES_RECORDS: bool = true;
    const WRITES_EMAIL: bool = true;

    type Result = Sent;
}

/// Creates a feedback request for a customer, and the job that emails it. If the customer has an
/// open request whose email was never sent, that request is resumed. Needs a transaction.
pub async fn request(connection: &mut PgConnection, actor: &Actor, customer_id: Uuid) -> Result<Job> {
    let workspace_id = actor.workspace_id;
    // Locked, so that a concurrent block of the customer commits before or after this transaction.
    let (is_blocked, email_key): (bool, String) = sqlx::query_as(
        "SELECT status = 'blocked', email_key FROM customers WHERE workspace_id = $1 AND id = $2 FOR SHARE",
    )
    .bind(workspace_id)
    .bind(customer_id)
    .fetch_one(&mut *connection)
    .await?;
    if is_blocked {
        return Err(Error::conflict_with(customer_id, Reason::Blocked, "status", "the customer is blocked"));
    }
    if let Some(id) = suppressions::owner(connection, workspace_id, &email_key).await? {
        return Err(Error::conflict_with(id, Reason::Suppressed, "email", "the customer's address is suppressed"));
    }
    let id = match open_request(connection, workspace_id, customer_id).await? {
        Some(id) => {
            give_up_unsent(connection, workspace_id, id).await?;
            id
        }
        None => make(connection, actor, customer_id).await?,
    };
    let job_id = Uuid::now_v7();
    // A request has at most one active job, so that of two concurrent resumes one succeeds.
    let job = NewJob::new(workspace_id, &RequestFeedback { feedback_id: id })?.id(job_id);
    let job = job.subject(Feedback::TYPE.as_str(), id).dedupe_key(format!("{}:{id}", RequestFeedback::KIND));
    let job = queue::enqueue(connection, job.request_id(actor.request_id.as_deref())).await?;
    if job.id != job_id {
        return Err(OPEN_REQUEST.conflict(id));
    }
    Ok(job)
}

/// Checks that a customer exists, who is to be asked later.
///
/// # Errors
/// [`Error::Missing`].
pub async fn check_customer(connection: &mut PgConnection, workspace_id: Uuid, customer_id: Uuid) -> Result<()> {
    let exists: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM customers WHERE workspace_id = $1 AND id = $2)")
        .bind(workspace_id)
        .bind(customer_id)
        .fetch_one(connection)
        .await?;
    if exists { Ok(()) } else { Err(Error::missing("customer_id")) }
}

/// Returns the customer's open request, locked.
async fn open_request(connection: &mut PgConnection, workspace_id: Uuid, customer_id: Uuid) -> Result<Option<Uuid>> {
    Ok(sqlx::query_scalar(
        "SELECT id FROM feedback WHERE workspace_id = $1 AND customer_id = $2 AND status = 'requested' FOR UPDATE",
    )
    .bind(workspace_id)
    .bind(customer_id)
    .fetch_optional(connection)
    .await?)
}

/// Creates a request whose email is not written yet.
async fn make(connection: &mut PgConnection, actor: &Actor, customer_id: Uuid) -> Result<Uuid> {
    let changes = FeedbackChanges { customer_id: Some(customer_id), ..FeedbackChanges::default() };
    let feedback = Feedback::new(Uuid::now_v7(), db::now(), changes);
    let mut feedback = feedback.ok_or_else(|| Error::internal("feedback has no customer"))?;
    feedback.derive_fields(None);
    records::insert_all(connection, actor.workspace_id, actor.into(), std::slice::from_ref(&feedback)).await?;
    records::report_created(connection, actor, std::slice::from_ref(&feedback)).await?;
    Ok(feedback.id)
}

/// Frees the event key of a request's email if the email was cancelled or suppressed before it was
/// sent, so that the next attempt can use it. At most one email of a request is ever sent.
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
    if stands.is_some() { Err(OPEN_REQUEST.conflict(id)) } else { Ok(()) }
}

/// Returns the requests whose own email was sent or is queued.
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

/// A customer who gets an email.
#[derive(Debug, Clone, FromRow)]
pub(super) struct Recipient {
    pub id: Uuid,
    name: Name,
    first_name: Option<Name>,
    pub email: Email,
    company: Option<Company>,
    time_zone: Option<String>,
    pub blocked: bool,
    pub suppressed: bool,
}

/// Returns the customers with these ids, locked until the transaction ends, so that a concurrent
/// block or change of address sees the emails written here.
pub(super) async fn recipients(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    customers: &[Uuid],
) -> Result<Vec<Recipient>> {
    Ok(sqlx::query_as(concat!(
        "SELECT id, name, first_name, email, company, custom_fields->>'time_zone' AS time_zone, status = 'blocked' AS blocked, ",
        is_suppressed!("customers.email_key"),
        " AS suppressed
         FROM customers WHERE workspace_id = $1 AND id = ANY ($2) ORDER BY id FOR SHARE OF customers"
    ))
    .bind(workspace_id)
    .bind(customers)
    .fetch_all(connection)
    .await?)
}

impl Recipient {
    /// The customer's feedback request, or its reminder with this number.
    pub fn draft(&self, feedback_id: Uuid, reminder: Option<i16>) -> Draft<'_> {
        let event = if reminder.is_none() { Event::FeedbackRequest } else { Event::FeedbackReminder };
        Draft {
            event,
            event_key: event_key(feedback_id, reminder),
            template: event.as_str().to_owned(),
            recipient: (RecordType::Customer, self.id),
            name: &self.name,
            first_name: self.first_name.as_ref(),
            email: &self.email,
            company: self.company.as_ref(),
            time_zone: self.time_zone.as_deref().and_then(|name| zone(name.trim()).ok()),
            feedback_id: Some(feedback_id),
        }
    }
}

string_enum! {
    /// Why a request was not emailed.
    Unsent {
        /// The customer has been blocked.
        Blocked = "blocked",
        /// The customer's address is suppressed in this workspace.
        Suppressed = "suppressed",
        /// The request was answered or has expired.
        Closed = "closed",
        /// The customer has been deleted.
        Deleted = "deleted",
        /// The template cannot be rendered for the customer.
        Template = "template",
    }
}

/// The result of a request's job.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = FeedbackRequestResult)]
pub struct Sent {
    /// How many emails the job wrote to the outbox: one or none.
    sent: u8,
    /// Why no email was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = Unsent::shape)]
    skipped: Option<Unsent>,
}

impl Pages for RequestFeedback {
    type Cursor = ();
    type Tally = Sent;

    fn begin(&self) -> Sent {
        Sent::default()
    }

    fn done(&self, _: &Sent) -> i64 {
        1
    }

    /// Writes the request's email to the outbox. There is only one page.
    async fn page(&self, page: &mut Page<'_>, _: Option<()>, sent: &mut Sent) -> Result<Option<()>> {
        let skipped = send(page, self.feedback_id).await?;
        *sent = Sent { sent: u8::from(skipped.is_none()), skipped };
        page.total = Some(1);
        page.notify = skipped.is_none().then_some(mail::QUEUE);
        Ok(None)
    }
}

async fn send(page: &mut Page<'_>, id: Uuid) -> Result<Option<Unsent>> {
    let (workspace_id, connection) = (page.job.workspace_id, &mut *page.connection);
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
    let urls = ActionUrls::new(page.settings, page.signer);
    let composer = Composer::new(connection, workspace_id, urls, &settings).await?;
    let Some(email) = composer.compose(vec![recipient.draft(id, None)]).await?.pop().flatten() else {
        return Ok(Some(Unsent::Template));
    };
    match mail::queue(connection, &page.job.actor(), &composer.sender, &[email]).await?[..] {
        [Queued::Suppressed] => return Ok(Some(Unsent::Suppressed)),
        [Queued::New] => {}
        _ => return Ok(None),
    }
    let now = db::now();
    let mut after = Feedback { requested_at: now, ..before.clone() };
    records::mark_changed(&before, &mut after, now);
    records::update_all(connection, &page.job.actor(), &[(before, after)]).await?;
    Ok(None)
}
