//! Who created a record, and when. The record's own row says it, so a creation costs no entry in the
//! history.

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::Value;
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use super::model::Record;
use crate::error::Result;
use crate::events::ActorKind;

/// The creation of a record.
#[derive(Debug, FromRow, Deserialize)]
pub(super) struct Creation {
    pub created_at: DateTime<Utc>,
    #[serde(default)]
    import_job_id: Option<Uuid>,
    #[serde(default)]
    created_by_type: Option<ActorKind>,
    #[serde(default)]
    created_by_id: Option<Uuid>,
}

impl Creation {
    /// Reads the creation of an existing or deleted record; `None` if there never was one, or if its
    /// deletion has been pruned.
    pub async fn read<R: Record>(connection: &mut PgConnection, workspace_id: Uuid, id: Uuid) -> Result<Option<Self>> {
        let present = sqlx::query_as(R::statements().creation.clone()).bind(workspace_id).bind(id);
        if let Some(present) = present.fetch_optional(&mut *connection).await? {
            return Ok(Some(present));
        }
        let deleted: Option<Value> = sqlx::query_scalar(
            "SELECT former FROM history
             WHERE workspace_id = $1 AND record_id = $2 AND record_type = $3 AND action = 'deleted'
             ORDER BY id DESC LIMIT 1",
        )
        .bind(workspace_id)
        .bind(id)
        .bind(R::TYPE)
        .fetch_optional(connection)
        .await?;
        Ok(deleted.map(serde_json::from_value).transpose()?)
    }

    /// The kind of actor and its id; `None` for a record from before creators were stored.
    pub fn actor(&self) -> Option<(ActorKind, Uuid)> {
        match (self.import_job_id, self.created_by_type, self.created_by_id) {
            (Some(job_id), ..) => Some((ActorKind::Import, job_id)),
            (None, Some(kind), Some(id)) => Some((kind, id)),
            _ => None,
        }
    }
}
