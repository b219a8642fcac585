//! Restoring deleted records.

use std::collections::HashSet;

use serde_json::Value;
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use super::actor::Deletions;
use super::constraints::refusal;
use super::history::{self, Action, Entry, RESTORABLE_DAYS};
use super::model::{Record, as_object, derived};
use crate::error::{Error, Reason, Result};
use crate::events::Actor;
use crate::platform::db::Savepoint;

/// Records that were restored, and the reasons why others were not.
#[derive(Debug)]
pub struct Restored<R> {
    /// The restored records.
    pub records: Vec<R>,
    /// The other records.
    pub refused: Vec<(Uuid, Error)>,
}

impl<R> Default for Restored<R> {
    fn default() -> Self {
        Self { records: Vec::new(), refused: Vec::new() }
    }
}

/// Restores a deleted record and the records that were deleted with it. Needs a transaction.
///
/// Links to records that no longer exist, or that are linked to another record, are not restored.
///
/// # Errors
/// [`Error::NotFound`] if the record was not deleted in the last [`RESTORABLE_DAYS`] days;
/// [`Error::Conflict`] if the record exists, or if its unique key is taken; [`Error::Missing`] if it refers to a
/// record that does not exist.
pub async fn restore<R: Record>(connection: &mut PgConnection, actor: &Actor, id: Uuid) -> Result<R> {
    let Restored { mut records, mut refused } = restore_together(connection, actor, &[id]).await?;
    match (records.pop(), refused.pop()) {
        (Some(record), _) => Ok(record),
        (None, Some((_, error))) => Err(error),
        (None, None) => Err(Error::internal("a record was neither restored nor refused")),
    }
}

/// Restores many records, each as [`restore`] does. One that cannot be restored affects no other one.
pub async fn restore_all<R: Record>(connection: &mut PgConnection, actor: &Actor, ids: &[Uuid]) -> Result<Restored<R>> {
    let part = Savepoint::begin(connection).await?;
    match restore_together(connection, actor, ids).await {
        Ok(restored) => {
            part.release(connection).await?;
            return Ok(restored);
        }
        Err(Error::Conflict(_) | Error::Missing(_)) => part.rollback(connection).await?,
        Err(error) => return Err(error),
    }
    let mut all = Restored::default();
    for id in ids {
        let part = Savepoint::begin(connection).await?;
        match restore(connection, actor, *id).await {
            Ok(record) => {
                part.release(connection).await?;
                all.records.push(record);
            }
            Err(error @ (Error::Conflict(_) | Error::Missing(_) | Error::NotFound)) => {
                part.rollback(connection).await?;
                all.refused.push((*id, error));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(all)
}

/// The last deletion of a record.
#[derive(FromRow)]
struct Last {
    record_id: Uuid,
    id: Uuid,
    former: Value,
}

/// Restores records with the same statements, so that a key or a reference of one of them fails all.
async fn restore_together<R: Record>(
    connection: &mut PgConnection,
    actor: &Actor,
    ids: &[Uuid],
) -> Result<Restored<R>> {
    let lasts = last_deletions::<R>(connection, actor.workspace_id, ids).await?;
    let existing = existing::<R>(connection, actor.workspace_id, ids).await?;
    let deleted: HashSet<Uuid> = lasts.iter().map(|last| last.record_id).collect();
    // An existing record cannot be restored; a record that never existed is not found.
    let refused = ids.iter().filter_map(|id| match (existing.contains(id), deleted.contains(id)) {
        (true, _) => Some((*id, not_deleted(*id))),
        (false, false) => Some((*id, Error::NotFound)),
        (false, true) => None,
    });
    let refused: Vec<(Uuid, Error)> = refused.collect();
    let lasts: Vec<Last> = lasts.into_iter().filter(|last| !existing.contains(&last.record_id)).collect();
    if lasts.is_empty() {
        return Ok(Restored { records: Vec::new(), refused });
    }
    let deletions: Deletions = lasts.iter().map(|last| (last.record_id, last.id)).collect();
    let rows: Vec<Value> = lasts.into_iter().map(|last| last.former).collect();
    let mut records: Vec<R> = rows.iter().cloned().map(serde_json::from_value).collect::<Result<_, _>>()?;
    R::before_restore(connection, actor, &mut records).await?;
    let rows = rows.into_iter().zip(&records).map(|(row, record)| whole_row(row, record, actor.workspace_id));
    let rows: Vec<Value> = rows.collect::<Result<_>>()?;
    let insert = sqlx::query(R::statements().insert_few.clone()).bind(actor.workspace_id);
    let written = insert.bind(Value::Array(rows)).execute(&mut *connection).await;
    written.map_err(|error| match refusal(error, actor.workspace_id, &records) {
        // The record was restored in the meantime.
        Error::Conflict(conflict) if conflict.error.field == "id" => not_deleted(records[0].id()),
        other => other,
    })?;
    let entries = records.iter().map(|record| Entry::of(actor, record, Action::Restored));
    history::keep(connection, actor, entries.collect::<Result<_>>()?).await?;
    R::after_restore(connection, actor, &records, &deletions).await?;
    Ok(Restored { records, refused })
}

/// The last deletions of records, unless another record's deletion caused them or they are too old.
async fn last_deletions<R: Record>(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    ids: &[Uuid],
) -> Result<Vec<Last>> {
    Ok(sqlx::query_as(
        "SELECT DISTINCT ON (record_id) record_id, id, former FROM history
         WHERE workspace_id = $1 AND record_id = ANY ($2) AND record_type = $3 AND action = 'deleted'
             AND cause_id IS NULL AND created_at > now() - make_interval(days => $4)
         ORDER BY record_id, id DESC",
    )
    .bind(workspace_id)
    .bind(ids)
    .bind(R::TYPE)
    .bind(RESTORABLE_DAYS)
    .fetch_all(connection)
    .await?)
}

/// Returns which of these records exist.
pub async fn existing<R: Record>(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    ids: &[Uuid],
) -> Result<HashSet<Uuid>> {
    let existing = sqlx::query_scalar(R::statements().existing.clone()).bind(workspace_id).bind(ids);
    Ok(existing.fetch_all(connection).await?.into_iter().collect())
}

/// The row of a deleted record with the record's present values.
fn whole_row<R: Record>(row: Value, record: &R, workspace_id: Uuid) -> Result<Value> {
    let Value::Object(mut row) = row else { return Err(Error::internal("a deleted row is not a JSON object")) };
    row.extend(as_object(record)?);
    // An older version may have deleted the record with other derived values.
    row.extend(derived(record, workspace_id).map(|(column, value)| (column.to_owned(), value.into())));
    Ok(row.into())
}

fn not_deleted(id: Uuid) -> Error {
    Error::conflict_with(id, Reason::NotDeleted, "id", "the record is not deleted")
}
