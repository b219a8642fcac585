//! Feedback: what customers were asked, and what they answered.
//!
//! A request is mailed by a job, and unanswered ones are walked by the run of reminders. Whoever locks
//! rows of both locks customers before feedback.

mod remind;
mod send;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::{Error, FieldError, Reason, Result};
use crate::insight::themes;
use crate::platform::db;
use crate::query::{Filter, FilterKind, Order, OrderKind, Spec};
use crate::queue::{self, Job, NewJob, Payload};
use crate::records::history::Actor;
use crate::records::{self, Fields, Record, RecordType};
use crate::values::json_body::Object;
use crate::values::{Category, Field, Notes, Rating, Time};
use crate::{mail, record, string_enum};

pub use remind::{RemindFeedback, Reminded, open, start_reminders, step};
pub use send::{LINK, MAX_REMINDERS, Sent, send_request, url};

string_enum! {
    /// How far feedback is.
    FeedbackStatus {
        /// The customer was asked.
        Requested = "requested",
        /// They answered.
        Answered = "answered",
        /// They did not, and are not reminded any more; an answer is still taken.
        Expired = "expired",
    }
}

record! {
    /// Feedback as callers see it.
    Feedback, FeedbackChanges in "feedback" {
        /// Who was asked.
        required customer_id: Uuid,
        /// How far it is.
        kept status: FeedbackStatus = FeedbackStatus::Requested,
        /// How satisfied they are, from 1 to 5.
        optional rating: Option<Rating>,
        /// What they say.
        optional comment: Option<Notes>,
        /// What it is about, in their words.
        optional category: Option<Category>,
        /// When the request was mailed; until then, when it was made.
        kept requested_at: Time = Time::UNIX_EPOCH,
        /// How often they were reminded.
        kept reminders: i16 = 0,
        /// When they last were.
        fixed last_reminder_at: Option<Time>,
        /// When they answered.
        fixed answered_at: Option<Time>,
        /// When waiting for an answer ended.
        fixed expired_at: Option<Time>,
    }
}

impl Record for Feedback {
    const TYPE: RecordType = RecordType::Feedback;
    const REFERENCES: &'static [(&'static str, &'static str)] = &[("customer_id", "customers")];
    const LIST: Spec = Spec {
        table: "feedback",
        filters: &[
            Filter { name: "status", kind: FilterKind::Word(FeedbackStatus::WORDS) },
            Filter { name: "rating", kind: FilterKind::Number },
            Filter { name: "category", kind: FilterKind::Text },
            Filter { name: "customer_id", kind: FilterKind::Id },
            Filter { name: "answered_at", kind: FilterKind::Time },
            Filter { name: "created_at", kind: FilterKind::Time },
            Filter { name: "updated_at", kind: FilterKind::Time },
        ],
        orders: &[Order { name: "created_at", expression: "created_at", kind: OrderKind::Time }],
        indexed: &["customer_id"],
        searchable: false,
        branches: Some(("status", FeedbackStatus::WORDS)),
    };

    fn settle(&mut self, before: Option<&Self>) {
        if before.is_none() {
            self.requested_at = self.created_at;
        }
    }

    fn example() -> Value {
        json!({
            "customer_id": "019ab3f2-5c11-7d02-8e6b-0f4c2d9b1a37",
            "rating": 5,
            "comment": "Great service!",
            "category": "support"
        })
    }
}

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
    let (is_blocked, is_suppressed): (bool, bool) = sqlx::query_as(
        "SELECT status = 'blocked', EXISTS (
             SELECT FROM suppressions
             WHERE workspace_id = $1 AND lower(email COLLATE \"C\") = lower(customers.email COLLATE \"C\")
         )
         FROM customers WHERE workspace_id = $1 AND id = $2 FOR SHARE OF customers",
    )
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
            send::give_up_unsent(connection, workspace_id, id).await?;
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
        return Err(Error::open_request(Some(id)));
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
    feedback.settle(None);
    // An open request has the customer's place in feedback_open_key.
    records::insert_all(connection, workspace_id, None, std::slice::from_ref(&feedback)).await?;
    Ok(feedback.id)
}

/// What a customer answers.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    rating: Rating,
    comment: Option<Notes>,
    category: Option<Category>,
}

impl Answer {
    /// Reads the body of a request.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every fault of the body.
    pub fn read(mut body: Object) -> Result<Self> {
        let rating = body.required("rating");
        let (mut comment, mut category) = (None, None);
        body.take("comment").apply(&mut comment);
        body.take("category").apply(&mut category);
        body.finish()?;
        let rating = rating.ok_or_else(|| Error::internal("an answer was taken without a rating"))?;
        Ok(Self { rating, comment, category })
    }

    /// Reads the fields of a form, where an empty one says nothing.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every fault of the form.
    pub fn from_form(rating: &str, comment: &str, category: &str) -> Result<Self> {
        let mut faults = Vec::new();
        // Browsers end lines as mails do.
        let comment = comment.replace("\r\n", "\n");
        let rating = read_field::<Rating>("rating", rating, &mut faults);
        let comment = read_field("comment", &comment, &mut faults);
        let category = read_field("category", category, &mut faults);
        match rating {
            Some(rating) if faults.is_empty() => Ok(Self { rating, comment, category }),
            None if !faults.iter().any(|fault| fault.field == "rating") => {
                faults.insert(0, FieldError::new("rating", "required", "is required"));
                Err(Error::Invalid(faults))
            }
            _ => Err(Error::Invalid(faults)),
        }
    }
}

fn read_field<T: Field>(name: &str, text: &str, faults: &mut Vec<FieldError>) -> Option<T> {
    let text = Some(text.trim()).filter(|text| !text.is_empty())?;
    T::from_text(text).map_err(|fault| faults.push(fault.of(name))).ok()
}

/// Takes an answer, also to a request that has expired. Needs a transaction, in which the feedback is
/// locked: of two answers at the same moment, one finds the other.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Conflict`] if it was answered already.
pub async fn answer(connection: &mut PgConnection, actor: &Actor, id: Uuid, answer: Answer) -> Result<Feedback> {
    let workspace_id = actor.workspace_id;
    let before = records::lock::<Feedback>(connection, workspace_id, &[id]).await?.pop().ok_or(Error::NotFound)?;
    if before.status == FeedbackStatus::Answered {
        return Err(Error::conflict(Reason::AlreadyAnswered, "status", "the feedback is answered already"));
    }
    let now = db::now();
    let Answer { rating, comment, category } = answer;
    let mut after = Feedback {
        status: FeedbackStatus::Answered,
        rating: Some(rating),
        comment,
        category,
        answered_at: Some(now),
        ..before.clone()
    };
    records::mark_changed(&before, &mut after, now);
    records::update_all(connection, actor, &[(before, after.clone())]).await?;
    // Nobody is reminded of what they have done.
    mail::cancel_events(connection, workspace_id, &send::event_keys(id)).await?;
    if after.comment.is_some() {
        themes::answered(connection, workspace_id, actor.request_id.as_deref()).await?;
    }
    Ok(after)
}
