//! The mappings that callers saved for files with the same headers.

use serde_json::{Map, Value};
use sqlx::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

use super::head::SavedMappings;
use crate::error::Result;
use crate::platform::db;
use crate::records::RecordType;

/// Returns the mappings for headers with these fingerprints.
pub(super) async fn read(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    record_type: RecordType,
    fingerprints: &[String],
) -> Result<SavedMappings> {
    let found: Vec<(String, Json<Map<String, Value>>)> = sqlx::query_as(
        "SELECT fingerprint, mapping FROM import_mappings
         WHERE workspace_id = $1 AND record_type = $2 AND fingerprint = ANY ($3)",
    )
    .bind(workspace_id)
    .bind(record_type)
    .bind(fingerprints)
    .fetch_all(connection)
    .await?;
    Ok(found.into_iter().map(|(fingerprint, Json(mapping))| (fingerprint, mapping)).collect())
}

/// Saves a mapping, instead of an earlier one.
pub(super) async fn save(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    record_type: RecordType,
    fingerprint: &str,
    mapping: &Value,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO import_mappings (workspace_id, record_type, fingerprint, mapping, updated_at)
         VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (workspace_id, record_type, fingerprint)
         DO UPDATE SET mapping = excluded.mapping, updated_at = excluded.updated_at",
    )
    .bind(workspace_id)
    .bind(record_type)
    .bind(fingerprint)
    .bind(mapping)
    .bind(db::now())
    .execute(connection)
    .await?;
    Ok(())
}
