//! Events for each record that a job wrote, for webhooks that want them.

use std::collections::{HashMap, HashSet};

use serde_json::value::RawValue;
use sqlx::{AssertSqlSafe, PgConnection};
use uuid::Uuid;

use crate::crm::customers::Customer;
use crate::crm::feedback::Feedback;
use crate::crm::interactions::{CustomerInteraction, LeadInteraction};
use crate::crm::leads::Lead;
use crate::crm::orders::Order;
use crate::error::Result;
use crate::events::feed::EventActor;
use crate::events::{ActorKind, Event, EventId, EventType, Subject, SubjectType};
use crate::imports::{self, Effect, EffectKind, Importable};
use crate::platform::db;
use crate::records::Record;
use crate::webhooks::{self, FannedOut, Hold, Step, Walk};

/// The records of one step.
const PAGE: i64 = 100;

/// Does one step of the workspace's first walk: adds the deliveries of the next records that the job wrote.
///
/// # Errors
/// [`Error::Superseded`](crate::Error::Superseded) if another worker has taken over the workspace.
pub async fn walk(connection: &mut PgConnection, hold: Hold) -> Result<FannedOut> {
    let walks = webhooks::walks(connection, hold.workspace_id).await?;
    let Some(walk) = walks.first().copied() else { return Ok(FannedOut::default()) };
    let created = [EffectKind::Created];
    // The first stage finds all but what imports of other types created.
    let (effects, is_last) = match walk.stage {
        0 => {
            let kinds = [EffectKind::Created, EffectKind::Updated, EffectKind::Restored];
            (effects::<Lead>(connection, hold, walk, &kinds).await?, false)
        }
        1 => (effects::<Customer>(connection, hold, walk, &created).await?, false),
        2 => (effects::<LeadInteraction>(connection, hold, walk, &created).await?, false),
        3 => (effects::<CustomerInteraction>(connection, hold, walk, &created).await?, false),
        4 => (effects::<Order>(connection, hold, walk, &created).await?, false),
        5 => (effects::<Feedback>(connection, hold, walk, &created).await?, true),
        _ => (Vec::new(), true),
    };
    let next = match effects.last() {
        Some(last) if effects.len() as i64 == PAGE => Some((walk.stage, Some(last.position))),
        _ if is_last => None,
        _ => Some((walk.stage + 1, None)),
    };
    let events = events(connection, hold.workspace_id, walk, &effects).await?;
    let walked = webhooks::advance(connection, hold, walk, Step { events, next }).await?;
    Ok(FannedOut { has_more: walked.has_more || walks.len() > 1, ..walked })
}

async fn effects<R: Importable>(
    connection: &mut PgConnection,
    hold: Hold,
    walk: Walk,
    kinds: &[EffectKind],
) -> Result<Vec<Effect>> {
    imports::effects::<R>(connection, (hold.workspace_id, walk.job_id), kinds, walk.after, PAGE).await
}

/// The events of records. Those that are deleted by now, or have had an event of their own since, have none, and one
/// that the job wrote more than once has that of its last change.
async fn events(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    walk: Walk,
    effects: &[Effect],
) -> Result<Vec<Event>> {
    let mut present = HashMap::new();
    read::<Lead>(connection, workspace_id, effects, &mut present).await?;
    read::<Customer>(connection, workspace_id, effects, &mut present).await?;
    read::<LeadInteraction>(connection, workspace_id, effects, &mut present).await?;
    read::<CustomerInteraction>(connection, workspace_id, effects, &mut present).await?;
    read::<Order>(connection, workspace_id, effects, &mut present).await?;
    read::<Feedback>(connection, workspace_id, effects, &mut present).await?;
    for id in reported(connection, workspace_id, effects).await? {
        present.remove(&id);
    }
    let mut events = Vec::with_capacity(present.len());
    for effect in effects.iter().rev() {
        let Some((kind, event_type)) = types(effect) else { continue };
        if let Some(record) = present.remove(&effect.id) {
            let subject = Subject { kind, id: effect.id };
            events.push(event(workspace_id, walk, (event_type, subject), (effect.position, record)));
        }
    }
    events.reverse();
    Ok(events)
}

fn types(effect: &Effect) -> Option<(SubjectType, EventType)> {
    let event_type = EventType::from_word(&format!("{}.{}", effect.kind, effect.outcome.as_str()))?;
    Some((SubjectType::from_word(&effect.kind)?, event_type))
}

/// The event of a record. Its id is made from the job and the change, so that a walk that is repeated delivers none
/// twice.
fn event(
    workspace_id: Uuid,
    walk: Walk,
    (event_type, subject): (EventType, Subject),
    (position, data): (Uuid, Box<RawValue>),
) -> Event {
    let hash = Uuid::new_v5(&walk.job_id, position.as_bytes());
    Event {
        id: EventId(Uuid::from_u64_pair(walk.job_id.as_u64_pair().0, hash.as_u64_pair().1)),
        event_type,
        created_at: db::now(),
        workspace_id,
        subject,
        actor: EventActor::new(ActorKind::Job, Some(walk.job_id)),
        request_id: None,
        trace_context: None,
        data,
        changes: None,
        cursor: walk.number,
    }
}

/// Adds the records of a type as they are now.
async fn read<R: Record>(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    effects: &[Effect],
    present: &mut HashMap<Uuid, Box<RawValue>>,
) -> Result<()> {
    let ids = effects.iter().filter(|effect| effect.kind == R::TYPE.as_str()).map(|effect| effect.id);
    let ids: Vec<Uuid> = ids.collect();
    if ids.is_empty() {
        return Ok(());
    }
    let sql = format!("SELECT {} FROM {} WHERE workspace_id = $1 AND id = ANY ($2)", R::columns().selected, R::TABLE);
    let records: Vec<R> = sqlx::query_as(AssertSqlSafe(sql)).bind(workspace_id).bind(ids).fetch_all(connection).await?;
    for record in records {
        present.insert(record.id(), serde_json::value::to_raw_value(&record)?);
    }
    Ok(())
}

/// The records that have had an event of their own since the job wrote them, also one that has no number yet.
async fn reported(connection: &mut PgConnection, workspace_id: Uuid, effects: &[Effect]) -> Result<HashSet<Uuid>> {
    let reported: Vec<Uuid> = sqlx::query_scalar(
        "SELECT effect.id FROM unnest($2::uuid[], $3::timestamptz[]) AS effect (id, at)
         WHERE EXISTS (
             SELECT FROM events
             WHERE events.workspace_id = $1 AND subject_id = effect.id AND events.created_at > effect.at
         )
         UNION
         SELECT subject_id FROM new_events WHERE new_events.workspace_id = $1 AND subject_id = ANY ($2)",
    )
    .bind(workspace_id)
    .bind(effects.iter().map(|effect| effect.id).collect::<Vec<_>>())
    .bind(effects.iter().map(|effect| effect.at).collect::<Vec<_>>())
    .fetch_all(connection)
    .await?;
    Ok(reported.into_iter().collect())
}
