//! Callbacks: who wants to know the end of a job.

use serde::Serialize;
use sqlx::PgConnection;
use utoipa::ToSchema;
use uuid::Uuid;

use super::fan_out::ENDS;
use super::insert::{Message, NewDelivery, insert};
use super::seal::Sealer;
use super::target::subscriptions;
use super::{DeliveryState, queue, receiver, secret};
use crate::error::{Error, NOT_FOUND, Result};
use crate::events::feed::{self, Filter};
use crate::platform::config::Webhooks;
use crate::platform::db;
use crate::query::parameters::Parameters;

/// The parameters of a request.
pub const PARAMETERS: [&str; 2] = ["callback_url", "webhook_id"];
/// The most callbacks of one job.
const MAX: i64 = 20;

/// Where the end of a job is delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Callback {
    /// To a URL.
    Url(String),
    /// To an endpoint.
    Webhook(Uuid),
}

impl Callback {
    /// Reads the parameters of a request.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every fault.
    pub fn read(parameters: &[(String, String)], settings: &Webhooks) -> Result<Option<Self>> {
        let mut parameters = Parameters::new(parameters);
        let url: Option<String> = parameters.take_as("callback_url", |text| receiver::parse(text, settings));
        let webhook_id: Option<Uuid> = parameters.take("webhook_id");
        parameters.finish()?;
        match (url, webhook_id) {
            (Some(_), Some(_)) => {
                Err(Error::invalid("webhook_id", "not_allowed", "must not be given with `callback_url`"))
            }
            (Some(url), None) => Ok(Some(Self::Url(url))),
            (None, webhook_id) => Ok(webhook_id.map(Self::Webhook)),
        }
    }
}

/// Adds a callback to a job. If the job has ended, its end is delivered at once. Needs a transaction.
///
/// # Errors
/// [`Error::Invalid`] for an unknown endpoint, for a URL in a workspace without a secret for callbacks, and if the job
/// has too many callbacks.
pub async fn add(connection: &mut PgConnection, workspace_id: Uuid, job_id: Uuid, callback: &Callback) -> Result<()> {
    // From here on, the fan-out waits. So it meets the callback, or has met the end of the job before.
    queue::lock(connection, workspace_id).await?;
    check(connection, workspace_id, job_id, callback).await?;
    let id = Uuid::now_v7();
    let (url, webhook_id) = match callback {
        Callback::Url(url) => (Some(url), None),
        Callback::Webhook(id) => (None, Some(id)),
    };
    let added = sqlx::query(
        "INSERT INTO webhook_callbacks (workspace_id, id, job_id, url, webhook_id, created_at)
         SELECT $1, $2, $3, $4, $5, $6
         WHERE NOT EXISTS (
             SELECT FROM webhook_callbacks
             WHERE workspace_id = $1 AND job_id = $3 AND url IS NOT DISTINCT FROM $4
                 AND webhook_id IS NOT DISTINCT FROM $5 AND event_id IS NULL
         )",
    )
    .bind(workspace_id)
    .bind(id)
    .bind(job_id)
    .bind(url)
    .bind(webhook_id)
    .bind(db::now())
    .execute(&mut *connection)
    .await?;
    if added.rows_affected() > 0 {
        answer_if_ended(connection, workspace_id, job_id, (id, callback)).await?;
    }
    Ok(())
}

async fn check(connection: &mut PgConnection, workspace_id: Uuid, job_id: Uuid, callback: &Callback) -> Result<()> {
    let (field, is_known) = match callback {
        Callback::Url(_) => ("callback_url", has_secret(connection, workspace_id).await?),
        Callback::Webhook(id) => ("webhook_id", !subscriptions(connection, workspace_id, Some(*id)).await?.is_empty()),
    };
    match callback {
        Callback::Url(_) if !is_known => {
            let message = "needs a secret that signs; create it with POST /dev/crm/webhooks/callback-secret";
            return Err(Error::invalid(field, "no_secret", message));
        }
        Callback::Webhook(_) if !is_known => return Err(Error::invalid(field, NOT_FOUND, "no webhook has this id")),
        _ => {}
    }
    let count = sqlx::query_scalar("SELECT count(*) FROM webhook_callbacks WHERE workspace_id = $1 AND job_id = $2");
    let count: i64 = count.bind(workspace_id).bind(job_id).fetch_one(connection).await?;
    match count < MAX {
        true => Ok(()),
        false => Err(Error::invalid(field, "limit", format!("a job has at most {MAX} callbacks"))),
    }
}

async fn has_secret(connection: &mut PgConnection, workspace_id: Uuid) -> Result<bool> {
    let has = "SELECT EXISTS (SELECT FROM webhook_callback_secrets WHERE workspace_id = $1)";
    Ok(sqlx::query_scalar(has).bind(workspace_id).fetch_one(connection).await?)
}

/// Delivers the end of a job that the fan-out has met before.
async fn answer_if_ended(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    job_id: Uuid,
    (id, callback): (Uuid, &Callback),
) -> Result<()> {
    if !crate::queue::get(connection, workspace_id, job_id).await?.status.is_finished() {
        return Ok(());
    }
    let filter = Filter { types: ENDS.to_vec(), subject_id: Some(job_id), without_previews: true, ..Filter::default() };
    let part = feed::read(connection, workspace_id, None, &filter, 100).await?;
    let Some(event) = part.events.last() else { return Ok(()) };
    let delivery = match callback {
        Callback::Url(_) => NewDelivery::of(id, event, None, DeliveryState::Pending),
        Callback::Webhook(webhook_id) => NewDelivery::of(*webhook_id, event, None, DeliveryState::Pending),
    };
    insert(connection, workspace_id, &[Message::of(event)?], &[delivery]).await?;
    answered(connection, workspace_id, &[(id, event.id.0)]).await?;
    queue::set_due(connection, workspace_id).await
}

/// Records the events with which callbacks are answered. Those to endpoints end with it.
pub(super) async fn answered(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    answered: &[(Uuid, Uuid)],
) -> Result<()> {
    let (ids, events): (Vec<Uuid>, Vec<Uuid>) = answered.iter().copied().unzip();
    sqlx::query("DELETE FROM webhook_callbacks WHERE workspace_id = $1 AND id = ANY ($2) AND webhook_id IS NOT NULL")
        .bind(workspace_id)
        .bind(&ids)
        .execute(&mut *connection)
        .await?;
    sqlx::query(
        "UPDATE webhook_callbacks SET event_id = answer.event_id
         FROM unnest($2::uuid[], $3::uuid[]) AS answer (id, event_id)
         WHERE webhook_callbacks.workspace_id = $1 AND webhook_callbacks.id = answer.id",
    )
    .bind(workspace_id)
    .bind(&ids)
    .bind(events)
    .execute(connection)
    .await?;
    Ok(())
}

/// The secret that signs for the URLs of callbacks, which is shown only once.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct CallbackSecret {
    /// The secret; `null` in a repeated response to the same request.
    pub secret: Option<String>,
}

/// Creates the secret that signs for the URLs of callbacks, or a new one. The present one signs as well for a day.
/// Needs a transaction.
pub async fn rotate_secret(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    sealer: &Sealer,
) -> Result<CallbackSecret> {
    queue::lock(connection, workspace_id).await?;
    let secret = secret::generate()?;
    sqlx::query(
        "INSERT INTO webhook_callback_secrets AS present (workspace_id, secret) VALUES ($1, $2)
         ON CONFLICT (workspace_id) DO UPDATE
             SET previous_secret = present.secret, previous_until = $3, secret = excluded.secret",
    )
    .bind(workspace_id)
    .bind(sealer.seal((workspace_id, workspace_id, secret::FIELD), &secret)?)
    .bind(db::now() + secret::OVERLAP)
    .execute(&mut *connection)
    .await?;
    queue::set_due(connection, workspace_id).await?;
    Ok(CallbackSecret { secret: Some(secret) })
}
