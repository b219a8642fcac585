//! Disabling endpoints that only fail.

use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use super::endpoint::{self, Webhook};
use super::work::Health;
use crate::accounts::settings;
use crate::error::Result;
use crate::events::{Actor, EventType};
use crate::mail::templates::{Renderer, webhook_disabled};
use crate::mail::{self, Event, NewEmail, Queued};
use crate::platform::{config, db};

/// Disables an endpoint unless it was changed meanwhile, and records an event and an email about it. Returns whether an
/// email was added to the outbox; `None` if the endpoint was not disabled.
pub(super) async fn disable(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    health: Health,
    mail: &config::Mail,
) -> Result<Option<bool>> {
    let now = db::now();
    let disabled = sqlx::query(
        "UPDATE webhooks SET enabled = false, disabled_at = $4, updated_at = $4
         WHERE workspace_id = $1 AND id = $2 AND updated_at = $3 AND enabled AND deleted_at IS NULL",
    )
    .bind(workspace_id)
    .bind(health.webhook_id)
    .bind(health.updated_at)
    .bind(now)
    .execute(&mut *connection)
    .await?;
    if disabled.rows_affected() == 0 {
        return Ok(None);
    }
    let webhook = endpoint::get(connection, workspace_id, health.webhook_id).await?;
    endpoint::audit(connection, &Actor::worker(workspace_id), EventType::WebhookDisabled, &webhook).await?;
    Ok(Some(notify(connection, workspace_id, &webhook, mail).await?))
}

/// Writes an email to the workspace's notification address, if it has one.
async fn notify(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    webhook: &Webhook,
    mail: &config::Mail,
) -> Result<bool> {
    let settings = settings::get(connection, workspace_id).await?;
    let Some(address) = settings.notification_email.clone() else { return Ok(false) };
    let sender = settings::sender(connection, workspace_id, &settings, mail).await?;
    let name = Event::WebhookDisabled.as_str();
    let renderer = Renderer::read(vec![(name.to_owned(), Event::WebhookDisabled, webhook_disabled())]).await?;
    let context = json!({ "webhook": {
        "url": webhook.url,
        "description": webhook.description,
        "failing_since": webhook.failing_since.map(|since| since.format("%Y-%m-%d %H:%M UTC").to_string()),
    } });
    let disabled_at = webhook.disabled_at.map(|at| at.timestamp_micros()).unwrap_or_default();
    let email = NewEmail {
        id: Uuid::now_v7(),
        event: Event::WebhookDisabled,
        event_key: format!("webhook_disabled:{}:{disabled_at}", webhook.id),
        subject: None,
        to_name: None,
        to_email: address,
        content: renderer.render_one(name, context).await??,
        unsubscribe: None,
        time_zone: None,
    };
    let queued = mail::queue(connection, &Actor::worker(workspace_id), &sender, &[email]).await?;
    Ok(queued.contains(&Queued::New))
}
