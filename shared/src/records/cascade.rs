//! Deleting and restoring records together with their owner.

use serde_json::Value;
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use super::actor::{Actor, Deletion};
use super::constraints::refusal;
use super::history::{Action, Entry, keep};
use super::model::Record;
use crate::error::{Error, Result};

#[derive(FromRow)]
struct Gone {
    id: Uuid,
    row: Value,
}

impl Deletion {
    /// Deletes the records of an [owner](Record::OWNER). The owner's row is locked, so that nobody
    /// creates further records.
    ///
    /// # Errors
    /// [`Error::Internal`] if the kind has no owner.
    pub async fn cascade_delete<R: Record>(
        &self,
        connection: &mut PgConnection,
        actor: &Actor,
        owner_id: Uuid,
    ) -> Result<()> {
        let delete = R::statements().delete_owned.clone();
        let delete = delete.ok_or_else(|| Error::internal(format!("{} have no owner", R::TABLE)))?;
        let deleted: Vec<Gone> =
            sqlx::query_as(delete).bind(actor.workspace_id).bind(owner_id).fetch_all(&mut *connection).await?;
        let entry = |Gone { id, row }| Entry {
            former: Some(row),
            cause_id: Some(self.id),
            ..Entry::new(R::TYPE, id, Action::Deleted)
        };
        keep(connection, actor, deleted.into_iter().map(entry).collect()).await
    }

    /// Restores the records of a kind that were deleted by this deletion.
    ///
    /// # Errors
    /// [`Error::Conflict`] if one of the records exists again.
    pub async fn restore_children<R: Record>(&self, connection: &mut PgConnection, actor: &Actor) -> Result<()> {
        let deleted: Vec<(Uuid, Value)> = sqlx::query_as(
            "SELECT record_id, former FROM history WHERE workspace_id = $1 AND cause_id = $2 AND record_type = $3",
        )
        .bind(actor.workspace_id)
        .bind(self.id)
        .bind(R::TYPE)
        .fetch_all(&mut *connection)
        .await?;
        let (ids, rows): (Vec<Uuid>, Vec<Value>) = deleted.into_iter().unzip();
        let insert = sqlx::query(R::statements().insert_few.clone()).bind(actor.workspace_id);
        let records = rows.iter().cloned().map(serde_json::from_value).collect::<Result<Vec<R>, _>>()?;
        let restored = insert.bind(Value::Array(rows)).execute(&mut *connection).await;
        restored.map_err(|error| refusal(error, actor.workspace_id, &records))?;
        let entry = |id| Entry::new(R::TYPE, id, Action::Restored);
        keep(connection, actor, ids.into_iter().map(entry).collect()).await
    }
}
