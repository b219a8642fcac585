//! What the worker that delivers does in the database: loading due deliveries and recording attempts.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::TimeDelta;
use sqlx::{Connection, FromRow, PgConnection};
use uuid::Uuid;

use super::queue::{Hold, fence};
use super::{DeliveryState, disable, plan};
use crate::error::Result;
use crate::mail::place::is_released;
use crate::platform::db;
use crate::values::Time;

/// How long an endpoint may fail before it is disabled.
const PATIENCE: TimeDelta = TimeDelta::days(5);

/// A delivery that is due.
#[derive(Debug, FromRow)]
pub struct Due {
    /// The id.
    pub id: Uuid,
    /// The endpoint or callback.
    pub webhook_id: Uuid,
    /// The event.
    pub event_id: Uuid,
    /// The type of the event.
    pub event_type: String,
    /// The subject, if its events are delivered one after the other.
    pub subject_id: Option<Uuid>,
    /// The number that fences the recording of the attempt.
    pub attempt: i32,
    /// The failed attempts so far.
    pub attempts: i16,
    /// When it became due.
    pub run_at: Time,
    /// The body.
    pub body: String,
    /// The request that caused the event, if one did.
    pub request_id: Option<String>,
    /// The stored [trace](crate::platform::trace) in which the event happened.
    pub trace_context: Option<String>,
}

/// Loads due deliveries, up to a number for each target, the oldest first and without those that are known already.
/// Loads nothing while the database is on hold.
pub async fn load(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    rooms: &[(Uuid, i64)],
    known: &[Uuid],
    public_url: Option<&str>,
) -> Result<Vec<Due>> {
    let (targets, rooms): (Vec<Uuid>, Vec<i64>) = rooms.iter().copied().unzip();
    let due = sqlx::query_as(concat!(
        "SELECT due.id, wanted.webhook_id, due.event_id, due.event_type, due.subject_id, due.attempt, due.attempts, due.run_at,
             message.body, message.request_id, message.trace_context
         FROM unnest($2::uuid[], $3::bigint[]) AS wanted (webhook_id, room)
         CROSS JOIN LATERAL (
             SELECT id, event_id, event_type, subject_id, attempt, attempts, run_at FROM webhook_deliveries
             WHERE workspace_id = $1 AND webhook_id = wanted.webhook_id AND state = 'pending' AND run_at <= $4
                 AND id <> ALL ($5)
             ORDER BY run_at, id LIMIT wanted.room
         ) AS due
         JOIN webhook_messages AS message ON message.workspace_id = $1 AND message.id = due.event_id
         WHERE ",
        is_released!("$6")
    ));
    let due = due.bind(workspace_id).bind(targets).bind(rooms).bind(db::now()).bind(known).bind(public_url);
    Ok(due.fetch_all(connection).await?)
}

/// What came of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// The delivery.
    pub id: Uuid,
    /// The endpoint or callback.
    pub webhook_id: Uuid,
    /// The subject, if its events are delivered one after the other.
    pub subject_id: Option<Uuid>,
    /// The number that the delivery had when it was loaded.
    pub attempt: i32,
    /// The failed attempts before.
    pub attempts: i16,
    /// When the delivery became due.
    pub run_at: Time,
    /// Whether the receiver accepted the event.
    pub accepted: bool,
    /// The status of the response.
    pub status: Option<u16>,
    /// How long the attempt took.
    pub latency: Duration,
    /// The first part of the response.
    pub response: Option<String>,
    /// Why the attempt failed.
    pub error: Option<String>,
    /// How long the receiver asks to wait.
    pub retry_after: Option<Duration>,
}

impl Attempt {
    /// The state of the delivery after the attempt, and when it is attempted again.
    fn outcome(&self) -> (DeliveryState, Option<Duration>) {
        match plan::wait(self.attempts.saturating_add(1), self.retry_after) {
            _ if self.accepted => (DeliveryState::Delivered, None),
            Some(wait) => (DeliveryState::Pending, Some(wait)),
            None => (DeliveryState::Failed, None),
        }
    }

    /// Whether no further attempt follows.
    fn is_last(&self) -> bool {
        self.outcome().1.is_none()
    }
}

/// The health of an endpoint after attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Health {
    /// The endpoint.
    pub webhook_id: Uuid,
    /// The version of the endpoint that the attempts were for.
    pub updated_at: Time,
    /// Failed attempts in a row.
    pub failures: i32,
    /// Since when only attempts failed.
    pub failing_since: Option<Time>,
}

/// What recording attempts has changed.
#[derive(Debug, Default)]
pub struct Recorded {
    /// The endpoints that were disabled.
    pub disabled: Vec<Uuid>,
    /// Whether deliveries are due that waited for these.
    pub has_released: bool,
    /// Whether an email was added to the outbox.
    pub has_email: bool,
}

/// Records attempts, in one transaction.
///
/// # Errors
/// [`Error::Superseded`](crate::Error::Superseded) if another worker has taken over the workspace.
pub async fn record(
    connection: &mut PgConnection,
    hold: Hold,
    attempts: &[Attempt],
    health: &[Health],
    sender: &crate::platform::config::Mail,
) -> Result<Recorded> {
    let mut transaction = connection.begin().await?;
    fence(&mut transaction, hold).await?;
    let now = db::now();
    write(&mut transaction, hold.workspace_id, attempts, now).await?;
    forget_callbacks(&mut transaction, hold.workspace_id, attempts).await?;
    let has_released = release_next(&mut transaction, hold.workspace_id, attempts, now).await?;
    write_health(&mut transaction, hold.workspace_id, health).await?;
    let mut recorded = Recorded { has_released, ..Recorded::default() };
    for endpoint in health.iter().filter(|it| it.failing_since.is_some_and(|since| now - since >= PATIENCE)) {
        if let Some(has_email) = disable::disable(&mut transaction, hold.workspace_id, *endpoint, sender).await? {
            recorded.disabled.push(endpoint.webhook_id);
            recorded.has_email |= has_email;
        }
    }
    transaction.commit().await?;
    Ok(recorded)
}

async fn write(connection: &mut PgConnection, workspace_id: Uuid, attempts: &[Attempt], now: Time) -> Result<()> {
    fn all<'a, T>(attempts: &'a [Attempt], field: impl Fn(&'a Attempt) -> T) -> Vec<T> {
        attempts.iter().map(field).collect()
    }
    let run_at = |wait: Option<Duration>| wait.map_or(now, |wait| now + wait);
    let (states, run_ats): (Vec<&str>, Vec<Time>) =
        attempts.iter().map(Attempt::outcome).map(|(state, wait)| (state.as_str(), run_at(wait))).unzip();
    sqlx::query(
        "UPDATE webhook_deliveries AS delivery
         SET state = made.state, attempt = delivery.attempt + 1, attempts = delivery.attempts + 1,
             run_at = made.run_at, status = made.status, latency_ms = made.latency_ms, response = made.response,
             error = made.error, updated_at = $2::timestamptz,
             delivered_at = CASE WHEN made.state = 'delivered' THEN $2::timestamptz END
         FROM unnest($3::uuid[], $4::integer[], $5::text[], $6::timestamptz[], $7::smallint[], $8::integer[],
                 $9::text[], $10::text[])
             AS made (id, attempt, state, run_at, status, latency_ms, response, error)
         WHERE delivery.workspace_id = $1 AND delivery.id = made.id AND delivery.attempt = made.attempt",
    )
    .persistent(false)
    .bind(workspace_id)
    .bind(now)
    .bind(all(attempts, |it| it.id))
    .bind(all(attempts, |it| it.attempt))
    .bind(states)
    .bind(run_ats)
    .bind(all(attempts, |it| it.status.and_then(|status| i16::try_from(status).ok())))
    .bind(all(attempts, |it| i32::try_from(it.latency.as_millis()).unwrap_or(i32::MAX)))
    .bind(all(attempts, |it| it.response.as_deref()))
    .bind(all(attempts, |it| it.error.as_deref()))
    .execute(connection)
    .await?;
    Ok(())
}

/// Deletes callbacks that have no attempts left.
async fn forget_callbacks(connection: &mut PgConnection, workspace_id: Uuid, attempts: &[Attempt]) -> Result<()> {
    let ended: BTreeSet<Uuid> = attempts.iter().filter(|it| it.is_last()).map(|it| it.webhook_id).collect();
    sqlx::query("DELETE FROM webhook_callbacks WHERE workspace_id = $1 AND id = ANY ($2)")
        .bind(workspace_id)
        .bind(ended.into_iter().collect::<Vec<_>>())
        .execute(connection)
        .await?;
    Ok(())
}

/// Makes the next delivery of each subject due whose delivery ended. Returns whether there is one.
async fn release_next(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    attempts: &[Attempt],
    now: Time,
) -> Result<bool> {
    let ended = attempts.iter().filter(|it| it.is_last()).filter_map(|it| it.subject_id.map(|id| (it.webhook_id, id)));
    let (webhooks, subjects): (Vec<Uuid>, Vec<Uuid>) = ended.unzip();
    if webhooks.is_empty() {
        return Ok(false);
    }
    let released = sqlx::query(
        "UPDATE webhook_deliveries SET state = 'pending', run_at = $4
         WHERE workspace_id = $1 AND id = ANY (ARRAY(
             SELECT next.id FROM unnest($2::uuid[], $3::uuid[]) AS ended (webhook_id, subject_id)
             CROSS JOIN LATERAL (
                 SELECT id, state FROM webhook_deliveries
                 WHERE workspace_id = $1 AND webhook_id = ended.webhook_id AND subject_id = ended.subject_id
                     AND state IN ('pending', 'waiting')
                 ORDER BY number, id LIMIT 1
             ) AS next
             WHERE next.state = 'waiting'
         ))",
    )
    .bind(workspace_id)
    .bind(webhooks)
    .bind(subjects)
    .bind(now)
    .execute(connection)
    .await?;
    Ok(released.rows_affected() > 0)
}

async fn write_health(connection: &mut PgConnection, workspace_id: Uuid, health: &[Health]) -> Result<()> {
    if health.is_empty() {
        return Ok(());
    }
    // An endpoint that was changed meanwhile has the health that the change gave it.
    sqlx::query(
        "UPDATE webhooks SET failures = made.failures, failing_since = made.failing_since
         FROM unnest($2::uuid[], $3::timestamptz[], $4::integer[], $5::timestamptz[])
             AS made (id, updated_at, failures, failing_since)
         WHERE webhooks.workspace_id = $1 AND webhooks.id = made.id AND webhooks.updated_at = made.updated_at",
    )
    .bind(workspace_id)
    .bind(health.iter().map(|it| it.webhook_id).collect::<Vec<_>>())
    .bind(health.iter().map(|it| it.updated_at).collect::<Vec<_>>())
    .bind(health.iter().map(|it| it.failures).collect::<Vec<_>>())
    .bind(health.iter().map(|it| it.failing_since).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}
