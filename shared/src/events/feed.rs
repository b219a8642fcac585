//! The feed of events: reading what happened after a cursor, in order.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use sqlx::types::Json;
use sqlx::{Connection, FromRow, PgConnection, QueryBuilder};
use utoipa::ToSchema;
use utoipa::openapi::{ObjectBuilder, RefOr, Schema, Type};
use uuid::Uuid;

use super::actor::ActorKind;
use super::types::{EventType, Subject, SubjectType};
use crate::error::{Error, Result};
use crate::platform::db::Among;
use crate::query::bounded;

/// The maximum size of the events that are read at once, in bytes, unless the first is larger.
const PART_BYTES: usize = 1024 * 1024;
/// The most events that a filter by type examines at once.
const EXAMINED: i64 = 50_000;
/// How many days the audit log keeps what happened.
const AUDITED_DAYS: i64 = 400;
/// The types that no audit log shows, whose events are deleted when they are too old for the feed.
const FLEETING: [&str; 3] = ["email", "job.changed", "ping"];

/// The id of an event: `evt_` and 32 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EventId(pub Uuid);

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "evt_{}", self.0.simple())
    }
}

impl Serialize for EventId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl utoipa::PartialSchema for EventId {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new().schema_type(Type::String).pattern(Some("^evt_[0-9a-f]{32}$")).into()
    }
}

impl ToSchema for EventId {
    fn name() -> std::borrow::Cow<'static, str> {
        "EventId".into()
    }
}

/// Something that happened. Serialized, it is what webhooks deliver.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = FeedEvent)]
pub struct Event {
    /// The id, which is the same wherever the event is delivered, and however often.
    pub id: EventId,
    /// What happened.
    #[serde(rename = "type")]
    pub event_type: EventType,
    /// When it happened.
    pub created_at: DateTime<Utc>,
    /// The workspace in which it happened.
    pub workspace_id: Uuid,
    /// What it happened to.
    pub subject: Subject,
    /// Who did it.
    pub actor: EventActor,
    /// The request that did it, or that created the job that did it.
    pub request_id: Option<String>,
    /// The stored [trace](crate::platform::trace) in which it happened.
    #[serde(skip)]
    pub trace_context: Option<String>,
    /// The subject as the API returned it then; before a deletion, if it was deleted.
    #[schema(value_type = Object)]
    pub data: Box<RawValue>,
    /// For an update, each changed field with its value before (`from`) and after (`to`).
    #[schema(value_type = Option<Object>)]
    pub changes: Option<Map<String, Value>>,
    /// The position of the event in the feed, which `after` takes.
    pub cursor: i64,
}

/// Who caused an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct EventActor {
    /// The kind of actor: `api_key`, `session`, `job`, `customer`, `operator` or `worker`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Its id; `null` for a worker.
    pub id: Option<Uuid>,
}

impl EventActor {
    /// The actor as events show it.
    pub fn new(kind: ActorKind, id: Option<Uuid>) -> Self {
        let kind = match kind {
            ActorKind::Key => "api_key",
            kind => kind.as_str(),
        };
        Self { kind, id }
    }
}

/// Which events to read.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Events of these types; of all public types if there are none.
    pub types: Vec<EventType>,
    /// Events about this record.
    pub subject_id: Option<Uuid>,
    /// A condition of the events of jobs, for readers that may read those of some kinds.
    pub jobs: Option<&'static str>,
    /// Whether the results of jobs have no previews of records.
    pub without_previews: bool,
}

impl Filter {
    fn words(&self) -> Vec<&'static str> {
        match self.types.is_empty() {
            true => EventType::PUBLIC_WORDS.to_vec(),
            false => self.types.iter().map(|event_type| event_type.as_str()).collect(),
        }
    }
}

/// A part of the feed.
#[derive(Debug, Clone)]
pub struct Part {
    /// The events, in order.
    pub events: Vec<Event>,
    /// The cursor after them.
    pub next: i64,
    /// Whether more may follow already.
    pub has_more: bool,
}

/// How far the feed of a workspace reaches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, FromRow)]
pub struct Reach {
    /// The last number that was given.
    pub number: i64,
    /// The number after which events can be read.
    pub pruned: i64,
}

/// Returns how far the feed reaches.
pub async fn reach(connection: &mut PgConnection, workspace_id: Uuid) -> Result<Reach> {
    let reach = sqlx::query_as("SELECT number, pruned FROM event_cursors WHERE workspace_id = $1");
    Ok(reach.bind(workspace_id).fetch_optional(connection).await?.unwrap_or_default())
}

/// Returns how far the feeds of these workspaces reach, for those that have events.
pub async fn reaches(connection: &mut PgConnection, workspace_ids: &[Uuid]) -> Result<Vec<(Uuid, i64)>> {
    let mut among = Among::new();
    loop {
        let reaches = sqlx::query_as(
            "SELECT workspace_id, number FROM event_cursors
             WHERE workspace_id = ANY ($1) AND ($2::uuid[] IS NULL OR workspace_id = ANY ($2))",
        );
        let reaches = reaches.bind(workspace_ids).bind(among.workspaces()).fetch_all(&mut *connection).await;
        if let Some(reaches) = among.accept(connection, reaches.map_err(Error::from)).await? {
            return Ok(reaches);
        }
    }
}

/// Reads up to `limit` events after a cursor; without one, from the oldest.
///
/// # Errors
/// [`Error::TooOld`] for a cursor whose next events may have been deleted.
pub async fn read(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    after: Option<i64>,
    filter: &Filter,
    limit: u32,
) -> Result<Part> {
    let reach = reach(connection, workspace_id).await?;
    let after = after.unwrap_or(reach.pruned);
    if after < reach.pruned {
        return Err(Error::TooOld { oldest: reach.pruned });
    }
    let end = end(connection, workspace_id, after, filter, reach).await?;
    let mut sql = QueryBuilder::new(
        "SELECT number, events.id, type, subject_type, subject_id, events.actor_type, events.actor_id,
             events.request_id, events.trace_context, events.created_at, data, former, latter
         FROM events
         LEFT JOIN LATERAL (
             SELECT former, latter FROM history WHERE history.workspace_id = ",
    );
    // `LIMIT` keeps PostgreSQL from comparing each event with all changes while no statistics know of them.
    sql.push_bind(workspace_id).push(
        " AND record_id = subject_id AND history.id = events.id AND action = 'updated' LIMIT 1
         ) AS change ON true
         WHERE events.workspace_id = ",
    );
    sql.push_bind(workspace_id).push(" AND number > ").push_bind(after).push(" AND number <= ").push_bind(end);
    sql.push(" AND type = ANY (").push_bind(filter.words()).push(")");
    if let Some(subject_id) = filter.subject_id {
        sql.push(" AND subject_id = ").push_bind(subject_id);
    }
    if let Some(jobs) = filter.jobs {
        sql.push(" AND (subject_type <> 'job' OR EXISTS (SELECT FROM (SELECT data ->> 'kind' AS kind) AS job WHERE ");
        sql.push(jobs).push("))");
    }
    // One more than the limit shows whether more follow.
    sql.push(" ORDER BY number LIMIT ").push_bind(i64::from(limit) + 1);
    let (mut part, total) = bounded::read(&mut *connection, sql, PART_BYTES).await?;
    part.rows.truncate(limit as usize);
    let rows = part.rows.iter().map(|sized| Row::from_row(&sized.row)).collect::<sqlx::Result<Vec<Row>>>()?;
    let events: Vec<Event> = rows.into_iter().map(|row| row.shown_to(filter).into_event(workspace_id)).collect();
    let is_cut = total > events.len();
    let next = events.last().filter(|_| is_cut).map_or(end, |last| last.cursor);
    Ok(Part { events, next, has_more: next < reach.number })
}

/// The number up to which events are read at once, so that a filter by type examines few of other types.
async fn end(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    after: i64,
    filter: &Filter,
    reach: Reach,
) -> Result<i64> {
    if filter.types.is_empty() || filter.subject_id.is_some() {
        return Ok(reach.number.max(after));
    }
    let last = sqlx::query_scalar(
        "SELECT number FROM events WHERE workspace_id = $1 AND number > $2 AND number <= $3
         ORDER BY number OFFSET $4 LIMIT 1",
    );
    let last = last.bind(workspace_id).bind(after).bind(reach.number).bind(EXAMINED - 1);
    let last: Option<i64> = last.fetch_optional(connection).await?;
    Ok(last.unwrap_or(reach.number).max(after))
}

#[derive(FromRow)]
struct Row {
    number: i64,
    id: Uuid,
    #[sqlx(rename = "type")]
    event_type: EventType,
    subject_type: SubjectType,
    subject_id: Uuid,
    actor_type: ActorKind,
    actor_id: Option<Uuid>,
    request_id: Option<String>,
    trace_context: Option<String>,
    created_at: DateTime<Utc>,
    data: Option<Json<Box<RawValue>>>,
    former: Option<Json<Map<String, Value>>>,
    latter: Option<Json<Map<String, Value>>>,
}

impl Row {
    /// Leaves out what the reader may not read.
    fn shown_to(mut self, filter: &Filter) -> Self {
        if filter.without_previews && self.subject_type == SubjectType::Job {
            self.data = self.data.and_then(|Json(data)| without_preview(&data)).map(Json);
        }
        self
    }

    fn into_event(self, workspace_id: Uuid) -> Event {
        Event {
            id: EventId(self.id),
            event_type: self.event_type,
            created_at: self.created_at,
            workspace_id,
            subject: Subject { kind: self.subject_type, id: self.subject_id },
            actor: EventActor::new(self.actor_type, self.actor_id),
            request_id: self.request_id,
            trace_context: self.trace_context,
            data: self.data.map_or_else(|| RawValue::NULL.to_owned(), |Json(data)| data),
            changes: self.former.map(|Json(former)| changes(former, self.latter.map(|Json(latter)| latter))),
            cursor: self.number,
        }
    }
}

/// The data of a job without the preview of records in its result.
fn without_preview(data: &RawValue) -> Option<Box<RawValue>> {
    let mut job: Value = serde_json::from_str(data.get()).ok()?;
    if let Some(preview) = job.pointer_mut("/result/preview") {
        *preview = Value::Null;
    }
    serde_json::value::to_raw_value(&job).ok()
}

/// Each changed field with its value before and after.
pub(crate) fn changes(former: Map<String, Value>, latter: Option<Map<String, Value>>) -> Map<String, Value> {
    let mut latter = latter.unwrap_or_default();
    let change = |(name, from): (String, Value)| {
        let to = latter.remove(&name).unwrap_or_default();
        (name, json!({ "from": from, "to": to }))
    };
    former.into_iter().map(change).collect()
}

/// Removes up to `limit` events of a workspace from the feed that are older than `keep_days`, and those from the
/// audit log that are older than 400 days. Returns how many events were examined.
pub async fn prune(connection: &mut PgConnection, workspace_id: Uuid, keep_days: u32, limit: i64) -> Result<u64> {
    let mut transaction = connection.begin().await?;
    let lock = "SELECT number, pruned FROM event_cursors WHERE workspace_id = $1 FOR UPDATE";
    let Some(Reach { pruned, .. }) = sqlx::query_as(lock).bind(workspace_id).fetch_optional(&mut *transaction).await?
    else {
        return Ok(0);
    };
    // Numbers are at least the microseconds of their time.
    let old = (Utc::now() - chrono::Duration::days(keep_days.into())).timestamp_micros();
    let page: Vec<i64> = sqlx::query_scalar(
        "SELECT number FROM events WHERE workspace_id = $1 AND number > $2 AND number <= $3 ORDER BY number LIMIT $4",
    )
    .bind(workspace_id)
    .bind(pruned)
    .bind(old)
    .bind(limit)
    .fetch_all(&mut *transaction)
    .await?;
    if let Some(last) = page.last() {
        leave_to_audit(&mut transaction, workspace_id, (pruned, *last)).await?;
    }
    let unaudited = (Utc::now() - chrono::Duration::days(AUDITED_DAYS.max(keep_days.into()))).timestamp_micros();
    let deleted = sqlx::query(
        "DELETE FROM events WHERE workspace_id = $1 AND number = ANY (ARRAY(
             SELECT number FROM events WHERE workspace_id = $1 AND number <= $2 ORDER BY number LIMIT $3
         ))",
    );
    let deleted = deleted.bind(workspace_id).bind(unaudited).bind(limit).execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(page.len() as u64 + deleted.rows_affected())
}

/// Leaves of a range of events what the audit log shows.
async fn leave_to_audit(connection: &mut PgConnection, workspace_id: Uuid, (after, last): (i64, i64)) -> Result<()> {
    let fleeting = EventType::PUBLIC.iter().map(|event_type| (event_type.family(), event_type.as_str()));
    let fleeting = fleeting.filter(|(family, word)| FLEETING.contains(family) || FLEETING.contains(word));
    let fleeting: Vec<&str> = fleeting.map(|(_, word)| word).collect();
    for statement in [
        "DELETE FROM events WHERE workspace_id = $1 AND number > $2 AND number <= $3 AND type = ANY ($4)",
        "UPDATE events SET data = NULL WHERE workspace_id = $1 AND number > $2 AND number <= $3 AND type <> ALL ($4)",
    ] {
        let query = sqlx::query(statement).bind(workspace_id).bind(after).bind(last);
        query.bind(&fleeting).execute(&mut *connection).await?;
    }
    sqlx::query("UPDATE event_cursors SET pruned = $2 WHERE workspace_id = $1")
        .bind(workspace_id)
        .bind(last)
        .execute(connection)
        .await?;
    Ok(())
}
