//! Restoring deleted records.

use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use super::actor::{Actor, Deletion};
use super::constraints::refusal;
use super::history::{self, Action, Entry, RESTORABLE_DAYS};
use super::model::{Record, as_object, derived};
use crate::error::{Error, Reason, Result};

/// Restores a deleted record and the records that were deleted with it. Needs a transaction.
///
/// Links to records that no longer exist, or that are linked to another record, are not restored.
///
/// # Errors
/// [`Error::NotFound`] if the record was not deleted in the last [`RESTORABLE_DAYS`] days;
/// [`Error::Conflict`] if the record exists, or if its unique key is taken.
pub async fn restore<R: Record>(connection: &mut PgConnection, actor: &Actor, id: Uuid) -> Result<R> {
    let last: Option<(Uuid, Value)> = sqlx::query_as(
        "SELECT id, former FROM history
         WHERE workspace_id = $1 AND record_id = $2 AND record_type = $3 AND action = 'deleted' AND cause_id IS NULL
             AND created_at > now() - make_interval(days => $4)
         ORDER BY id DESC LIMIT 1",
    )
    .bind(actor.workspace_id)
    .bind(id)
    .bind(R::TYPE)
    .bind(RESTORABLE_DAYS)
    .fetch_optional(&mut *connection)
    .await?;
    let Some((entry, Value::Object(mut row))) = last else {
        // An existing record cannot be restored; a record that never existed is not found.
        let exists = history::exists::<R>(connection, actor.workspace_id, id).await?;
        return Err(if exists { not_deleted(id) } else { Error::NotFound });
    };
    let mut record: R = serde_json::from_value(Value::Object(row.clone()))?;
    record.before_restore(connection, actor).await?;
    row.extend(as_object(&record)?);
    // An older version may have deleted the record with other derived values.
    row.extend(derived(&record, actor.workspace_id).map(|(column, value)| (column.to_owned(), value.into())));
    let insert = sqlx::query(R::statements().insert_few.clone()).bind(actor.workspace_id);
    let written = insert.bind(Value::Array(vec![row.into()])).execute(&mut *connection).await;
    written.map_err(|error| match refusal(error, actor.workspace_id, [&record]) {
        // The record was restored before.
        Error::Conflict(conflict) if conflict.error.field == "id" => not_deleted(id),
        other => other,
    })?;
    record.after_restore(connection, actor, &Deletion { id: entry }).await?;
    history::keep(connection, actor, vec![Entry::new(R::TYPE, id, Action::Restored)]).await?;
    Ok(record)
}

fn not_deleted(id: Uuid) -> Error {
    Error::conflict_with(id, Reason::NotDeleted, "id", "the record is not deleted")
}
