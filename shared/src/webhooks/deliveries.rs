//! Deliveries as callers see them, and their decisions about them.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{FromRow, PgConnection, Row};
use utoipa::ToSchema;
use uuid::Uuid;

use super::insert::{Message, NewDelivery, delivery_id, insert};
use super::{DeliveryState, endpoint, queue};
use crate::error::{Error, Reason, Result};
use crate::events::feed::EventActor;
use crate::events::{Actor, Event, EventId, EventType, Subject, SubjectType};
use crate::platform::{db, trace};
use crate::query::{Item, ListField, Order, OrderKind, Spec};

use crate::values::etag::Tagged;
use crate::values::kind::Kind;

/// How deliveries are listed. Ids are those of their events in time, so sorting by `created_at` uses them.
pub const LIST: Spec = Spec {
    table: "webhook_deliveries",
    fields: &[
        ListField::new("id", Kind::Id),
        ListField::computed("event_id", Kind::Line, "'evt_' || replace(event_id::text, '-', '')"),
        ListField::new("event_type", Kind::Word(EventType::PUBLIC_WORDS)),
        ListField::new("state", Kind::Word(DeliveryState::WORDS)),
        ListField::new("attempts", Kind::Number),
        ListField::computed("next_attempt_at", Kind::Time, "CASE WHEN state = 'pending' THEN run_at END"),
        ListField::new("status", Kind::Number),
        ListField::new("latency_ms", Kind::Number),
        ListField::new("response", Kind::Text),
        ListField::new("error", Kind::Text),
        ListField::new("created_at", Kind::Time),
        ListField::new("updated_at", Kind::Time),
        ListField::new("delivered_at", Kind::Time),
    ],
    filters: &[],
    orders: &[Order { name: "created_at", expression: "id", kind: OrderKind::Id }],
    indexed: &[],
    searchable: false,
    branches: None,
    only: None,
};

macro_rules! columns {
    () => {
        "id, event_id, event_type, state, attempts, run_at, status, latency_ms, response, error, created_at, \
            updated_at, delivered_at"
    };
}

/// The columns of [`Delivery`], for the statement of a list.
pub const COLUMNS: &str = columns!();

/// The delivery of an event to an endpoint.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = WebhookDelivery)]
pub struct Delivery {
    /// Made from the ids of the event and the endpoint.
    pub id: Uuid,
    /// The event, which is sent as `webhook-id`.
    pub event_id: EventId,
    /// The type of the event.
    pub event_type: EventType,
    /// The state.
    pub state: DeliveryState,
    /// The attempts since it was created or retried by a caller.
    pub attempts: i16,
    /// When the next attempt is due, while there is one.
    pub next_attempt_at: Option<DateTime<Utc>>,
    /// The status of the last response.
    pub status: Option<i16>,
    /// How long the last attempt took, in milliseconds.
    pub latency_ms: Option<i32>,
    /// The first 1 KiB of the last response.
    pub response: Option<String>,
    /// Why the last attempt failed.
    pub error: Option<String>,
    /// When the delivery was created.
    pub created_at: DateTime<Utc>,
    /// When the state last changed.
    pub updated_at: DateTime<Utc>,
    /// When the receiver accepted the event.
    pub delivered_at: Option<DateTime<Utc>>,
}

impl Item for Delivery {}

impl Tagged for Delivery {}

impl<'r> FromRow<'r, sqlx::postgres::PgRow> for Delivery {
    fn from_row(row: &'r sqlx::postgres::PgRow) -> sqlx::Result<Self> {
        let state: DeliveryState = row.try_get("state")?;
        let is_pending = state == DeliveryState::Pending;
        Ok(Self {
            id: row.try_get("id")?,
            event_id: EventId(row.try_get("event_id")?),
            event_type: row.try_get("event_type")?,
            state,
            attempts: row.try_get("attempts")?,
            next_attempt_at: if is_pending { Some(row.try_get("run_at")?) } else { None },
            status: row.try_get("status")?,
            latency_ms: row.try_get("latency_ms")?,
            response: row.try_get("response")?,
            error: row.try_get("error")?,
            created_at: row.try_get("created_at")?,
            updated_at: row.try_get("updated_at")?,
            delivered_at: row.try_get("delivered_at")?,
        })
    }
}

/// Returns a delivery to an endpoint.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn get(connection: &mut PgConnection, workspace_id: Uuid, webhook_id: Uuid, id: Uuid) -> Result<Delivery> {
    endpoint::get(connection, workspace_id, webhook_id).await?;
    let found = sqlx::query_as(concat!(
        "SELECT ",
        columns!(),
        " FROM webhook_deliveries WHERE workspace_id = $1 AND webhook_id = $2 AND id = $3"
    ));
    Ok(found.bind(workspace_id).bind(webhook_id).bind(id).fetch_one(connection).await?)
}

/// Makes a delivery due again, with all attempts, unless an attempt is due or waits for an earlier event. Needs a
/// transaction.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Conflict`] for a disabled endpoint.
pub async fn retry(connection: &mut PgConnection, workspace_id: Uuid, webhook_id: Uuid, id: Uuid) -> Result<Delivery> {
    queue::lock(connection, workspace_id).await?;
    check_enabled(connection, workspace_id, webhook_id).await?;
    sqlx::query(
        "UPDATE webhook_deliveries
         SET state = 'pending', attempt = attempt + 1, attempts = 0, run_at = $4, updated_at = $4, delivered_at = NULL
         WHERE workspace_id = $1 AND webhook_id = $2 AND id = $3 AND state <> 'waiting'
             AND NOT (state = 'pending' AND run_at <= $4)",
    )
    .bind(workspace_id)
    .bind(webhook_id)
    .bind(id)
    .bind(db::now())
    .execute(&mut *connection)
    .await?;
    let delivery = get(connection, workspace_id, webhook_id, id).await?;
    queue::set_due(connection, workspace_id).await?;
    Ok(delivery)
}

/// Delivers a `ping` to an endpoint. Needs a transaction.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Conflict`] for a disabled endpoint.
pub async fn test(connection: &mut PgConnection, actor: &Actor, webhook_id: Uuid) -> Result<Delivery> {
    let workspace_id = actor.workspace_id;
    let number = queue::lock(connection, workspace_id).await?;
    let webhook = check_enabled(connection, workspace_id, webhook_id).await?;
    let event = Event {
        id: EventId(Uuid::now_v7()),
        event_type: EventType::Ping,
        created_at: db::now(),
        workspace_id,
        subject: Subject { kind: SubjectType::Webhook, id: webhook_id },
        actor: EventActor::new(actor.kind, Some(actor.id)),
        request_id: actor.request_id.clone(),
        trace_context: trace::stored(),
        data: serde_json::value::to_raw_value(&webhook)?,
        changes: None,
        cursor: number,
    };
    let delivery = NewDelivery::of(webhook_id, &event, None, DeliveryState::Pending);
    insert(connection, workspace_id, &[Message::of(&event)?], &[delivery]).await?;
    queue::set_due(connection, workspace_id).await?;
    get(connection, workspace_id, webhook_id, delivery_id(webhook_id, event.id.0)).await
}

/// Returns an endpoint.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Conflict`] if it is disabled.
pub(super) async fn check_enabled(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    id: Uuid,
) -> Result<endpoint::Webhook> {
    let webhook = endpoint::get(connection, workspace_id, id).await?;
    match webhook.enabled {
        true => Ok(webhook),
        false => Err(Error::conflict_with(id, Reason::WrongState, "enabled", "the webhook is disabled")),
    }
}
