//! Locking, inserting, updating and deleting many records at once.

use std::collections::HashMap;
use std::io::Write;

use serde_json::Value;
use serde_json::value::RawValue;
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{FromRow, PgConnection, Row};
use uuid::Uuid;

use super::actor::{Creator, Deletions};
use super::alike::{self, Change};
use super::constraints::{hand_over_keys, refusal};
use super::events::event_type;
use super::history::{self, Action, Entry};
use super::model::{Difference, Record, derived};
use crate::error::{Error, Result};
use crate::events::{Actor, EventType, NewEvent};
use crate::platform::db::copy::CopyRows;
use crate::values::cell::Cells;

/// Up to this number, records are written faster without COPY.
const FEW: usize = 100;
/// The size in bytes after which a statement is sent. A connection keeps a buffer as large as its
/// largest statement.
const PIECE: usize = 256 * 1024;
/// The number of records that one statement locks.
const LOCKED_AT_ONCE: usize = 250;

/// Returns the records with these ids in order of id, and locks them until the transaction ends.
pub async fn lock<R: Record>(connection: &mut PgConnection, workspace_id: Uuid, ids: &[Uuid]) -> Result<Vec<R>> {
    Ok(sqlx::query_as(R::statements().lock.clone()).bind(workspace_id).bind(ids).fetch_all(connection).await?)
}

/// Like [`lock`], for records of at most `max_bytes` in total.
///
/// # Errors
/// [`Error::Invalid`] if the records are larger.
pub async fn lock_within<R: Record>(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    ids: &[Uuid],
    max_bytes: usize,
) -> Result<Vec<R>> {
    let (mut records, mut bytes) = (Vec::with_capacity(ids.len()), 0);
    for ids in ids.chunks(LOCKED_AT_ONCE) {
        let query = sqlx::query(R::statements().lock.clone()).bind(workspace_id).bind(ids);
        for row in query.fetch_all(&mut *connection).await? {
            bytes += (0..row.len()).map(|at| size(&row, at)).sum::<usize>();
            if bytes > max_bytes {
                let mib = max_bytes / 1024 / 1024;
                let message = format!("must not change records of more than {mib} MiB in total; send fewer items");
                return Err(Error::invalid("items", "too_large", message));
            }
            records.push(R::from_row(&row)?);
        }
    }
    Ok(records)
}

fn size(row: &PgRow, at: usize) -> usize {
    row.try_get_raw(at).ok().and_then(|value| value.as_bytes().ok().map(<[u8]>::len)).unwrap_or_default()
}

/// Returns the last id of the page of records after an id; `None` after the last record.
pub async fn page_end<R: Record>(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    after: Uuid,
    limit: i64,
) -> Result<Option<Uuid>> {
    let page_end = sqlx::query_scalar(R::statements().page_end.clone());
    Ok(page_end.bind(workspace_id).bind(after).bind(limit).fetch_optional(connection).await?)
}

/// Inserts records.
///
/// # Errors
/// [`Error::Conflict`] if an id or a unique key is taken; [`Error::Missing`] if a referenced record
/// does not exist.
pub async fn insert_all<R: Record>(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    creator: Creator,
    records: &[R],
) -> Result<()> {
    match records.len() {
        0 => Ok(()),
        1..=FEW => insert_few(connection, workspace_id, creator, records).await,
        _ => copy_all(connection, workspace_id, creator, records).await,
    }
}

/// Inserts records without COPY. A COPY ends with a small separate packet, which delayed
/// acknowledgements may hold back for 40 ms, ten times as long as inserting a few records takes.
async fn insert_few<R: Record>(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    creator: Creator,
    records: &[R],
) -> Result<()> {
    let mut rows = Rows::default();
    for (at, record) in records.iter().enumerate() {
        rows.push::<R>(record, workspace_id, Some(creator))?;
        if rows.0.len() >= PIECE || at + 1 == records.len() {
            let insert = sqlx::query(R::statements().insert_few.clone()).bind(workspace_id).bind(rows.take()?);
            let inserted = insert.execute(&mut *connection).await;
            inserted.map_err(|error| refusal(error, workspace_id, records))?;
        }
    }
    Ok(())
}

/// Rows as the text of a JSON array, which takes a fraction of the memory of `serde_json` values.
#[derive(Default)]
struct Rows(Vec<u8>);

impl Rows {
    /// Adds a record; a new one has a creator.
    fn push<R: Record>(&mut self, record: &R, workspace_id: Uuid, creator: Option<Creator>) -> Result<()> {
        self.0.push(if self.0.is_empty() { b'[' } else { b',' });
        serde_json::to_writer(&mut self.0, record)?;
        // Removes the closing brace of the record.
        self.0.pop();
        for (column, value) in derived(record, workspace_id) {
            write!(self.0, ",\"{column}\":").map_err(Error::internal)?;
            serde_json::to_writer(&mut self.0, &value)?;
        }
        if let Some(job_id) = creator.and_then(Creator::import_job_id).filter(|_| R::IMPORTED) {
            write!(self.0, ",\"import_job_id\":\"{job_id}\"").map_err(Error::internal)?;
        }
        if let Some((kind, id)) = creator.and_then(Creator::columns).filter(|_| R::HAS_CREATOR) {
            let kind = kind.as_str();
            write!(self.0, ",\"created_by_type\":\"{kind}\",\"created_by_id\":\"{id}\"").map_err(Error::internal)?;
        }
        self.0.push(b'}');
        Ok(())
    }

    fn take(&mut self) -> Result<Json<Box<RawValue>>> {
        let mut rows = std::mem::take(&mut self.0);
        rows.push(b']');
        let text = String::from_utf8(rows).map_err(Error::internal)?;
        Ok(Json(RawValue::from_string(text)?))
    }
}

async fn copy_all<R: Record>(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    creator: Creator,
    records: &[R],
) -> Result<()> {
    let mut copy = CopyRows::begin(connection, R::statements().copy.as_str()).await?;
    for record in records {
        copy.value(workspace_id);
        record.cells(&mut copy);
        for (_, value) in derived(record, workspace_id) {
            copy.optional_text(value.as_ref());
        }
        if R::IMPORTED {
            copy.optional(creator.import_job_id());
        }
        if R::HAS_CREATOR {
            copy.optional(creator.columns().map(|(kind, _)| kind.as_str()));
            copy.optional(creator.columns().map(|(_, id)| id));
        }
        copy.end().await.map_err(|error| refusal(error, workspace_id, records))?;
    }
    copy.finish().await.map_err(|error| refusal(error, workspace_id, records))
}

/// Writes changed records, given as pairs of before and after, and their history.
///
/// # Errors
/// [`Error::Conflict`] if a unique key is taken.
pub async fn update_all<R: Record>(connection: &mut PgConnection, actor: &Actor, changed: &[(R, R)]) -> Result<()> {
    update_all_as(connection, actor, changed, event_type::<R>(Action::Updated)?).await
}

/// Like [`update_all`], with the type of the events.
///
/// # Errors
/// As [`update_all`].
pub async fn update_all_as<R: Record>(
    connection: &mut PgConnection,
    actor: &Actor,
    changed: &[(R, R)],
    event_type: EventType,
) -> Result<()> {
    let mut changes = Vec::with_capacity(changed.len());
    for pair in changed {
        changes.push((pair, pair.0.difference(&pair.1)?));
    }
    let (alike, others) = alike::separate(changes);
    for group in alike {
        alike::write(connection, actor.workspace_id, &group).await?;
        let entries = group.into_iter().map(|((_, after), difference)| updated(actor, after, difference, event_type));
        history::keep(connection, actor, entries.collect::<Result<_>>()?).await?;
    }
    update_each(connection, actor, others, event_type).await?;
    let changes = changed.iter().map(|(before, after)| (before, Some(after)));
    hand_over_keys(connection, actor.workspace_id, changes).await?;
    R::after_changes(connection, actor, changed).await
}

/// Writes all columns of changed records, and their history.
async fn update_each<R: Record>(
    connection: &mut PgConnection,
    actor: &Actor,
    changes: Vec<Change<'_, R>>,
    event_type: EventType,
) -> Result<()> {
    let (mut rows, mut entries, count) = (Rows::default(), Vec::new(), changes.len());
    let written: Vec<&R> = changes.iter().map(|((_, after), _)| after).collect();
    for (at, ((_, after), difference)) in changes.into_iter().enumerate() {
        rows.push::<R>(after, actor.workspace_id, None)?;
        entries.push(updated(actor, after, difference, event_type)?);
        if rows.0.len() >= PIECE || at + 1 == count {
            let update = sqlx::query(R::statements().update_all.clone()).bind(actor.workspace_id).bind(rows.take()?);
            let updated = update.execute(&mut *connection).await;
            updated.map_err(|error| refusal(error, actor.workspace_id, written.iter().copied()))?;
            history::keep(connection, actor, std::mem::take(&mut entries)).await?;
        }
    }
    Ok(())
}

fn updated<R: Record>(
    actor: &Actor,
    after: &R,
    Difference { former, latter }: Difference,
    event_type: EventType,
) -> Result<Entry> {
    let (former, latter) = (Some(Value::Object(former)), Some(Value::Object(latter)));
    let entry = Entry::of(actor, after, Action::Updated)?;
    let event = entry.event.map(|event| NewEvent { event_type, ..event });
    Ok(Entry { former, latter, event, ..entry })
}

/// Deletes records and their dependent records; the history remains. Returns the records that existed.
pub async fn delete_all<R: Record>(connection: &mut PgConnection, actor: &Actor, ids: &[Uuid]) -> Result<Vec<R>> {
    let records: Vec<R> = lock(connection, actor.workspace_id, ids).await?;
    delete_locked(connection, actor, &records).await?;
    Ok(records)
}

#[derive(FromRow)]
struct Gone {
    id: Uuid,
    row: Value,
}

/// Deletes records whose rows are locked.
pub(super) async fn delete_locked<R: Record>(
    connection: &mut PgConnection,
    actor: &Actor,
    records: &[R],
) -> Result<()> {
    if records.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = records.iter().map(R::id).collect();
    let deletions = Deletions::begin(ids.iter().copied());
    R::before_delete(connection, actor, records, &deletions).await?;
    let delete = sqlx::query_as(R::statements().delete.clone()).bind(actor.workspace_id).bind(ids);
    let deleted: Vec<Gone> = delete.fetch_all(&mut *connection).await?;
    hand_over_keys(connection, actor.workspace_id, records.iter().map(|record| (record, None))).await?;
    let mut rows: HashMap<Uuid, Value> = deleted.into_iter().map(|Gone { id, row }| (id, row)).collect();
    let mut entries = Vec::with_capacity(rows.len());
    for record in records {
        let Some(row) = rows.remove(&record.id()) else { continue };
        let entry = Entry::new(R::TYPE, record.id(), Action::Deleted);
        let entry = Entry { id: deletions.entry_of(record.id()).unwrap_or(entry.id), former: Some(row), ..entry };
        entries.push(entry.reported(actor, record)?);
    }
    history::keep(connection, actor, entries).await
}
