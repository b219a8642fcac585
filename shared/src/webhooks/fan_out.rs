//! From events to deliveries.

use std::collections::{BTreeSet, HashMap, HashSet};

use sqlx::{Connection, FromRow, PgConnection};
use uuid::Uuid;

use super::insert::{Message, NewDelivery, insert};
use super::queue::{Hold, fence};
use super::target::{Subscription, subscriptions};
use super::walks::{self, Walk};
use super::{Bulk, DeliveryState, Ordering};
use crate::error::{Error, Result};
use crate::events::feed::{self, Filter, Part};
use crate::events::{Event, EventType};

/// The most events of one transaction.
const BATCH: u32 = 500;

/// The events that end a job.
pub(super) const ENDS: [EventType; 3] = [EventType::JobSucceeded, EventType::JobFailed, EventType::JobCancelled];

/// What a fan-out did.
#[derive(Debug, Clone, Copy, Default)]
pub struct FannedOut {
    /// The deliveries that were added.
    pub deliveries: usize,
    /// Whether a callback is among them.
    pub has_callbacks: bool,
    /// Whether walks over what jobs wrote begin.
    pub has_walks: bool,
    /// Whether there are more events.
    pub has_more: bool,
}

/// Adds the deliveries of the next events of a workspace, and moves its position behind them, in one transaction.
///
/// # Errors
/// [`Error::Superseded`] if another worker has taken over the workspace.
pub async fn fan_out(connection: &mut PgConnection, hold: Hold) -> Result<FannedOut> {
    let workspace_id = hold.workspace_id;
    let mut transaction = connection.begin().await?;
    let last_event = fence(&mut transaction, hold).await?;
    let subscriptions = subscriptions(&mut transaction, workspace_id, None).await?;
    let types = wanted(&mut transaction, workspace_id, &subscriptions).await?;
    let part = read(&mut transaction, workspace_id, last_event, types).await?;
    let mut deliveries = Vec::new();
    for event in &part.events {
        let wanting = subscriptions.iter().filter(|subscription| subscription.wants(event));
        deliveries.extend(wanting.map(|subscription| subscription.delivery(event)));
    }
    let has_callbacks =
        add_callbacks(&mut transaction, workspace_id, (&part.events, &subscriptions), &mut deliveries).await?;
    add(&mut transaction, workspace_id, &part.events, &mut deliveries).await?;
    let walks = walks_of(&part.events, &subscriptions);
    walks::begin(&mut transaction, workspace_id, &walks).await?;
    if part.next != last_event {
        sqlx::query("UPDATE webhook_queues SET last_event = $2 WHERE workspace_id = $1")
            .bind(workspace_id)
            .bind(part.next)
            .execute(&mut *transaction)
            .await?;
    }
    transaction.commit().await?;
    let (deliveries, has_walks) = (deliveries.len(), !walks.is_empty());
    Ok(FannedOut { deliveries, has_callbacks, has_walks, has_more: part.has_more })
}

/// The walks over what jobs wrote that ended now.
fn walks_of(events: &[Event], subscriptions: &[Subscription]) -> Vec<Walk> {
    let each = subscriptions.iter().filter(|subscription| subscription.bulk == Bulk::Each);
    let mut walks = HashMap::new();
    for subscription in each {
        let ends = events.iter().filter(|it| ENDS.contains(&it.event_type) && subscription.wants_anyway(it));
        for end in ends {
            let (webhook_id, job_id) = (subscription.id, end.subject.id);
            let walk = Walk { webhook_id, job_id, number: end.cursor, stage: 0, after: None };
            // The last one of a job that was retried meanwhile.
            walks.insert((webhook_id, job_id), walk);
        }
    }
    walks.into_values().collect()
}

impl Subscription {
    /// The delivery of an event.
    pub(super) fn delivery(&self, event: &Event) -> NewDelivery {
        let subject = (self.ordering == Ordering::Subject).then_some(event.subject.id);
        NewDelivery::of(self.id, event, subject, DeliveryState::Pending)
    }
}

/// The types of events that somebody wants.
async fn wanted(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    subscriptions: &[Subscription],
) -> Result<Vec<EventType>> {
    let has_callbacks: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM webhook_callbacks WHERE workspace_id = $1 AND event_id IS NULL)",
    )
    .bind(workspace_id)
    .fetch_one(connection)
    .await?;
    let has_each = subscriptions.iter().any(|subscription| subscription.bulk == Bulk::Each);
    let is_wanted = |event_type: &EventType| {
        ((has_callbacks || has_each) && ENDS.contains(event_type))
            || subscriptions.iter().any(|subscription| subscription.patterns.matches(*event_type))
    };
    Ok(EventType::PUBLIC.iter().copied().filter(is_wanted).collect())
}

/// Reads the next events. Those that were deleted meanwhile are left out.
async fn read(connection: &mut PgConnection, workspace_id: Uuid, after: i64, types: Vec<EventType>) -> Result<Part> {
    let reach = feed::reach(connection, workspace_id).await?;
    if types.is_empty() || reach.number <= after {
        return Ok(Part { events: Vec::new(), next: reach.number.max(after), has_more: false });
    }
    let filter = Filter { types, without_previews: true, ..Filter::default() };
    feed::read(connection, workspace_id, Some(after.max(reach.pruned)), &filter, BATCH).await
}

/// Adds deliveries with their messages. Of the deliveries to an endpoint about one subject, all but the first wait.
pub(super) async fn add(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    events: &[Event],
    deliveries: &mut [NewDelivery],
) -> Result<()> {
    let mut open = open_subjects(connection, workspace_id, deliveries).await?;
    for delivery in deliveries.iter_mut() {
        if let Some(subject_id) = delivery.subject_id
            && !open.insert((delivery.webhook_id, subject_id))
        {
            delivery.state = DeliveryState::Waiting;
        }
    }
    let wanted: HashSet<Uuid> = deliveries.iter().map(NewDelivery::event_id).collect();
    let messages = events.iter().filter(|event| wanted.contains(&event.id.0)).map(Message::of);
    insert(connection, workspace_id, &messages.collect::<Result<Vec<_>>>()?, deliveries).await
}

/// The subjects of these deliveries with a delivery that has not ended.
async fn open_subjects(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    deliveries: &[NewDelivery],
) -> Result<HashSet<(Uuid, Uuid)>> {
    let subjects = deliveries.iter().filter_map(|delivery| Some((delivery.webhook_id, delivery.subject_id?)));
    let (webhooks, subjects): (Vec<Uuid>, Vec<Uuid>) = subjects.collect::<BTreeSet<_>>().into_iter().unzip();
    if webhooks.is_empty() {
        return Ok(HashSet::new());
    }
    let open: Vec<(Uuid, Uuid)> = sqlx::query_as(
        "SELECT webhook_id, subject_id FROM unnest($2::uuid[], $3::uuid[]) AS new (webhook_id, subject_id)
         WHERE EXISTS (
             SELECT FROM webhook_deliveries AS open
             WHERE open.workspace_id = $1 AND open.webhook_id = new.webhook_id AND open.subject_id = new.subject_id
                 AND open.state IN ('pending', 'waiting')
         )",
    )
    .bind(workspace_id)
    .bind(webhooks)
    .bind(subjects)
    .fetch_all(connection)
    .await?;
    Ok(open.into_iter().collect())
}

#[derive(FromRow)]
struct Callback {
    id: Uuid,
    job_id: Uuid,
    webhook_id: Option<Uuid>,
}

/// Adds the deliveries to those who want to know the end of a job. Returns whether there are any.
async fn add_callbacks(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    (events, subscriptions): (&[Event], &[Subscription]),
    deliveries: &mut Vec<NewDelivery>,
) -> Result<bool> {
    let ends: HashMap<Uuid, &Event> =
        events.iter().rev().filter(|event| ENDS.contains(&event.event_type)).map(|it| (it.subject.id, it)).collect();
    if ends.is_empty() {
        return Ok(false);
    }
    let callbacks: Vec<Callback> = sqlx::query_as(
        "SELECT id, job_id, webhook_id FROM webhook_callbacks
         WHERE workspace_id = $1 AND job_id = ANY ($2) AND event_id IS NULL",
    )
    .bind(workspace_id)
    .bind(ends.keys().copied().collect::<Vec<_>>())
    .fetch_all(&mut *connection)
    .await?;
    let mut known: HashSet<Uuid> = deliveries.iter().map(NewDelivery::id).collect();
    let mut answered = Vec::new();
    for callback in &callbacks {
        let event = ends.get(&callback.job_id).ok_or_else(|| Error::internal("a callback is for another job"))?;
        let delivery = match callback.webhook_id {
            None => Some(NewDelivery::of(callback.id, event, None, DeliveryState::Pending)),
            Some(id) => {
                subscriptions.iter().find(|it| it.id == id && it.wants_anyway(event)).map(|it| it.delivery(event))
            }
        };
        deliveries.extend(delivery.filter(|delivery| known.insert(delivery.id())));
        answered.push((callback.id, event.id.0));
    }
    super::callbacks::answered(connection, workspace_id, &answered).await?;
    Ok(!answered.is_empty())
}
