//! The events of records, for the feed and webhooks.

use sqlx::PgConnection;

use super::history::Action;
use super::model::{Record, RecordType};
use crate::error::{Error, Result};
use crate::events::{self, Actor, EventType, NewEvent, Subject, SubjectType};

impl From<RecordType> for SubjectType {
    fn from(record_type: RecordType) -> Self {
        match record_type {
            RecordType::Lead => Self::Lead,
            RecordType::Customer => Self::Customer,
            RecordType::LeadInteraction => Self::LeadInteraction,
            RecordType::CustomerInteraction => Self::CustomerInteraction,
            RecordType::Order => Self::Order,
            RecordType::Feedback => Self::Feedback,
            RecordType::User => Self::User,
            RecordType::Suppression => Self::Suppression,
        }
    }
}

/// The type of the event of an action, in SQL and in Rust.
pub(super) fn word<R: Record>(action: Action) -> String {
    format!("{}.{}", R::TYPE.as_str(), action.as_str())
}

/// The type of the event of an action.
///
/// # Errors
/// [`Error::Internal`] for an action that has none.
pub(super) fn event_type<R: Record>(action: Action) -> Result<EventType> {
    let word = word::<R>(action);
    EventType::from_word(&word).ok_or_else(|| Error::internal(format!("{word} is no type of an event")))
}

/// The event of a record.
///
/// # Errors
/// [`Error::Internal`] if the record cannot be serialized.
pub(super) fn report<R: Record>(record: &R, event_type: EventType) -> Result<NewEvent> {
    NewEvent::new(event_type, Subject { kind: R::TYPE.into(), id: record.id() }, record)
}

/// Records the events of new records, unless a job creates them.
pub(crate) async fn report_created<R: Record>(
    connection: &mut PgConnection,
    actor: &Actor,
    records: &[R],
) -> Result<()> {
    if !actor.is_reported() || records.is_empty() {
        return Ok(());
    }
    let created = event_type::<R>(Action::Created)?;
    let reported = records.iter().map(|record| report(record, created)).collect::<Result<_>>()?;
    events::record(connection, actor, reported).await
}
