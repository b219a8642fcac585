//! Where deliveries go: an endpoint or the URL of a callback, with what signs the requests.

use std::collections::BTreeMap;

use sqlx::{FromRow, PgConnection};
use standardwebhooks::Webhook as Signer;
use uuid::Uuid;

use super::patterns::Patterns;
use super::seal::Sealer;
use super::{Bulk, Ordering, secret};
use crate::accounts::scopes::Scopes;
use crate::error::{Error, Result};
use crate::events::Event;
use crate::platform::db;
use crate::values::Time;

/// The field of sealed headers.
pub(super) const HEADERS: &str = "headers";
/// The most callbacks that one worker delivers to at once for a workspace.
const CALLBACKS: i64 = 64;

/// Where deliveries go.
pub struct Target {
    /// The id of the endpoint or callback.
    pub id: Uuid,
    /// The URL.
    pub url: String,
    /// The further headers.
    pub headers: BTreeMap<String, String>,
    /// The most requests per second.
    pub rate_limit: Option<u32>,
    /// The order in which events are delivered.
    pub ordering: Ordering,
    /// Failed attempts in a row.
    pub failures: i32,
    /// Since when only attempts failed.
    pub failing_since: Option<Time>,
    /// The version of the endpoint; `None` for a callback.
    pub updated_at: Option<Time>,
    signers: Vec<Signer>,
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Target").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Target {
    /// Whether it is a callback.
    pub fn is_callback(&self) -> bool {
        self.updated_at.is_none()
    }

    /// The value of `webhook-signature`: a signature by each secret.
    ///
    /// # Errors
    /// [`Error::Internal`] if the body cannot be signed.
    pub fn sign(&self, message_id: &str, timestamp: i64, body: &str) -> Result<String> {
        let signature = |signer: &Signer| signer.sign(message_id, timestamp, body.as_bytes());
        let signatures = self.signers.iter().map(signature).collect::<std::result::Result<Vec<_>, _>>();
        Ok(signatures.map_err(|error| Error::Internal(error.into()))?.join(" "))
    }
}

#[derive(FromRow)]
struct EndpointRow {
    id: Uuid,
    url: String,
    ordering: Ordering,
    rate_limit: Option<i32>,
    failures: i32,
    failing_since: Option<Time>,
    updated_at: Time,
    headers: Vec<u8>,
    secret: Vec<u8>,
    previous_secret: Option<Vec<u8>>,
}

#[derive(FromRow)]
struct Secrets {
    secret: Vec<u8>,
    previous_secret: Option<Vec<u8>>,
}

/// The targets of a workspace's deliveries, and the ids of those whose secrets cannot be read.
#[derive(Debug, Default)]
pub struct Targets {
    /// The enabled endpoints, and the callbacks with deliveries.
    pub targets: Vec<Target>,
    /// Those that cannot be used, with the reason.
    pub unreadable: Vec<(Uuid, Error)>,
}

impl Targets {
    fn add(&mut self, id: Uuid, target: Result<Target>) {
        match target {
            Ok(target) => self.targets.push(target),
            Err(error) => self.unreadable.push((id, error)),
        }
    }
}

/// Reads the enabled endpoints of a workspace, and the callbacks that have deliveries.
pub async fn targets(connection: &mut PgConnection, workspace_id: Uuid, sealer: &Sealer) -> Result<Targets> {
    let endpoints: Vec<EndpointRow> = sqlx::query_as(
        "SELECT id, url, ordering, rate_limit, failures, failing_since, updated_at, headers, secret,
             CASE WHEN previous_until > $2 THEN previous_secret END AS previous_secret
         FROM webhooks WHERE workspace_id = $1 AND enabled AND deleted_at IS NULL",
    )
    .bind(workspace_id)
    .bind(db::now())
    .fetch_all(&mut *connection)
    .await?;
    let mut all = Targets::default();
    for endpoint in endpoints {
        all.add(endpoint.id, endpoint.into_target(workspace_id, sealer));
    }
    let callbacks: Vec<(Uuid, String)> = sqlx::query_as(
        "SELECT id, url FROM webhook_callbacks AS callback
         WHERE workspace_id = $1 AND url IS NOT NULL AND EXISTS (
             SELECT FROM webhook_deliveries
             WHERE workspace_id = $1 AND webhook_id = callback.id AND state = 'pending' AND run_at <= $2
         )
         ORDER BY id LIMIT $3",
    )
    .bind(workspace_id)
    .bind(db::now())
    .bind(CALLBACKS)
    .fetch_all(&mut *connection)
    .await?;
    if callbacks.is_empty() {
        return Ok(all);
    }
    let secrets = callback_secrets(connection, workspace_id).await?;
    for (id, url) in callbacks {
        let place = (workspace_id, workspace_id, secret::FIELD);
        let signers = secrets.as_ref().ok_or_else(|| Error::internal("a callback has no secret"));
        let signers = signers.and_then(|secrets| secrets.signers(place, sealer));
        all.add(id, signers.map(|signers| callback(id, url, signers)));
    }
    Ok(all)
}

async fn callback_secrets(connection: &mut PgConnection, workspace_id: Uuid) -> Result<Option<Secrets>> {
    let secrets = sqlx::query_as(
        "SELECT secret, CASE WHEN previous_until > $2 THEN previous_secret END AS previous_secret
         FROM webhook_callback_secrets WHERE workspace_id = $1",
    );
    Ok(secrets.bind(workspace_id).bind(db::now()).fetch_optional(connection).await?)
}

fn callback(id: Uuid, url: String, signers: Vec<Signer>) -> Target {
    Target {
        id,
        url,
        headers: BTreeMap::new(),
        rate_limit: None,
        ordering: Ordering::None,
        failures: 0,
        failing_since: None,
        updated_at: None,
        signers,
    }
}

impl Secrets {
    fn signers(&self, place: super::seal::Place<'_>, sealer: &Sealer) -> Result<Vec<Signer>> {
        let signer =
            |sealed: &Vec<u8>| Signer::new(&sealer.open(place, sealed)?).map_err(|error| Error::Internal(error.into()));
        std::iter::once(&self.secret).chain(&self.previous_secret).map(signer).collect()
    }
}

impl EndpointRow {
    fn into_target(self, workspace_id: Uuid, sealer: &Sealer) -> Result<Target> {
        let secrets = Secrets { secret: self.secret, previous_secret: self.previous_secret };
        let signers = secrets.signers((workspace_id, self.id, secret::FIELD), sealer)?;
        let headers = serde_json::from_str(&sealer.open((workspace_id, self.id, HEADERS), &self.headers)?)?;
        Ok(Target {
            id: self.id,
            url: self.url,
            headers,
            rate_limit: self.rate_limit.and_then(|limit| u32::try_from(limit).ok()),
            ordering: self.ordering,
            failures: self.failures,
            failing_since: self.failing_since,
            updated_at: Some(self.updated_at),
            signers,
        })
    }
}

/// An endpoint as it chooses events.
#[derive(Debug)]
pub(super) struct Subscription {
    pub id: Uuid,
    pub patterns: Patterns,
    pub ordering: Ordering,
    pub bulk: Bulk,
    pub after_event: i64,
    pub scopes: Scopes,
}

impl Subscription {
    /// Whether the endpoint gets an event.
    pub fn wants(&self, event: &Event) -> bool {
        self.wants_anyway(event) && self.patterns.matches(event.event_type)
    }

    /// Whether the endpoint may get an event, even if it is of another type.
    pub fn wants_anyway(&self, event: &Event) -> bool {
        event.cursor > self.after_event && super::scopes::may_read(self.scopes, event)
    }
}

/// Reads which events the enabled endpoints of a workspace want; with an id, only that endpoint, even if it is
/// disabled.
pub(super) async fn subscriptions(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    id: Option<Uuid>,
) -> Result<Vec<Subscription>> {
    type Row = (Uuid, Vec<String>, Ordering, Bulk, i64, Scopes);
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT id, events, ordering, bulk, after_event, scopes FROM webhooks
         WHERE workspace_id = $1 AND deleted_at IS NULL AND (id = $2 OR ($2 IS NULL AND enabled))",
    )
    .bind(workspace_id)
    .bind(id)
    .fetch_all(connection)
    .await?;
    let subscription = |(id, events, ordering, bulk, after_event, scopes): Row| Subscription {
        id,
        patterns: Patterns::stored(events),
        ordering,
        bulk,
        after_event,
        scopes,
    };
    Ok(rows.into_iter().map(subscription).collect())
}
