//! Deleting and restoring records together with their owners.

use serde_json::Value;
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use super::actor::{Actor, Deletions};
use super::constraints::refusal;
use super::history::{Action, Entry, keep};
use super::model::Record;
use crate::error::{Error, Result};

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
        let entry = |Gone { id, owner_id, row }| Entry {
            former: Some(row),
            cause_id: self.entry_of(owner_id),
            ..Entry::new(R::TYPE, id, Action::Deleted)
        };
        keep(connection, actor, deleted.into_iter().map(entry).collect()).await
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
        let (ids, rows): (Vec<Uuid>, Vec<Value>) = deleted.into_iter().unzip();
        let insert = sqlx::query(R::statements().insert_few.clone()).bind(actor.workspace_id);
        let records = rows.iter().cloned().map(serde_json::from_value).collect::<Result<Vec<R>, _>>()?;
        let restored = insert.bind(Value::Array(rows)).execute(&mut *connection).await;
        restored.map_err(|error| refusal(error, actor.workspace_id, &records))?;
        let entry = |id| Entry::new(R::TYPE, id, Action::Restored);
        keep(connection, actor, ids.into_iter().map(entry).collect()).await
    }
}
