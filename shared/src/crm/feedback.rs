//! Feedback: what customers were asked, and what they answered.
//!
//! A request is mailed by a job, and unanswered ones are walked by the run of reminders. Whoever locks
//! rows of both locks customers before feedback.

use serde_json::{Value, json};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::{Error, FieldError, Reason, Result};
use crate::platform::db;
use crate::query::{Filter, FilterKind, Order, OrderKind, Spec};
use crate::records::history::Actor;
use crate::records::{self, KeyForm, Record, RecordType, Reference, UniqueKey};
use crate::values::json_body::Object;
use crate::values::{Category, Field, Notes, Rating, Time};
use crate::{mail, record, string_enum};

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

/// A customer is asked once, and again only after an answer, or after waiting for one has ended.
pub(crate) const OPEN_REQUEST: UniqueKey<Feedback> = UniqueKey {
    field: "customer_id",
    form: KeyForm::Id,
    expression: "customer_id",
    condition: Some("status = 'requested'"),
    constraint: "feedback_open_key",
    reason: Reason::OpenRequest,
    message: "the customer has a request that is not answered yet",
    of: |feedback| (feedback.status == FeedbackStatus::Requested).then(|| feedback.customer_id.to_string()),
};

impl Record for Feedback {
    const TYPE: RecordType = RecordType::Feedback;
    const UNIQUE: &'static [UniqueKey<Self>] = &[OPEN_REQUEST];
    const REFERENCES: &'static [Reference<Self>] = &[Reference {
        column: "customer_id",
        table: "customers",
        constraint: "feedback_customer_id_fkey",
        of: |feedback| Some(feedback.customer_id),
    }];
    const OWNER: Option<&'static str> = Some("customer_id");
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

    fn derive_fields(&mut self, before: Option<&Self>) {
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

/// How often a customer is reminded.
pub const MAX_REMINDERS: i16 = 2;

/// The key of the request's event, or of the reminder of that number.
pub(crate) fn event_key(id: Uuid, reminder: Option<i16>) -> String {
    match reminder {
        None => format!("feedback:{id}:request"),
        Some(number) => format!("feedback:{id}:reminder:{number}"),
    }
}

/// The keys of all that is mailed for feedback.
fn event_keys(id: Uuid) -> Vec<String> {
    std::iter::once(None).chain((1..=MAX_REMINDERS).map(Some)).map(|reminder| event_key(id, reminder)).collect()
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
    mail::cancel_events(connection, workspace_id, &event_keys(id)).await?;
    Ok(after)
}
