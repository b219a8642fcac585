//! Deleting and restoring records together with their owners.

use serde_json::Value;
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use super::actor::Deletions;
use super::constraints::refusal;
use super::history::{Action, Entry, keep};
use super::model::Record;
use crate::error::{Error, Result};
use crate::events::Actor;

#[derive(FromRow)]
struct Gone {
    id: Uuid,
    owner_id: Uuid,
    row: Value,
}

impl Deletions {
    /// Deletes the records whose [owners](Record::OWNER) are deleted. The owners' rows are locked, so that nobody
    /// creates further records.
    ///
    /// # Errors
    /// [`Error::Internal`] if the kind has no owner.
    pub async fn cascade_delete<R: Record>(&self, connection: &mut PgConnection, actor: &Actor) -> Result<()> {
        let delete = R::statements().delete_owned.clone();
        let delete = delete.ok_or_else(|| Error::internal(format!("{} have no owner", R::TABLE)))?;
        let deleted: Vec<Gone> =
            sqlx::query_as(delete).bind(actor.workspace_id).bind(self.record_ids()).fetch_all(&mut *connection).await?;
        let mut entries = Vec::with_capacity(deleted.len());
        for Gone { id, owner_id, row } in deleted {
            let entry = Entry::new(R::TYPE, id, Action::Deleted);
            let entry = match actor.is_reported() {
                true => entry.reported(actor, &R::deserialize(&row)?)?,
                false => entry,
            };
            entries.push(Entry { former: Some(row), cause_id: self.entry_of(owner_id), ..entry });
        }
        keep(connection, actor, entries).await
    }

    /// Restores the records of a kind that were deleted by these deletions.
    ///
    /// # Errors
    /// [`Error::Conflict`] if one of the records exists again, or if its unique key is taken.
    pub async fn restore_children<R: Record>(&self, connection: &mut PgConnection, actor: &Actor) -> Result<()> {
        let deleted: Vec<(Uuid, Value)> = sqlx::query_as(
            "SELECT record_id, former FROM history WHERE workspace_id = $1 AND cause_id = ANY ($2) AND record_type = $3",
        )
        .bind(actor.workspace_id)
        .bind(self.entries())
        .bind(R::TYPE)
        .fetch_all(&mut *connection)
        .await?;
        if deleted.is_empty() {
            return Ok(());
        }
        let rows: Vec<Value> = deleted.into_iter().map(|(_, row)| row).collect();
        let insert = sqlx::query(R::statements().insert_few.clone()).bind(actor.workspace_id);
        let records = rows.iter().cloned().map(serde_json::from_value).collect::<Result<Vec<R>, _>>()?;
        let restored = insert.bind(Value::Array(rows)).execute(&mut *connection).await;
        restored.map_err(|error| refusal(error, actor.workspace_id, &records))?;
        let entries = records.iter().map(|record| Entry::of(actor, record, Action::Restored));
        keep(connection, actor, entries.collect::<Result<_>>()?).await
    }
}
