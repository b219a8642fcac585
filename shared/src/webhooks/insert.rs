//! Adding deliveries and the messages that they deliver.

use sqlx::PgConnection;
use uuid::Uuid;

use super::DeliveryState;
use crate::error::Result;
use crate::events::{Event, EventType};
use crate::platform::db;

/// The body of an event, serialized once.
#[derive(Debug)]
pub(super) struct Message {
    event_id: Uuid,
    body: String,
    request_id: Option<String>,
    trace_context: Option<String>,
}

impl Message {
    /// The message of an event.
    pub fn of(event: &Event) -> Result<Self> {
        let (request_id, trace_context) = (event.request_id.clone(), event.trace_context.clone());
        Ok(Self { event_id: event.id.0, body: serde_json::to_string(event)?, request_id, trace_context })
    }
}

/// A delivery to add.
#[derive(Debug)]
pub(super) struct NewDelivery {
    pub webhook_id: Uuid,
    event_id: Uuid,
    event_type: EventType,
    /// The subject, if its events are delivered one after the other.
    pub subject_id: Option<Uuid>,
    number: i64,
    pub state: DeliveryState,
}

impl NewDelivery {
    /// The delivery of an event.
    pub fn of(webhook_id: Uuid, event: &Event, subject_id: Option<Uuid>, state: DeliveryState) -> Self {
        let (event_id, event_type, number) = (event.id.0, event.event_type, event.cursor);
        Self { webhook_id, event_id, event_type, subject_id, number, state }
    }

    /// The event.
    pub fn event_id(&self) -> Uuid {
        self.event_id
    }

    /// Its id.
    pub fn id(&self) -> Uuid {
        delivery_id(self.webhook_id, self.event_id)
    }
}

/// The id of the delivery of an event to an endpoint: the first half of the event's id, which has its time, and a hash
/// of both ids. So an event has one delivery to an endpoint, and no unique index besides the primary key.
pub(super) fn delivery_id(webhook_id: Uuid, event_id: Uuid) -> Uuid {
    let hash = Uuid::new_v5(&webhook_id, event_id.as_bytes());
    let (time, _) = event_id.as_u64_pair();
    let (_, hash) = hash.as_u64_pair();
    Uuid::from_u64_pair(time, hash)
}

/// Adds messages and deliveries, unless they exist. Needs a transaction.
pub(super) async fn insert(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    messages: &[Message],
    deliveries: &[NewDelivery],
) -> Result<()> {
    if deliveries.is_empty() {
        return Ok(());
    }
    let now = db::now();
    sqlx::query(
        "INSERT INTO webhook_messages (workspace_id, id, body, created_at, request_id, trace_context)
         SELECT $1, id, body, $2, request_id, trace_context
         FROM unnest($3::uuid[], $4::text[], $5::text[], $6::text[]) AS new (id, body, request_id, trace_context)
         ON CONFLICT (workspace_id, id) DO NOTHING",
    )
    .bind(workspace_id)
    .bind(now)
    .bind(messages.iter().map(|message| message.event_id).collect::<Vec<_>>())
    .bind(messages.iter().map(|message| message.body.as_str()).collect::<Vec<_>>())
    .bind(messages.iter().map(|message| message.request_id.as_deref()).collect::<Vec<_>>())
    .bind(messages.iter().map(|message| message.trace_context.as_deref()).collect::<Vec<_>>())
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "INSERT INTO webhook_deliveries
             (workspace_id, id, webhook_id, event_id, event_type, subject_id, number, state, run_at, created_at,
              updated_at)
         SELECT $1, id, webhook_id, event_id, event_type, subject_id, number, state, $2, $2, $2
         FROM unnest($3::uuid[], $4::uuid[], $5::uuid[], $6::text[], $7::uuid[], $8::bigint[], $9::text[])
             AS new (id, webhook_id, event_id, event_type, subject_id, number, state)
         ON CONFLICT (workspace_id, id) DO NOTHING",
    )
    .bind(workspace_id)
    .bind(now)
    .bind(deliveries.iter().map(NewDelivery::id).collect::<Vec<_>>())
    .bind(deliveries.iter().map(|delivery| delivery.webhook_id).collect::<Vec<_>>())
    .bind(deliveries.iter().map(|delivery| delivery.event_id).collect::<Vec<_>>())
    .bind(deliveries.iter().map(|delivery| delivery.event_type.as_str()).collect::<Vec<_>>())
    .bind(deliveries.iter().map(|delivery| delivery.subject_id).collect::<Vec<_>>())
    .bind(deliveries.iter().map(|delivery| delivery.number).collect::<Vec<_>>())
    .bind(deliveries.iter().map(|delivery| delivery.state.as_str()).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_has_one_delivery_to_an_endpoint() {
        let [event, later] = [Uuid::now_v7(), Uuid::now_v7()];
        let [one, other] = [Uuid::now_v7(), Uuid::now_v7()];
        assert_eq!(delivery_id(one, event), delivery_id(one, event));
        assert_ne!(delivery_id(one, event), delivery_id(other, event));
        assert_ne!(delivery_id(one, event), delivery_id(one, later));
        assert_eq!(delivery_id(one, event).get_version_num(), 7);
    }
}
