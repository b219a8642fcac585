//! Endpoints as callers see them: listed, created, changed, deleted, and their secrets.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Map, Value, json};
use sqlx::{FromRow, PgConnection};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, SchemaType, Type};
use utoipa::{PartialSchema, ToSchema};
use uuid::Uuid;

use super::changes::Changes;
use super::headers::Headers;
use super::seal::Sealer;
use super::{Bulk, Ordering, queue, scopes as may, secret};
use crate::accounts::scopes::{Scope, Scopes};
use crate::error::{Error, Reason, Result};
use crate::events::{Actor, EventType, NewEvent, Subject, SubjectType};
use crate::platform::config::Webhooks;
use crate::platform::db;
use crate::query::{Item, ListField, Order, OrderKind, Spec};
use crate::records::Parent;

use crate::values::etag::{Condition, Tagged};
use crate::values::json_body::Object;
use crate::values::kind::Kind;
use crate::values::patch::Patch;

/// The most endpoints of a workspace.
pub const MAX_ENDPOINTS: i64 = 50;

/// How endpoints are listed.
pub const LIST: Spec = Spec {
    table: "webhooks",
    fields: &[
        ListField::new("id", Kind::Id),
        ListField::new("url", Kind::Line),
        ListField::new("description", Kind::Line),
        ListField::new("events", Kind::Json),
        ListField::new("bulk", Kind::Word(Bulk::WORDS)),
        ListField::new("ordering", Kind::Word(Ordering::WORDS)),
        ListField::new("rate_limit", Kind::Number),
        ListField::computed(
            "enabled",
            Kind::Word(&["true", "false"]),
            "CASE WHEN enabled THEN 'true' ELSE 'false' END",
        ),
        ListField::new("header_names", Kind::Json),
        ListField::new("scopes", Kind::Json),
        ListField::new("failing_since", Kind::Time),
        ListField::new("disabled_at", Kind::Time),
        ListField::new("created_at", Kind::Time),
        ListField::new("updated_at", Kind::Time),
    ],
    filters: &[],
    orders: &[Order { name: "created_at", expression: "id", kind: OrderKind::Id }],
    indexed: &[],
    searchable: false,
    branches: None,
    only: Some("deleted_at IS NULL"),
};

/// The endpoint that deliveries are listed of.
pub const PARENT: Parent = Parent { column: "webhook_id", table: "webhooks" };

macro_rules! columns {
    () => {
        "id, url, description, events, bulk, ordering, rate_limit, enabled, header_names, scopes, failing_since, \
            disabled_at, created_at, updated_at"
    };
}

/// The columns of [`Webhook`], for the statement of a list.
pub const COLUMNS: &str = columns!();

/// An endpoint that gets the events of a workspace.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema, FromRow)]
pub struct Webhook {
    /// Assigned by the server. Ids are ordered by time.
    pub id: Uuid,
    /// The URL of the receiver.
    pub url: String,
    /// What it is for.
    pub description: Option<String>,
    /// The types of events that it gets.
    pub events: Vec<String>,
    /// How it learns of what a job writes.
    pub bulk: Bulk,
    /// The order in which it gets events.
    pub ordering: Ordering,
    /// The most requests per second; `null` is no limit.
    pub rate_limit: Option<i32>,
    /// Whether events are delivered. While it is disabled, it gets no new events, and deliveries wait.
    pub enabled: bool,
    /// The names of the further headers of its requests, whose values are never shown.
    pub header_names: Vec<String>,
    /// What its owner may read; other events are not delivered.
    #[schema(value_type = Vec<Scope>)]
    pub scopes: Scopes,
    /// Since when every attempt has failed.
    pub failing_since: Option<DateTime<Utc>>,
    /// When it was disabled, because attempts failed for five days.
    pub disabled_at: Option<DateTime<Utc>>,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
}

impl Item for Webhook {}

impl Tagged for Webhook {
    /// They change by themselves.
    const COMPUTED: &'static [&'static str] = &["failing_since"];
}

/// An endpoint with its secret, which is shown only once.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WebhookWithSecret {
    /// The endpoint.
    #[serde(flatten)]
    pub webhook: Webhook,
    /// The secret that signs its requests; `null` in a repeated response to the same request.
    pub secret: Option<String>,
}

impl PartialSchema for WebhookWithSecret {
    fn schema() -> RefOr<Schema> {
        let mut schema = Webhook::schema();
        if let RefOr::T(Schema::Object(object)) = &mut schema {
            let about = "The secret that signs its requests; `null` in a repeated response to the same request.";
            let secret = ObjectBuilder::new().schema_type(SchemaType::from_iter([Type::String, Type::Null]));
            object.description = Some("A webhook with its secret, which is shown only once.".to_owned());
            object.properties.insert("secret".to_owned(), secret.description(Some(about)).into());
            object.examples = vec![shown_example()];
        }
        schema
    }
}

impl ToSchema for WebhookWithSecret {
    fn name() -> Cow<'static, str> {
        "WebhookWithSecret".into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        Webhook::schemas(schemas);
    }
}

/// The example of an endpoint that was created a moment ago.
fn shown_example() -> Value {
    json!({
        "id": "019ab3f2-6b1e-7c3a-9f52-3d8c1e0a7b44", "url": "https://example.com/hooks", "description": null,
        "events": ["lead.*", "order.created"], "bulk": "summary", "ordering": "none", "rate_limit": null,
        "enabled": true, "header_names": [], "scopes": ["*"], "failing_since": null, "disabled_at": null,
        "created_at": "2026-01-15T10:00:00Z", "updated_at": "2026-01-15T10:00:00Z",
        "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="
    })
}

/// The example of an endpoint's fields.
pub fn example() -> Value {
    json!({ "url": "https://example.com/hooks", "events": ["lead.*", "order.created"] })
}

/// Returns an endpoint.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn get(connection: &mut PgConnection, workspace_id: Uuid, id: Uuid) -> Result<Webhook> {
    let found = sqlx::query_as(concat!(
        "SELECT ",
        columns!(),
        " FROM webhooks WHERE workspace_id = $1 AND id = $2 AND deleted_at IS NULL"
    ));
    Ok(found.bind(workspace_id).bind(id).fetch_one(connection).await?)
}

/// Creates an endpoint from the request body, with a new secret. Needs a transaction.
///
/// # Errors
/// [`Error::Invalid`] with every fault of the body; [`Error::Forbidden`] for events that its owner, who has these
/// scopes, may not read; [`Error::Conflict`] if the workspace has [`MAX_ENDPOINTS`].
pub async fn create(
    connection: &mut PgConnection,
    (actor, scopes): (&Actor, Scopes),
    body: Object,
    (settings, sealer): (&Webhooks, &Sealer),
) -> Result<WebhookWithSecret> {
    let changes = Changes::read(body, None, settings)?;
    let missing = || Error::internal("a body was accepted without its required fields");
    let (workspace_id, id, now) = (actor.workspace_id, Uuid::now_v7(), db::now());
    let last_event = queue::lock(connection, workspace_id).await?;
    if count(connection, workspace_id).await? >= MAX_ENDPOINTS {
        let message = format!("a workspace has at most {MAX_ENDPOINTS} webhooks");
        return Err(Error::conflict(Reason::LimitReached, "url", message));
    }
    let secret = secret::generate()?;
    let headers = changes.headers.into_value().unwrap_or_default();
    let events = changes.events.ok_or_else(missing)?;
    may::check(scopes, &events)?;
    let created = sqlx::query_as(concat!(
        "INSERT INTO webhooks (workspace_id, id, url, description, events, bulk, ordering, rate_limit, enabled,
             header_names, headers, secret, after_event, created_at, updated_at, scopes)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $14, $15) RETURNING ",
        columns!()
    ))
    .bind(workspace_id)
    .bind(id)
    .bind(changes.url.ok_or_else(missing)?)
    .bind(changes.description.into_value().map(|text| text.as_ref().to_owned()))
    .bind(events.words())
    .bind(changes.bulk.into_value().unwrap_or(Bulk::Summary))
    .bind(changes.ordering.into_value().unwrap_or(Ordering::None))
    .bind(changes.rate_limit.into_value())
    .bind(changes.enabled.into_value().unwrap_or(true))
    .bind(headers.keys().collect::<Vec<_>>())
    .bind(seal_headers(sealer, workspace_id, id, &headers)?)
    .bind(sealer.seal((workspace_id, id, secret::FIELD), &secret)?)
    .bind(last_event)
    .bind(now)
    .bind(scopes);
    let webhook: Webhook = created.fetch_one(&mut *connection).await?;
    audit(connection, actor, EventType::WebhookCreated, &webhook).await?;
    Ok(WebhookWithSecret { webhook, secret: Some(secret) })
}

async fn count(connection: &mut PgConnection, workspace_id: Uuid) -> Result<i64> {
    let count = sqlx::query_scalar("SELECT count(*) FROM webhooks WHERE workspace_id = $1 AND deleted_at IS NULL");
    Ok(count.bind(workspace_id).fetch_one(connection).await?)
}

/// Changes an endpoint by the request body. An endpoint that is enabled again gets events from now on, and its
/// deliveries continue. Needs a transaction.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Changed`]; [`Error::Invalid`] with every fault of the body; [`Error::Forbidden`] if the
/// endpoint may read more than who changes it, who has these scopes.
pub async fn update(
    connection: &mut PgConnection,
    (actor, scopes): (&Actor, Scopes),
    id: Uuid,
    body: Object,
    condition: &Condition,
    (settings, sealer): (&Webhooks, &Sealer),
) -> Result<Webhook> {
    let workspace_id = actor.workspace_id;
    let last_event = queue::lock(connection, workspace_id).await?;
    let present = get(connection, workspace_id, id).await?;
    condition.check(&present)?;
    scopes.must(present.scopes)?;
    let changes = Changes::read(body, Some(&present), settings)?;
    if let Some(events) = &changes.events {
        may::check(present.scopes, events)?;
    }
    let headers = match &changes.headers {
        Patch::Keep => None,
        Patch::Clear => Some(Headers::new()),
        Patch::Set(headers) => Some(headers.clone()),
    };
    if let Some(headers) = headers {
        set_headers(connection, workspace_id, id, &seal_headers(sealer, workspace_id, id, &headers)?, &headers).await?;
    }
    let before = get(connection, workspace_id, id).await?;
    let mut after = before.clone();
    changes.apply(&mut after);
    if after == present {
        return Ok(present);
    }
    let is_enabled_again = after.enabled && !present.enabled;
    let updated = sqlx::query_as(concat!(
        "UPDATE webhooks
         SET url = $3, description = $4, events = $5, bulk = $6, ordering = $7, rate_limit = $8, enabled = $9,
             updated_at = $10, disabled_at = CASE WHEN $11 THEN NULL ELSE disabled_at END,
             failing_since = CASE WHEN $11 THEN NULL ELSE failing_since END,
             failures = CASE WHEN $11 THEN 0 ELSE failures END,
             after_event = CASE WHEN $11 THEN $12 ELSE after_event END
         WHERE workspace_id = $1 AND id = $2 RETURNING ",
        columns!()
    ))
    .bind(workspace_id)
    .bind(id)
    .bind(&after.url)
    .bind(&after.description)
    .bind(&after.events)
    .bind(after.bulk)
    .bind(after.ordering)
    .bind(after.rate_limit)
    .bind(after.enabled)
    .bind(db::now())
    .bind(is_enabled_again)
    .bind(last_event);
    let webhook: Webhook = updated.fetch_one(&mut *connection).await?;
    if present.ordering == Ordering::Subject && webhook.ordering == Ordering::None {
        queue::release_all(connection, workspace_id, id).await?;
    }
    queue::set_due(connection, workspace_id).await?;
    audit(connection, actor, EventType::WebhookUpdated, &webhook).await?;
    Ok(webhook)
}

async fn set_headers(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    id: Uuid,
    sealed: &[u8],
    headers: &Headers,
) -> Result<()> {
    // A change of values only is a change, too.
    sqlx::query(
        "UPDATE webhooks SET header_names = $3, headers = $4, updated_at = $5 WHERE workspace_id = $1 AND id = $2",
    )
    .bind(workspace_id)
    .bind(id)
    .bind(headers.keys().collect::<Vec<_>>())
    .bind(sealed)
    .bind(db::now())
    .execute(connection)
    .await?;
    Ok(())
}

/// Deletes an endpoint. Its deliveries are not sent, and are deleted later. Needs a transaction.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Changed`].
pub async fn delete(connection: &mut PgConnection, actor: &Actor, id: Uuid, condition: &Condition) -> Result<()> {
    queue::lock(connection, actor.workspace_id).await?;
    let present = get(connection, actor.workspace_id, id).await?;
    condition.check(&present)?;
    sqlx::query("UPDATE webhooks SET deleted_at = $3, enabled = false WHERE workspace_id = $1 AND id = $2")
        .bind(actor.workspace_id)
        .bind(id)
        .bind(db::now())
        .execute(&mut *connection)
        .await?;
    queue::set_due(connection, actor.workspace_id).await?;
    audit(connection, actor, EventType::WebhookDeleted, &present).await
}

/// Gives an endpoint a new secret. The present one signs as well for a day. Needs a transaction.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn rotate_secret(
    connection: &mut PgConnection,
    actor: &Actor,
    id: Uuid,
    sealer: &Sealer,
) -> Result<WebhookWithSecret> {
    let workspace_id = actor.workspace_id;
    queue::lock(connection, workspace_id).await?;
    let secret = secret::generate()?;
    let rotated = sqlx::query_as(concat!(
        "UPDATE webhooks SET previous_secret = secret, previous_until = $4, secret = $3, updated_at = $5
         WHERE workspace_id = $1 AND id = $2 AND deleted_at IS NULL RETURNING ",
        columns!()
    ))
    .bind(workspace_id)
    .bind(id)
    .bind(sealer.seal((workspace_id, id, secret::FIELD), &secret)?)
    .bind(db::now() + secret::OVERLAP)
    .bind(db::now());
    let webhook: Webhook = rotated.fetch_one(&mut *connection).await?;
    queue::set_due(connection, workspace_id).await?;
    audit(connection, actor, EventType::WebhookUpdated, &webhook).await?;
    Ok(WebhookWithSecret { webhook, secret: Some(secret) })
}

fn seal_headers(sealer: &Sealer, workspace_id: Uuid, id: Uuid, headers: &Headers) -> Result<Vec<u8>> {
    let headers: Map<String, Value> =
        headers.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str()))).collect();
    sealer.seal((workspace_id, id, super::target::HEADERS), &serde_json::to_string(&headers)?)
}

pub(super) async fn audit(
    connection: &mut PgConnection,
    actor: &Actor,
    event_type: EventType,
    webhook: &Webhook,
) -> Result<()> {
    let subject = Subject { kind: SubjectType::Webhook, id: webhook.id };
    crate::events::record(connection, actor, vec![NewEvent::new(event_type, subject, webhook)?]).await
}
