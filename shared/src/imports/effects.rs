//! What a job did, record by record.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{AssertSqlSafe, FromRow, PgConnection};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::error::Result;
use crate::imports::Importable;
use crate::records::RecordType;
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
    let selected: Vec<String> = kinds.flat_map(|kind| statements::<R>(*kind)).collect();
    if selected.is_empty() {
        return Ok(Vec::new());
    }
    let sql = format!("SELECT * FROM (({})) AS effects ORDER BY position LIMIT $4", selected.join(") UNION ALL ("));
    Ok(sqlx::query_as(AssertSqlSafe(sql))
        .bind(workspace_id)
        .bind(job_id)
        .bind(after.unwrap_or_default())
        .bind(limit)
        .fetch_all(connection)
        .await?)
}

/// The statements that find effects of a kind. Those of deletions and of changed links are among them, whatever kind
/// of record they are of.
fn statements<R: Importable>(kind: EffectKind) -> Vec<String> {
    let (table, action) = (R::TABLE, kind.as_str());
    let has_email = R::COLUMNS.contains(&"email");
    match kind {
        EffectKind::Created => {
            let mut created = Vec::new();
            if R::IMPORTED {
                created.push(imported::<R>(if has_email { "email" } else { "NULL::text AS email" }));
            }
            if R::TYPE == RecordType::Lead {
                created.extend([CONVERTED.to_owned(), NURTURED.to_owned()]);
            }
            created
        }
        EffectKind::Updated | EffectKind::Deleted | EffectKind::Restored => {
            // Of a deleted record there is only the entry.
            let email = if has_email { "coalesce(record.email, history.former ->> 'email')" } else { "NULL::text" };
            vec![format!(
                "SELECT '{action}' AS outcome, history.record_type AS type, history.record_id AS id, {email} AS email,
                     NULL::bigint AS line, history.created_at AS at, history.id AS position
                 FROM history LEFT JOIN {table} AS record
                     ON record.workspace_id = history.workspace_id AND record.id = history.record_id
                 WHERE history.workspace_id = $1 AND history.actor_type = 'job' AND history.actor_id = $2
                     AND history.id > $3 AND history.action = '{action}'
                 ORDER BY history.id LIMIT $4"
            )]
        }
        EffectKind::Suppressed => vec![
            "SELECT 'suppressed' AS outcome, 'suppression' AS type, id, email, line, created_at AS at, id AS position
             FROM suppressions WHERE workspace_id = $1 AND job_id = $2 AND id > $3 ORDER BY id LIMIT $4"
                .to_owned(),
        ],
    }
}

/// Finds what an import created.
fn imported<R: Importable>(email: &str) -> String {
    let (table, record_type) = (R::TABLE, R::TYPE.as_str());
    format!(
        "SELECT 'created' AS outcome, '{record_type}' AS type, id, {email}, NULL::bigint AS line,
             created_at AS at, id AS position
         FROM {table} WHERE workspace_id = $1 AND import_job_id = $2 AND id > $3 ORDER BY id LIMIT $4"
    )
}

/// Finds the customers of the leads that a bulk change converted. A customer's id is older than the entry of its lead.
const CONVERTED: &str = "
    SELECT 'created' AS outcome, 'customer' AS type, customers.id, customers.email, NULL::bigint AS line,
        customers.created_at AS at, customers.id AS position
    FROM history JOIN customers ON customers.workspace_id = history.workspace_id
        AND customers.id = (history.latter ->> 'customer_id')::uuid
    WHERE history.workspace_id = $1 AND history.actor_type = 'job' AND history.actor_id = $2
        AND history.id > $3 AND history.record_type = 'lead' AND history.action = 'updated'
        AND customers.created_by_type = 'conversion' AND customers.created_by_id = history.record_id
        AND customers.id > $3
    ORDER BY history.id LIMIT $4";

/// Finds the interactions that nurture created.
const NURTURED: &str = "
    SELECT 'created' AS outcome, 'lead_interaction' AS type, id, NULL::text AS email, NULL::bigint AS line,
        created_at AS at, id AS position
    FROM lead_interactions
    WHERE workspace_id = $1 AND created_by_type = 'job' AND created_by_id = $2 AND id > $3 ORDER BY id LIMIT $4";
