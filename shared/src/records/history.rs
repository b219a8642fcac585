//! The history of records: what they were before each change and deletion, who did it and when.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Map, Value, json};
use sqlx::{AssertSqlSafe, FromRow, PgConnection, QueryBuilder};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::error::Result;
use crate::platform::db;
use crate::query::bounded;
use crate::queue::Claimed;
use crate::records::{Place, Record, RecordType, as_object};
use crate::{records, string_enum};

/// The bytes of a page, unless its first entry has more.
const PAGE_BYTES: usize = 1024 * 1024;

string_enum! {
    /// What happened to a record.
    Action {
        /// Some of its fields were changed.
        Updated = "updated",
        /// It was deleted.
        Deleted = "deleted",
        /// It was brought back.
        Restored = "restored",
    }
}

string_enum! {
    /// What acts in a workspace.
    ActorKind {
        /// A caller with an API key.
        Key = "key",
        /// A job.
        Job = "job",
        /// A customer, on a page that a link in a mail leads to.
        Customer = "customer",
    }
}

/// Who writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// The workspace they write in.
    pub workspace_id: Uuid,
    /// What they are.
    pub kind: ActorKind,
    /// The API key, the job, or the customer.
    pub id: Uuid,
    /// The request that caused it.
    pub request_id: Option<String>,
}

impl Actor {
    /// A job.
    pub fn job(job: &Claimed) -> Self {
        let Claimed { workspace_id, id, request_id, .. } = job;
        Self { workspace_id: *workspace_id, kind: ActorKind::Job, id: *id, request_id: request_id.clone() }
    }
}

/// An entry that is about to be kept.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Made in the order of time.
    pub id: Uuid,
    /// The kind of record.
    pub record_type: RecordType,
    /// The record.
    pub record_id: Uuid,
    /// What happened to it.
    pub action: Action,
    /// The changed fields as they were, or the whole row.
    pub former: Option<Value>,
    /// The changed fields as they became.
    pub latter: Option<Value>,
    /// The entry of the deletion that took the record along.
    pub cause_id: Option<Uuid>,
}

impl Entry {
    /// An entry without values.
    pub fn new(record_type: RecordType, record_id: Uuid, action: Action) -> Self {
        Self { id: Uuid::now_v7(), record_type, record_id, action, former: None, latter: None, cause_id: None }
    }
}

/// Keeps entries, in the transaction of what they tell.
///
/// # Errors
/// [`Error::Unavailable`] when the database is away.
pub async fn keep(connection: &mut PgConnection, actor: &Actor, entries: Vec<Entry>) -> Result<()> {
    if entries.is_empty() {
        return Ok(());
    }
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

/// The deletion of a record, with what it takes along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deletion {
    /// Its entry in the history.
    pub id: Uuid,
}

impl Default for Deletion {
    fn default() -> Self {
        Self { id: Uuid::now_v7() }
    }
}

#[derive(FromRow)]
struct Gone {
    id: Uuid,
    row: Value,
}

impl Deletion {
    /// Deletes the records under a parent, whose row is locked, so that no further ones are made.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the database is away.
    pub async fn cascade_delete<R: Record>(
        &self,
        connection: &mut PgConnection,
        actor: &Actor,
        (column, parent_id): (&'static str, Uuid),
    ) -> Result<()> {
        let table = R::TABLE;
        let delete = format!(
            "DELETE FROM {table} WHERE workspace_id = $1 AND {column} = $2 RETURNING id, to_jsonb({table}) AS row"
        );
        let gone: Vec<Gone> = sqlx::query_as(AssertSqlSafe(delete))
            .bind(actor.workspace_id)
            .bind(parent_id)
            .fetch_all(&mut *connection)
            .await?;
        let entry = |Gone { id, row }| Entry {
            former: Some(row),
            cause_id: Some(self.id),
            ..Entry::new(R::TYPE, id, Action::Deleted)
        };
        keep(connection, actor, gone.into_iter().map(entry).collect()).await
    }

    /// Brings back the records of a kind that the deletion took along.
    ///
    /// # Errors
    /// [`Error::Conflict`] if one of them exists again.
    pub async fn restore_children<R: Record>(&self, connection: &mut PgConnection, actor: &Actor) -> Result<()> {
        let taken: Vec<(Uuid, Value)> = sqlx::query_as(
            "SELECT record_id, former FROM history WHERE workspace_id = $1 AND cause_id = $2 AND record_type = $3",
        )
        .bind(actor.workspace_id)
        .bind(self.id)
        .bind(R::TYPE)
        .fetch_all(&mut *connection)
        .await?;
        let (ids, rows): (Vec<Uuid>, Vec<Value>) = taken.into_iter().unzip();
        sqlx::query(R::statements().insert_rows).bind(Value::Array(rows)).execute(&mut *connection).await?;
        let entry = |id| Entry::new(R::TYPE, id, Action::Restored);
        keep(connection, actor, ids.into_iter().map(entry).collect()).await
    }
}

/// An entry of a record's history, as callers see it.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Change {
    /// The entry.
    pub id: Uuid,
    /// What happened.
    pub action: Action,
    /// When.
    pub created_at: DateTime<Utc>,
    /// Who did it.
    pub actor: ChangeActor,
    /// The request in which it was done, or that caused the job.
    pub request_id: Option<String>,
    /// Each changed field with its value `from` before `to` after; of a deleted record, all of them.
    #[schema(value_type = HashMap<String, FieldChange>)]
    pub changes: Map<String, Value>,
}

/// What became of a field.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it only describes what `Change` has as JSON")]
struct FieldChange {
    /// Its value before.
    from: Value,
    /// Its value after.
    to: Value,
}

/// Who made a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct ChangeActor {
    /// What they are.
    #[serde(rename = "type")]
    pub kind: ActorKind,
    /// The API key, the job, or the customer.
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
            // The row has columns that callers do not see.
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
            actor: ChangeActor { kind: self.actor_type, id: self.actor_id },
            request_id: self.request_id,
            changes: changes.collect(),
        })
    }
}

/// The history of a record, newest first: up to `limit` entries before the entry `before`, and the id of the
/// last of them if there are more. A page has fewer entries than that if they are large. It is there for
/// deleted records, too.
///
/// # Errors
/// [`Error::NotFound`] if there neither is nor was such a record.
pub async fn list<R: Record>(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    record_id: Uuid,
    before: Option<Uuid>,
    limit: u32,
) -> Result<(Vec<Change>, Option<Uuid>)> {
    let columns = "id, action, actor_type, actor_id, request_id, former, latter, created_at";
    let mut sql = QueryBuilder::new(format!("SELECT {columns} FROM history WHERE workspace_id = "));
    sql.push_bind(workspace_id).push(" AND record_id = ").push_bind(record_id);
    sql.push(" AND record_type = ").push_bind(R::TYPE);
    if let Some(before) = before {
        sql.push(" AND id < ").push_bind(before);
    }
    // One more than asked for tells whether there are more.
    sql.push(" ORDER BY id DESC LIMIT ").push_bind(i64::from(limit) + 1);
    let (mut page, total) = bounded::read(&mut *connection, sql, PAGE_BYTES).await?;
    page.rows.truncate(limit as usize);
    if page.rows.is_empty() && before.is_none() {
        records::get::<R>(connection, workspace_id, Place { parent: None, id: record_id }).await?;
    }
    let kept = page.rows.iter().map(|sized| Kept::from_row(&sized.row)).collect::<sqlx::Result<Vec<Kept>>>()?;
    let next = kept.last().filter(|_| total > kept.len()).map(|last| last.id);
    Ok((kept.into_iter().map(Kept::into_change::<R>).collect::<Result<_>>()?, next))
}

/// For each of the records that existed before, was deleted and then created again with its id: the
/// entry of that deletion. What is older is the history of another record. A deletion that was taken
/// back by a restore ends nothing.
///
/// # Errors
/// [`Error::Unavailable`] when the database is unavailable.
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

/// Forgets up to `limit` records that were deleted so long ago that they cannot be restored: all
/// that was kept of them. Those that were restored keep their history. Returns how many there were.
///
/// # Errors
/// [`Error::Unavailable`] when the database is away.
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
    .bind(records::RESTORABLE_DAYS)
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
