//! The history of records: their values before and after each change, by whom and when.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Map, Value, json};
use sqlx::{FromRow, PgConnection, QueryBuilder};
use utoipa::ToSchema;
use uuid::Uuid;

use super::creation::Creation;
use super::events::{event_type, report};
use super::model::{Record, RecordType, as_object};
use crate::error::{Error, Result};
use crate::events::{self, NewEvent};
use crate::platform::db;
use crate::query::bounded;
use crate::string_enum;

pub use super::actor::{Creator, Deletions};
pub use crate::events::{Actor, ActorKind};

/// How many days a deleted record can be restored.
pub const RESTORABLE_DAYS: i32 = 30;
/// The maximum size of a page in bytes, unless its first entry is larger.
const PAGE_BYTES: usize = 1024 * 1024;

string_enum! {
    /// What happened to a record.
    Action {
        /// It was created.
        Created = "created",
        /// Some of its fields were changed.
        Updated = "updated",
        /// It was deleted.
        Deleted = "deleted",
        /// It was restored.
        Restored = "restored",
    }
}

/// A new entry.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The id, ordered by time.
    pub id: Uuid,
    /// The kind of record.
    pub record_type: RecordType,
    /// The id of the record.
    pub record_id: Uuid,
    /// What happened to the record.
    pub action: Action,
    /// The changed fields before the change, or the whole row of a deleted record.
    pub former: Option<Value>,
    /// The changed fields after the change.
    pub latter: Option<Value>,
    /// For a cascading delete: the entry of the deletion that caused it.
    pub cause_id: Option<Uuid>,
    /// The event of the change, unless it is summarised by the events of a job.
    pub event: Option<NewEvent>,
}

impl Entry {
    /// Creates an entry without values for a record, which is as given after the change, or before its deletion.
    ///
    /// # Errors
    /// [`Error::Internal`] if the record cannot be serialized.
    pub fn of<R: Record>(actor: &Actor, record: &R, action: Action) -> Result<Self> {
        Self::new(R::TYPE, record.id(), action).reported(actor, record)
    }

    /// Adds the event of the change, unless a job makes it.
    ///
    /// # Errors
    /// [`Error::Internal`] if the record cannot be serialized.
    pub fn reported<R: Record>(mut self, actor: &Actor, record: &R) -> Result<Self> {
        if actor.is_reported() {
            self.event = Some(NewEvent { id: self.id, ..report(record, event_type::<R>(self.action)?)? });
        }
        Ok(self)
    }

    /// Creates an entry without values.
    pub fn new(record_type: RecordType, record_id: Uuid, action: Action) -> Self {
        Self {
            id: Uuid::now_v7(),
            record_type,
            record_id,
            action,
            former: None,
            latter: None,
            cause_id: None,
            event: None,
        }
    }
}

/// Records entries and their events, in the same transaction as the changes they describe.
pub async fn keep(connection: &mut PgConnection, actor: &Actor, mut entries: Vec<Entry>) -> Result<()> {
    if entries.is_empty() {
        return Ok(());
    }
    let reported: Vec<NewEvent> = entries.iter_mut().filter_map(|entry| entry.event.take()).collect();
    events::record(connection, actor, reported).await?;
    let (mut ids, mut types, mut records) = (Vec::new(), Vec::new(), Vec::new());
    let (mut actions, mut formers, mut latters, mut causes) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for entry in entries {
        ids.push(entry.id);
        types.push(entry.record_type.as_str());
        records.push(entry.record_id);
        actions.push(entry.action.as_str());
        formers.push(entry.former);
        latters.push(entry.latter);
        causes.push(entry.cause_id);
    }
    sqlx::query(
        "INSERT INTO history (workspace_id, id, record_type, record_id, action, actor_type, actor_id, request_id,
             former, latter, cause_id, created_at)
         SELECT $1, id, record_type, record_id, action, $2, $3, $4, former, latter, cause_id, $5
         FROM unnest($6::uuid[], $7::text[], $8::uuid[], $9::text[], $10::jsonb[], $11::jsonb[], $12::uuid[])
             AS new (id, record_type, record_id, action, former, latter, cause_id)",
    )
    .bind(actor.workspace_id)
    .bind(actor.kind)
    .bind(actor.id)
    .bind(&actor.request_id)
    .bind(db::now())
    .bind(ids)
    .bind(types)
    .bind(records)
    .bind(actions)
    .bind(formers)
    .bind(latters)
    .bind(causes)
    .execute(connection)
    .await?;
    Ok(())
}

/// An entry of a record's history.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Change {
    /// The id of the entry.
    pub id: Uuid,
    /// What happened to the record.
    pub action: Action,
    /// When the change was made.
    pub created_at: DateTime<Utc>,
    /// Who made the change; `null` for the creation of a record that an older version created.
    pub actor: Option<ChangeActor>,
    /// The id of the request that made the change, or that created the job that made it.
    pub request_id: Option<String>,
    /// Each changed field with its value before (`from`) and after (`to`). A deletion lists all fields.
    #[schema(value_type = HashMap<String, FieldChange>)]
    pub changes: Map<String, Value>,
}

/// The change of a field.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only describes the JSON of `Change`")]
struct FieldChange {
    /// The value before the change.
    from: Value,
    /// The value after the change.
    to: Value,
}

/// Who made a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct ChangeActor {
    /// The kind of actor.
    #[serde(rename = "type")]
    pub kind: ActorKind,
    /// The id of the API key, the session, the job, the customer, or the converted lead.
    pub id: Uuid,
}

#[derive(FromRow)]
struct Kept {
    id: Uuid,
    action: Action,
    actor_type: ActorKind,
    actor_id: Uuid,
    request_id: Option<String>,
    former: Option<Value>,
    latter: Option<Value>,
    created_at: DateTime<Utc>,
}

impl Kept {
    fn into_change<R: Record>(self) -> Result<Change> {
        let former = match self.former {
            // The row has internal columns, which are not part of the API.
            Some(row) if self.action == Action::Deleted => as_object(&serde_json::from_value::<R>(row)?)?,
            Some(Value::Object(fields)) => fields,
            _ => Map::new(),
        };
        let after = |name: &str| self.latter.as_ref().and_then(|latter| latter.get(name)).cloned().unwrap_or_default();
        let changes = former.into_iter().map(|(name, from)| {
            let to = after(&name);
            (name, json!({ "from": from, "to": to }))
        });
        Ok(Change {
            id: self.id,
            action: self.action,
            created_at: self.created_at,
            actor: Some(ChangeActor { kind: self.actor_type, id: self.actor_id }),
            request_id: self.request_id,
            changes: changes.collect(),
        })
    }
}

impl Change {
    /// The creation of a record, with the record's id as its own.
    fn creation(id: Uuid, creation: &Creation) -> Self {
        Self {
            id,
            action: Action::Created,
            created_at: creation.created_at,
            actor: creation.actor().map(|(kind, id)| ChangeActor { kind, id }),
            request_id: None,
            changes: Map::new(),
        }
    }
}

/// Returns the history of an existing or deleted record, newest first: up to `limit` entries before
/// the entry `before`, and the id of the last one if more follow. The last entry is the creation. A
/// page of large entries has fewer.
///
/// # Errors
/// [`Error::NotFound`] if the record never existed.
pub async fn list<R: Record>(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    record_id: Uuid,
    before: Option<Uuid>,
    limit: u32,
) -> Result<(Vec<Change>, Option<Uuid>)> {
    let mut sql = QueryBuilder::new(
        "SELECT id, action, actor_type, actor_id, request_id, former, latter, created_at FROM history
         WHERE workspace_id = ",
    );
    sql.push_bind(workspace_id).push(" AND record_id = ").push_bind(record_id);
    sql.push(" AND record_type = ").push_bind(R::TYPE);
    if let Some(before) = before {
        sql.push(" AND id < ").push_bind(before);
    }
    // One entry more than the limit shows whether more entries follow.
    sql.push(" ORDER BY id DESC LIMIT ").push_bind(i64::from(limit) + 1);
    let (mut page, total) = bounded::read(&mut *connection, sql, PAGE_BYTES).await?;
    page.rows.truncate(limit as usize);
    let entries = page.rows.iter().map(|sized| Kept::from_row(&sized.row)).collect::<sqlx::Result<Vec<Kept>>>()?;
    let has_more = total > entries.len();
    let last = entries.last().map(|last| last.id);
    let mut changes: Vec<Change> = entries.into_iter().map(Kept::into_change::<R>).collect::<Result<_>>()?;
    if has_more {
        return Ok((changes, last));
    }
    match Creation::read::<R>(connection, workspace_id, record_id).await? {
        Some(_) if changes.len() == limit as usize => Ok((changes, last)),
        Some(creation) => {
            changes.push(Change::creation(record_id, &creation));
            Ok((changes, None))
        }
        None if changes.is_empty() && before.is_none() => Err(Error::NotFound),
        None => Ok((changes, None)),
    }
}

/// Returns, for each record that was deleted without being restored and then created again with the
/// same id, the entry of the last such deletion. Older entries are the history of another record.
pub async fn earlier_ends<R: Record>(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    record_ids: &[Uuid],
) -> Result<HashMap<Uuid, Uuid>> {
    let ends: Vec<(Uuid, Uuid)> = sqlx::query_as(
        "SELECT DISTINCT ON (record_id) record_id, id FROM (
             SELECT record_id, id, action, lead(action) OVER (PARTITION BY record_id ORDER BY id) AS next
             FROM history
             WHERE workspace_id = $1 AND record_id = ANY ($2) AND record_type = $3
                 AND action IN ('deleted', 'restored')
         ) AS lives
         WHERE action = 'deleted' AND next IS DISTINCT FROM 'restored'
         ORDER BY record_id, id DESC",
    )
    .bind(workspace_id)
    .bind(record_ids)
    .bind(R::TYPE)
    .fetch_all(connection)
    .await?;
    Ok(ends.into_iter().collect())
}

/// Deletes the history of up to `limit` records that were deleted more than [`RESTORABLE_DAYS`] days
/// ago. Restored records keep their history. Returns the number of deleted entries.
pub async fn prune(connection: &mut PgConnection, limit: i64) -> Result<u64> {
    let mut old: Vec<(Uuid, Uuid, Uuid)> = sqlx::query_as(
        "SELECT workspace_id, record_id, id FROM history AS deletion
         WHERE action = 'deleted' AND created_at < now() - make_interval(days => $1)
             AND NOT EXISTS (
                 SELECT FROM history AS later
                 WHERE later.workspace_id = deletion.workspace_id AND later.record_id = deletion.record_id
                     AND later.action = 'restored' AND later.id > deletion.id
             )
         ORDER BY created_at LIMIT $2",
    )
    .bind(RESTORABLE_DAYS)
    .bind(limit)
    .fetch_all(&mut *connection)
    .await?;
    old.sort_unstable();
    let mut pruned = 0;
    for old in old.chunk_by(|one, other| one.0 == other.0) {
        let deleted = sqlx::query(
            "DELETE FROM history USING unnest($2::uuid[], $3::uuid[]) AS old (record_id, id)
             WHERE history.workspace_id = $1 AND history.record_id = old.record_id AND history.id <= old.id
                 AND NOT EXISTS (
                     SELECT FROM history AS later
                     WHERE later.workspace_id = $1 AND later.record_id = old.record_id
                         AND later.action = 'restored' AND later.id > old.id
                 )",
        );
        let (records, ids): (Vec<Uuid>, Vec<Uuid>) = old.iter().map(|(_, record, id)| (*record, *id)).unzip();
        pruned += deleted.bind(old[0].0).bind(records).bind(ids).execute(&mut *connection).await?.rows_affected();
    }
    Ok(pruned)
}
