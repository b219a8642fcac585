//! What an import or a bulk change did, record by record.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{AssertSqlSafe, FromRow, PgConnection};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::error::Result;
use crate::imports::Importable;
use crate::string_enum;

string_enum! {
    /// What a job did to a record.
    EffectKind {
        /// It created the record.
        Created = "created",
        /// It updated the record.
        Updated = "updated",
        /// It deleted the record.
        Deleted = "deleted",
        /// It restored the record.
        Restored = "restored",
        /// It suppressed the address.
        Suppressed = "suppressed",
    }
}

/// Something that a job did.
#[derive(Debug, Clone, PartialEq, Serialize, FromRow, ToSchema)]
pub struct Effect {
    /// What the job did.
    pub outcome: EffectKind,
    /// The kind of record; `suppression` for an address.
    #[serde(rename = "type")]
    #[sqlx(rename = "type")]
    #[schema(rename = "type")]
    pub kind: String,
    /// The id of the record, or of the suppression.
    pub id: Uuid,
    /// The address of the record.
    pub email: Option<String>,
    /// The line of the file; `null` for records.
    pub line: Option<i64>,
    /// When it happened; for a created record, when the record was created.
    pub at: DateTime<Utc>,
    /// The position in the list.
    #[serde(skip)]
    pub position: Uuid,
}

/// Returns what a job did: up to `limit` effects of these kinds after a position, in the order of positions.
pub async fn effects<R: Importable>(
    connection: &mut PgConnection,
    (workspace_id, job_id): (Uuid, Uuid),
    kinds: &[EffectKind],
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<Effect>> {
    // Suppressions are no records.
    let kinds = kinds.iter().filter(|kind| !R::SUPPRESSES || **kind == EffectKind::Suppressed);
    let selected: Vec<String> = kinds.filter_map(|kind| Some(format!("({})", statement::<R>(*kind)?))).collect();
    if selected.is_empty() {
        return Ok(Vec::new());
    }
    let sql = format!("SELECT * FROM ({}) AS effects ORDER BY position LIMIT $4", selected.join(" UNION ALL "));
    Ok(sqlx::query_as(AssertSqlSafe(sql))
        .bind(workspace_id)
        .bind(job_id)
        .bind(after.unwrap_or_default())
        .bind(limit)
        .fetch_all(connection)
        .await?)
}

/// The statement of a kind of effect; `None` if records of this kind have none.
fn statement<R: Importable>(kind: EffectKind) -> Option<String> {
    let (table, record_type, action) = (R::TABLE, R::TYPE.as_str(), kind.as_str());
    let has_email = R::COLUMNS.contains(&"email");
    match kind {
        EffectKind::Created => R::IMPORTED.then(|| {
            let email = if has_email { "email" } else { "NULL::text AS email" };
            format!(
                "SELECT 'created' AS outcome, '{record_type}' AS type, id, {email}, NULL::bigint AS line,
                     created_at AS at, id AS position
                 FROM {table} WHERE workspace_id = $1 AND import_job_id = $2 AND id > $3 ORDER BY id LIMIT $4"
            )
        }),
        EffectKind::Updated | EffectKind::Deleted | EffectKind::Restored => {
            // Of a deleted record there is only the entry.
            let email = if has_email { "coalesce(record.email, history.former ->> 'email')" } else { "NULL::text" };
            Some(format!(
                "SELECT '{action}' AS outcome, '{record_type}' AS type, history.record_id AS id, {email} AS email,
                     NULL::bigint AS line, history.created_at AS at, history.id AS position
                 FROM history LEFT JOIN {table} AS record
                     ON record.workspace_id = history.workspace_id AND record.id = history.record_id
                 WHERE history.workspace_id = $1 AND history.actor_type = 'job' AND history.actor_id = $2
                     AND history.id > $3 AND history.record_type = '{record_type}' AND history.action = '{action}'
                     AND history.cause_id IS NULL
                 ORDER BY history.id LIMIT $4"
            ))
        }
        EffectKind::Suppressed => Some(
            "SELECT 'suppressed' AS outcome, 'suppression' AS type, id, email, line, created_at AS at, id AS position
             FROM suppressions WHERE workspace_id = $1 AND job_id = $2 AND id > $3 ORDER BY id LIMIT $4"
                .to_owned(),
        ),
    }
}
