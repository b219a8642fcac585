//! Recording what happened.

use serde::Serialize;
use serde_json::value::RawValue;
use sqlx::PgConnection;
use uuid::Uuid;

use super::actor::{Actor, ActorKind};
use super::types::{EventType, Subject};
use crate::error::Result;
use crate::platform::{db, trace};

/// An event to record.
#[derive(Debug, Clone)]
pub struct NewEvent {
    /// Its id; the event of a change has the id of its entry in the history.
    pub id: Uuid,
    /// What happened.
    pub event_type: EventType,
    /// What it happened to.
    pub subject: Subject,
    /// The subject, as the API returns it.
    pub data: Box<RawValue>,
}

impl NewEvent {
    /// An event with an id of its own.
    ///
    /// # Errors
    /// [`Error::Internal`](crate::Error::Internal) if the subject cannot be serialized.
    pub fn new(event_type: EventType, subject: Subject, data: &impl Serialize) -> Result<Self> {
        Ok(Self { id: Uuid::now_v7(), event_type, subject, data: serde_json::value::to_raw_value(data)? })
    }
}

/// Records events of the present trace, in the transaction of what happened.
pub async fn record(connection: &mut PgConnection, actor: &Actor, events: Vec<NewEvent>) -> Result<()> {
    if events.is_empty() {
        return Ok(());
    }
    let (mut ids, mut types, mut subject_types) = (Vec::new(), Vec::new(), Vec::new());
    let (mut subject_ids, mut data) = (Vec::new(), Vec::new());
    for event in &events {
        ids.push(event.id);
        types.push(event.event_type.as_str());
        subject_types.push(event.subject.kind.as_str());
        subject_ids.push(event.subject.id);
        data.push(event.data.get());
    }
    sqlx::query(
        "INSERT INTO new_events (workspace_id, id, type, subject_type, subject_id, actor_type, actor_id, request_id,
             trace_context, data, created_at)
         SELECT $1, id, type, subject_type, subject_id, $2, $3, $4, $11, data::json, $5
         FROM unnest($6::uuid[], $7::text[], $8::text[], $9::uuid[], $10::text[]) WITH ORDINALITY
             AS new (id, type, subject_type, subject_id, data, place)
         ORDER BY place",
    )
    .bind(actor.workspace_id)
    .bind(actor.kind)
    .bind(actor_id(actor))
    .bind(&actor.request_id)
    .bind(db::now())
    .bind(ids)
    .bind(types)
    .bind(subject_types)
    .bind(subject_ids)
    .bind(data)
    .bind(trace::stored())
    .execute(connection)
    .await?;
    Ok(())
}

/// The actor's id, which a worker does not have.
fn actor_id(actor: &Actor) -> Option<Uuid> {
    (actor.kind != ActorKind::Worker).then_some(actor.id)
}
