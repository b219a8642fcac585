//! Events for each record that a job wrote, for webhooks that want them.

use std::collections::{HashMap, HashSet};

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
use crate::webhooks::{self, FannedOut, Hold, Step, Walk};

/// The records of one step.
const PAGE: i64 = 100;
/// What a job does to records that exist afterwards.
const KINDS: [EffectKind; 3] = [EffectKind::Created, EffectKind::Updated, EffectKind::Restored];

/// Does one step of the workspace's first walk: adds the deliveries of the next records that the job wrote.
///
/// # Errors
/// [`Error::Superseded`](crate::Error::Superseded) if another worker has taken over the workspace.
pub async fn walk(connection: &mut PgConnection, hold: Hold) -> Result<FannedOut> {
    let walks = webhooks::walks(connection, hold.workspace_id).await?;
    let Some(walk) = walks.first().copied() else { return Ok(FannedOut::default()) };
    let step = match walk.stage {
        0 => step::<Lead>(connection, hold.workspace_id, walk).await?,
        1 => step::<Customer>(connection, hold.workspace_id, walk).await?,
        2 => step::<LeadInteraction>(connection, hold.workspace_id, walk).await?,
        3 => step::<CustomerInteraction>(connection, hold.workspace_id, walk).await?,
        4 => step::<Order>(connection, hold.workspace_id, walk).await?,
        5 => step::<Feedback>(connection, hold.workspace_id, walk).await?,
        _ => Step::default(),
    };
    let walked = webhooks::advance(connection, hold, walk, step).await?;
    Ok(FannedOut { has_more: walked.has_more || walks.len() > 1, ..walked })
}

/// The events of the next records of a type. Records that are deleted by now, or have had an event of their own since,
/// have none.
async fn step<R: Importable>(connection: &mut PgConnection, workspace_id: Uuid, walk: Walk) -> Result<Step> {
    let of = (workspace_id, walk.job_id);
    let effects = imports::effects::<R>(connection, of, &KINDS, walk.after, PAGE).await?;
    let next = match effects.last() {
        Some(last) if effects.len() as i64 == PAGE => (walk.stage, Some(last.position)),
        _ => (walk.stage + 1, None),
    };
    let ids: Vec<Uuid> = effects.iter().map(|effect| effect.id).collect();
    let records: HashMap<Uuid, R> = read(connection, workspace_id, &ids).await?;
    let reported = reported(connection, workspace_id, &effects).await?;
    // A record that the job wrote more than once has the event of its last change.
    let mut last: HashMap<Uuid, &Effect> = HashMap::new();
    for effect in &effects {
        last.insert(effect.id, effect);
    }
    let mut events = Vec::with_capacity(last.len());
    for effect in effects.iter().filter(|it| last[&it.id].position == it.position && !reported.contains(&it.id)) {
        if let (Some(record), Some((kind, event_type))) = (records.get(&effect.id), event_type::<R>(effect)) {
            let subject = Subject { kind, id: effect.id };
            events.push(event(workspace_id, walk, (event_type, subject), (effect.position, record))?);
        }
    }
    Ok(Step { events, next: Some(next) })
}

fn event_type<R: Importable>(effect: &Effect) -> Option<(SubjectType, EventType)> {
    let kind = R::TYPE.as_str();
    Some((SubjectType::from_word(kind)?, EventType::from_word(&format!("{kind}.{}", effect.outcome.as_str()))?))
}

/// The event of a record. Its id is made from the job and the change, so that a walk that is repeated delivers none
/// twice.
fn event<R: Importable>(
    workspace_id: Uuid,
    walk: Walk,
    (event_type, subject): (EventType, Subject),
    (position, record): (Uuid, &R),
) -> Result<Event> {
    let hash = Uuid::new_v5(&walk.job_id, position.as_bytes());
    let job = walk.job_id;
    Ok(Event {
        id: EventId(Uuid::from_u64_pair(job.as_u64_pair().0, hash.as_u64_pair().1)),
        event_type,
        created_at: db::now(),
        workspace_id,
        subject,
        actor: EventActor::new(ActorKind::Job, Some(job)),
        request_id: None,
        data: serde_json::value::to_raw_value(record)?,
        changes: None,
        cursor: walk.number,
    })
}

/// Reads records as they are now.
async fn read<R: Importable>(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    ids: &[Uuid],
) -> Result<HashMap<Uuid, R>> {
    let sql = format!("SELECT {} FROM {} WHERE workspace_id = $1 AND id = ANY ($2)", R::columns().selected, R::TABLE);
    let records: Vec<R> = sqlx::query_as(AssertSqlSafe(sql)).bind(workspace_id).bind(ids).fetch_all(connection).await?;
    Ok(records.into_iter().map(|record| (record.id(), record)).collect())
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
