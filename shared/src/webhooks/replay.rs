//! Replays: a job that delivers past events to an endpoint again.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use utoipa::ToSchema;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema};
use uuid::Uuid;

use super::insert::NewDelivery;
use super::target::{Subscription, subscriptions};
use super::{deliveries, endpoint, fan_out, queue};
use crate::error::{Error, FieldError, Result};
use crate::events::Actor;
use crate::events::feed::{self, Filter};
use crate::platform::db;
use crate::queue::{Job, Page, Pages, Payload};
use crate::values::Time;
use crate::values::json_body::Object;
use crate::values::json_schema::{Shape, closed};

/// The most events or deliveries of one page.
const PAGE: u32 = 500;

/// The job, with its parameters.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReplayWebhook {
    /// The endpoint.
    pub webhook_id: Uuid,
    /// The time of the first event.
    pub since: Time,
    /// The time after the last event.
    pub until: Time,
    /// Whether only deliveries that failed are repeated.
    pub failed_only: bool,
}

impl Payload for ReplayWebhook {
    const KIND: &'static str = "replay_webhook";
    const QUEUE: &'static str = "workflows";

    type Result = Replayed;
}

/// The job's result.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[schema(as = ReplayWebhookResult)]
pub struct Replayed {
    /// The events that are delivered again.
    deliveries: i64,
}

impl ReplayWebhook {
    /// Reads the body of a request.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every fault.
    pub fn read(webhook_id: Uuid, mut body: Object) -> Result<Self> {
        let now = db::now();
        let since: Option<Time> = body.required("since");
        let until: Time = body.present("until").unwrap_or(now);
        let failed_only: bool = body.present("failed_only").unwrap_or(false);
        if since.is_some_and(|since| since >= until) {
            body.refuse(FieldError::new("since", "out_of_range", "must be before `until` and in the past"));
        }
        body.finish()?;
        let since = since.ok_or_else(|| Error::internal("a body was accepted without `since`"))?;
        Ok(Self { webhook_id, since, until: until.min(now), failed_only })
    }

    /// Starts the job.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Conflict`] for a disabled endpoint.
    pub async fn start(&self, connection: &mut PgConnection, actor: &Actor) -> Result<Job> {
        deliveries::check_enabled(connection, actor.workspace_id, self.webhook_id).await?;
        crate::queue::start_run(connection, actor.workspace_id, actor.request_id.as_deref(), self).await
    }

    /// The schema of the body.
    pub fn schema() -> RefOr<Schema> {
        let time = |about: &str| ObjectBuilder::from(Time::shape()).description(Some(about));
        let only = ObjectBuilder::from(bool::shape()).description(Some("Repeats only deliveries that failed."));
        let body = ObjectBuilder::new()
            .description(Some("The events to deliver again."))
            .property("since", time("The time of the first event."))
            .property("until", time("The time after the last event; now by default."))
            .property("failed_only", only)
            .required("since");
        closed(body.examples([serde_json::json!({ "since": "2026-01-15T10:00:00Z", "failed_only": true })]))
    }

    async fn subscription(&self, connection: &mut PgConnection, workspace_id: Uuid) -> Result<Option<Subscription>> {
        let found = subscriptions(connection, workspace_id, Some(self.webhook_id)).await?.pop();
        // Events before its creation count, too.
        Ok(found.map(|subscription| Subscription { after_event: i64::MIN, ..subscription }))
    }

    /// Repeats the events of a page, and returns their number and the cursor of the next page.
    async fn events(
        &self,
        connection: &mut PgConnection,
        workspace_id: Uuid,
        after: i64,
    ) -> Result<(i64, Option<Cursor>)> {
        let Some(subscription) = self.subscription(connection, workspace_id).await? else { return Ok((0, None)) };
        let reach = feed::reach(connection, workspace_id).await?;
        let filter =
            Filter { types: subscription.patterns.types().collect(), without_previews: true, ..Filter::default() };
        let part = feed::read(connection, workspace_id, Some(after.max(reach.pruned)), &filter, PAGE).await?;
        let is_in_time = |at: DateTime<Utc>| (self.since..self.until).contains(&at);
        let events = part.events.iter().filter(|event| is_in_time(event.created_at) && subscription.wants(event));
        let mut deliveries: Vec<NewDelivery> = events.map(|event| subscription.delivery(event)).collect();
        let ids: Vec<Uuid> = deliveries.iter().map(NewDelivery::id).collect();
        fan_out::add(connection, workspace_id, &part.events, &mut deliveries).await?;
        reset(connection, workspace_id, &ids).await?;
        // Numbers rise with the time at which they are given, which is soon after the event.
        let is_past = part.next > (self.until + chrono::TimeDelta::hours(1)).timestamp_micros();
        Ok((ids.len() as i64, (part.has_more && !is_past).then_some(Cursor::Event(part.next))))
    }

    /// Repeats failed deliveries of a page, and returns their number and the cursor of the next page.
    async fn failed(
        &self,
        connection: &mut PgConnection,
        workspace_id: Uuid,
        after: Uuid,
    ) -> Result<(i64, Option<Cursor>)> {
        let ids: Vec<Uuid> = sqlx::query_scalar(
            "SELECT id FROM webhook_deliveries
             WHERE workspace_id = $1 AND webhook_id = $2 AND id > $3 AND state = 'failed'
                 AND created_at >= $4 AND created_at < $5
             ORDER BY id LIMIT $6",
        )
        .bind(workspace_id)
        .bind(self.webhook_id)
        .bind(after)
        .bind(self.since)
        .bind(self.until)
        .bind(i64::from(PAGE))
        .fetch_all(&mut *connection)
        .await?;
        reset(connection, workspace_id, &ids).await?;
        Ok((ids.len() as i64, ids.last().copied().map(Cursor::Delivery)))
    }
}

/// Makes deliveries that ended due again, with all attempts.
async fn reset(connection: &mut PgConnection, workspace_id: Uuid, ids: &[Uuid]) -> Result<()> {
    sqlx::query(
        "UPDATE webhook_deliveries
         SET state = 'pending', attempt = attempt + 1, attempts = 0, run_at = $3, updated_at = $3, delivered_at = NULL
         WHERE workspace_id = $1 AND id = ANY ($2) AND state IN ('delivered', 'failed')",
    )
    .bind(workspace_id)
    .bind(ids)
    .bind(db::now())
    .execute(connection)
    .await?;
    Ok(())
}

/// Where a page begins: after the event with a number, or after a delivery.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cursor {
    /// After the event with this number.
    Event(i64),
    /// After this delivery.
    Delivery(Uuid),
}

impl Pages for ReplayWebhook {
    type Cursor = Cursor;
    type Tally = Replayed;

    fn begin(&self) -> Replayed {
        Replayed::default()
    }

    fn done(&self, tally: &Replayed) -> i64 {
        tally.deliveries
    }

    async fn page(&self, page: &mut Page<'_>, cursor: Option<Cursor>, tally: &mut Replayed) -> Result<Option<Cursor>> {
        let (workspace_id, connection) = (page.job.workspace_id, &mut *page.connection);
        queue::lock(connection, workspace_id).await?;
        // An endpoint that was deleted meanwhile gets nothing.
        if let Err(Error::NotFound) = endpoint::get(connection, workspace_id, self.webhook_id).await {
            return Ok(None);
        }
        // The number of an event is not smaller than its time in microseconds.
        let first = if self.failed_only {
            Cursor::Delivery(Uuid::nil())
        } else {
            Cursor::Event(self.since.timestamp_micros() - 1)
        };
        let (count, next) = match cursor.unwrap_or(first) {
            Cursor::Delivery(after) => self.failed(connection, workspace_id, after).await?,
            Cursor::Event(after) => self.events(connection, workspace_id, after).await?,
        };
        queue::set_due(connection, workspace_id).await?;
        tally.deliveries += count;
        Ok(next)
    }
}
