//! Feedback: requests to customers, and their answers.
//!
//! A job emails each request, and scheduled runs send reminders for unanswered ones. Transactions
//! that lock both customers and feedback lock customers first.

use serde_json::{Value, json};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::{Error, FieldError, Reason, Result};
use crate::events::EventType;
use crate::imports::dictionary::Headers;
use crate::imports::{Given, Importable};
use crate::platform::db;
use crate::query::{ListField, Listed, Order, OrderKind, Spec};
use crate::records::history::{Actor, Deletions};
use crate::records::link::Linked;
use crate::records::{self, FieldFault, Fields, KeyForm, Record, RecordType, Reference, UniqueKey};
use crate::values::json_body::Object;
use crate::values::kind::Kind;
use crate::values::patch::Patch;
use crate::values::{Category, CustomFields, ExternalId, Fault, Field, Notes, Rating, Time};
use crate::{deleted_list, mail, record, string_enum};

string_enum! {
    /// The status of a feedback request.
    FeedbackStatus {
        /// The customer was asked and has not answered.
        Requested = "requested",
        /// The customer answered.
        Answered = "answered",
        /// The customer did not answer and is no longer reminded; an answer is still accepted.
        Expired = "expired",
    }
}

record! {
    /// A feedback request and its answer.
    Feedback, FeedbackChanges in "feedback" {
        /// The customer who was asked.
        required customer_id: Uuid,
        /// The status of the request.
        kept status: FeedbackStatus = FeedbackStatus::Requested,
        /// The customer's satisfaction, from 1 to 5.
        optional rating: Option<Rating>,
        /// The customer's comment.
        optional comment: Option<Notes>,
        /// The topic of the answer.
        optional category: Option<Category>,
        /// The id of the feedback in another system of yours, unique among the workspace's feedback.
        optional external_id: Option<ExternalId>,
        /// Additional fields of your own.
        defaulted custom_fields: CustomFields = CustomFields::default(),
        /// When the request was emailed; before that, when it was created.
        kept requested_at: Time = Time::UNIX_EPOCH,
        /// The number of reminders sent.
        kept reminders: i16 = 0,
        /// When the last reminder was sent.
        fixed last_reminder_at: Option<Time>,
        /// When the customer answered.
        fixed answered_at: Option<Time>,
        /// When the request expired.
        fixed expired_at: Option<Time>,
    }
}

/// A customer is asked once, and again only after an answer, or after waiting for one has ended.
pub(crate) const OPEN_REQUEST: UniqueKey<Feedback> = UniqueKey {
    field: "customer_id",
    form: KeyForm::Id,
    column: "customer_id",
    condition: Some("status = 'requested'"),
    constraint: "feedback_open_key",
    reason: Reason::OpenRequest,
    message: "the customer has an unanswered request",
    of: |feedback| (feedback.status == FeedbackStatus::Requested).then(|| feedback.customer_id.to_string()),
};

/// The id by which another system knows feedback.
const EXTERNAL_ID: UniqueKey<Feedback> =
    UniqueKey::external_id("feedback_external_id_key", "other feedback has this external_id", |feedback| {
        feedback.external_id.as_ref().map(|id| id.as_ref().to_owned())
    });

/// The themes of a comment, once a worker has read it.
const THEMES: Listed = Listed { table: "feedback_readings", key: "feedback_id", column: "themes" };

impl Linked for Feedback {
    type Other = Self;
}

impl Importable for Feedback {
    const EXTERNAL_ID: &'static UniqueKey<Self> = &EXTERNAL_ID;
    const EXCLUSIVE: Option<&'static UniqueKey<Self>> = Some(&OPEN_REQUEST);
    const HEADERS: Headers = Headers::Feedback;
    const RATINGS: &'static [&'static str] = &["rating"];
    const NAMED_BY: &'static [&'static str] = &["customer_id", "customer_email", "customer_external_id"];

    fn row_external_id(changes: &FeedbackChanges) -> Option<&str> {
        changes.external_id.value().map(AsRef::as_ref)
    }

    fn exclusive(changes: &FeedbackChanges) -> Option<String> {
        let is_open = changes.status.value() == Some(&FeedbackStatus::Requested);
        changes.customer_id.filter(|_| is_open).map(|id| id.to_string())
    }

    /// A review was asked for when it was given, unless the file says otherwise.
    fn complete(changes: &mut FeedbackChanges, given: &mut Given) {
        if changes.status.value() == Some(&FeedbackStatus::Answered) {
            let answered_at = changes.answered_at.value().copied().or(given.created_at).unwrap_or_else(db::now);
            changes.answered_at = Patch::Set(answered_at);
            given.created_at.get_or_insert(answered_at);
        }
    }

    fn custom_fields_mut(changes: &mut FeedbackChanges) -> Option<&mut Patch<CustomFields>> {
        Some(&mut changes.custom_fields)
    }

    fn custom_fields(&self) -> Option<&CustomFields> {
        Some(&self.custom_fields)
    }
}

impl Record for Feedback {
    const TYPE: RecordType = RecordType::Feedback;
    const IMPORTED: bool = true;
    const HAS_CREATOR: bool = true;
    const UNIQUE: &'static [UniqueKey<Self>] = &[OPEN_REQUEST, EXTERNAL_ID];
    const REFERENCES: &'static [Reference<Self>] = &[Reference {
        column: "customer_id",
        table: "customers",
        constraint: "feedback_customer_id_fkey",
        of: |feedback| Some(feedback.customer_id),
    }];
    const OWNER: Option<&'static str> = Some("customer_id");
    const LIST: Spec = Spec {
        table: "feedback",
        fields: Self::FIELDS,
        filters: &[ListField::listed("theme", Kind::Id, &THEMES), ListField::new("import_job_id", Kind::Id)],
        orders: &[Order { name: "created_at", expression: "created_at", kind: OrderKind::Time }],
        indexed: &["customer_id", "external_id"],
        searchable: false,
        branches: Some(("status", FeedbackStatus::WORDS)),
        only: None,
    };
    const DELETED: Option<Spec> = Some(deleted_list!(
        "feedback" in "feedback",
        ListField::computed("import_job_id", Kind::Id, "(former ->> 'import_job_id')::uuid"),
    ));

    /// A rating is an answer. Only files set these fields.
    fn compose(changes: &mut FeedbackChanges, present: Option<&Self>) -> Result<(), FieldFault> {
        let status = |changes: &FeedbackChanges| changes.status.or(present.map(|present| &present.status)).copied();
        if changes.status == Patch::Keep && changes.rating.value().is_some() {
            changes.status = Patch::Set(FeedbackStatus::Answered);
        }
        let was_open = present.is_some_and(|present| present.status == FeedbackStatus::Requested);
        if present.is_some() && !was_open && status(changes) == Some(FeedbackStatus::Requested) {
            return Err(("status", Fault::new("invalid", "must not become requested again")));
        }
        let is_answered = status(changes) == Some(FeedbackStatus::Answered);
        let is_rated = changes.rating.or(present.and_then(|present| present.rating.as_ref())).is_some();
        let answered_at = changes.answered_at.or(present.and_then(|present| present.answered_at.as_ref()));
        match (is_answered, is_rated) {
            (true, true) if answered_at.is_none() && present.is_some() => changes.answered_at = Patch::Set(db::now()),
            (false, false) if status(changes).is_none() => {
                return Err(("rating", Fault::new("required", "is required for a new record")));
            }
            (false, _) if answered_at.is_some() => {
                return Err(("answered_at", Fault::new("invalid", "must be empty unless the status is answered")));
            }
            (true, false) => return Err(("rating", Fault::new("required", "is required for an answer"))),
            (false, true) => {
                return Err(("rating", Fault::new("invalid", "must be empty unless the status is answered")));
            }
            _ => {}
        }
        Ok(())
    }

    fn derive_fields(&mut self, before: Option<&Self>) {
        if before.is_none() && self.requested_at == Time::UNIX_EPOCH {
            self.requested_at = self.created_at;
        }
    }

    /// Cancels the emails of the requests.
    async fn before_delete(
        connection: &mut PgConnection,
        actor: &Actor,
        feedback: &[Self],
        _deletions: &Deletions,
    ) -> Result<()> {
        let keys: Vec<String> = feedback.iter().flat_map(|feedback| event_keys(feedback.id)).collect();
        mail::cancel_events(connection, actor.workspace_id, &keys).await?;
        Ok(())
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

/// The maximum number of reminders for a request.
pub const MAX_REMINDERS: i16 = 2;

/// The event key of the request's email, or of the reminder with that number.
pub(crate) fn event_key(id: Uuid, reminder: Option<i16>) -> String {
    match reminder {
        None => format!("feedback:{id}:request"),
        Some(number) => format!("feedback:{id}:reminder:{number}"),
    }
}

/// The event keys of all emails for a request.
fn event_keys(id: Uuid) -> Vec<String> {
    std::iter::once(None).chain((1..=MAX_REMINDERS).map(Some)).map(|reminder| event_key(id, reminder)).collect()
}

/// A customer's answer.
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
        let rating = rating.ok_or_else(|| Error::internal("an answer without a rating was accepted"))?;
        Ok(Self { rating, comment, category })
    }

    /// Reads the fields of a form; empty fields count as missing.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every fault of the form.
    pub fn from_form(rating: &str, comment: &str, category: &str) -> Result<Self> {
        let mut faults = Vec::new();
        // Browsers submit line ends as CRLF.
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

/// Saves an answer, even to an expired request. Requires a transaction: the feedback is locked, so
/// the second of two concurrent answers finds the first one.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Conflict`] if the request was already answered.
pub async fn answer(connection: &mut PgConnection, actor: &Actor, id: Uuid, answer: Answer) -> Result<Feedback> {
    let workspace_id = actor.workspace_id;
    let before = records::lock::<Feedback>(connection, workspace_id, &[id]).await?.pop().ok_or(Error::NotFound)?;
    if before.status == FeedbackStatus::Answered {
        let message = "the feedback was already answered";
        return Err(Error::conflict_with(id, Reason::AlreadyAnswered, "status", message));
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
    let answered = [(before, after.clone())];
    records::update_all_as(connection, actor, &answered, EventType::FeedbackAnswered).await?;
    // Customers who answered get no more reminders.
    mail::cancel_events(connection, workspace_id, &event_keys(id)).await?;
    Ok(after)
}
