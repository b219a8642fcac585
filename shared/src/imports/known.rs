//! The keys and ids that an import meets, in the database and in its own file.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use super::rows::Row;
use super::{Import, Importable};
use crate::error::Result;
use crate::platform::db;
use crate::records::{self, FieldFault};
use crate::values::Fault;

pub(super) fn taken(field: &str) -> Fault {
    Fault::new("taken", format!("another record has this {field}"))
}

/// The keys and ids in use when a chunk is written: by records, by earlier rows of the chunk, and in
/// a dry run by earlier chunks.
pub(super) struct Known {
    pub now: DateTime<Utc>,
    /// The keys in use, with the ids of their records.
    pub keys: HashMap<String, Uuid>,
    /// The ids in use, with the keys of their records.
    ids: HashMap<Uuid, Option<String>>,
    /// The external ids in use, with the ids of their records. One that a row gives up becomes free
    /// after the chunk.
    external: HashMap<String, Uuid>,
}

impl Known {
    pub async fn read<R: Importable>(
        connection: &mut PgConnection,
        import: &Import,
        rows: &[Row<R::Changes>],
    ) -> Result<Self> {
        let mut known = Self { now: db::now(), keys: HashMap::new(), ids: HashMap::new(), external: HashMap::new() };
        let ids: Vec<Uuid> = rows.iter().filter_map(|row| row.given.id).collect();
        if !ids.is_empty() {
            known.ids.extend(records::keys_of(connection, import.workspace_id, R::KEY, &ids).await?);
        }
        if import.plan.dry_run {
            let keys: Vec<&str> = rows.iter().map(|row| row.key.as_str()).collect();
            for Seen { key, id, external_id } in seen(connection, import, &keys, &ids, &external_ids::<R>(rows)).await?
            {
                known.ids.insert(id, Some(key.clone()));
                known.keys.insert(key, id);
                known.external.extend(external_id.map(|external_id| (external_id, id)));
            }
        }
        Ok(known)
    }

    /// Looks up the external ids of the rows. Returns how many records have one of them.
    pub async fn look_up_external<R: Importable>(
        &mut self,
        connection: &mut PgConnection,
        import: &Import,
        rows: &[Row<R::Changes>],
    ) -> Result<usize> {
        let (Some(key), wanted) = (R::EXTERNAL_ID, external_ids::<R>(rows)) else { return Ok(0) };
        if wanted.is_empty() {
            return Ok(0);
        }
        let owners = records::owners(connection, import.workspace_id, key, &wanted).await?;
        let found = owners.len();
        self.external.extend(owners);
        Ok(found)
    }

    /// Rejects an id that belongs to a record with another key.
    pub fn check_id<R: Importable>(&self, row: &Row<R::Changes>) -> Result<(), FieldFault> {
        match row.given.id.and_then(|id| self.ids.get(&id)) {
            Some(key) if key.as_ref() != Some(&row.key) => {
                Err(("id", Fault::new("taken", format!("is the id of a record with another {}", R::KEY.field))))
            }
            _ => Ok(()),
        }
    }

    /// Rejects an external id of another record than the one that the row updates.
    pub fn check_external<R: Importable>(&self, row: &Row<R::Changes>, id: Option<Uuid>) -> Result<(), FieldFault> {
        let owner = R::row_external_id(&row.changes).and_then(|external_id| self.external.get(external_id));
        match (owner, R::EXTERNAL_ID) {
            (Some(owner), Some(key)) if Some(*owner) != id => Err((key.field, taken(key.field))),
            _ => Ok(()),
        }
    }

    pub fn claim_external<R: Importable>(&mut self, changes: &R::Changes, id: Uuid) {
        self.external.extend(R::row_external_id(changes).map(|external_id| (external_id.to_owned(), id)));
    }

    pub fn create<R: Importable>(&mut self, row: Row<R::Changes>) -> Option<R> {
        let id = row.given.id.unwrap_or_else(Uuid::now_v7);
        let created_at = row.given.created_at.unwrap_or(self.now);
        if row.given.id.is_some() {
            self.ids.insert(id, Some(row.key.clone()));
        }
        self.keys.insert(row.key, id);
        self.claim_external::<R>(&row.changes, id);
        let mut record = R::new(id, created_at, row.changes)?;
        record.touch(row.given.updated_at.unwrap_or(created_at));
        record.derive_fields(None);
        Some(record)
    }
}

fn external_ids<R: Importable>(rows: &[Row<R::Changes>]) -> Vec<String> {
    rows.iter().filter_map(|row| R::row_external_id(&row.changes).map(str::to_owned)).collect()
}

/// Stores the keys and ids that the dry run would have written.
pub(super) async fn remember<R: Importable>(
    connection: &mut PgConnection,
    import: &Import,
    records: &[R],
) -> Result<()> {
    let (mut keys, mut ids, mut external_ids) = (Vec::new(), Vec::new(), Vec::new());
    for record in records {
        if let Some(key) = (R::KEY.of)(record) {
            keys.push(key);
            ids.push(record.id());
            external_ids.push(R::EXTERNAL_ID.and_then(|key| (key.of)(record)));
        }
    }
    sqlx::query(
        "INSERT INTO import_seen (workspace_id, import_id, email_key, record_id, external_id)
         SELECT $1, $2, key, id, external_id
         FROM unnest($3::text[], $4::uuid[], $5::text[]) AS seen (key, id, external_id)",
    )
    .bind(import.workspace_id)
    .bind(import.id)
    .bind(keys)
    .bind(ids)
    .bind(external_ids)
    .execute(connection)
    .await?;
    Ok(())
}

/// A record that an earlier chunk of a dry run would have written.
#[derive(FromRow)]
struct Seen {
    #[sqlx(rename = "email_key")]
    key: String,
    #[sqlx(rename = "record_id")]
    id: Uuid,
    external_id: Option<String>,
}

async fn seen(
    connection: &mut PgConnection,
    import: &Import,
    keys: &[&str],
    ids: &[Uuid],
    external_ids: &[String],
) -> Result<Vec<Seen>> {
    Ok(sqlx::query_as(
        "SELECT email_key, record_id, external_id FROM import_seen
         WHERE workspace_id = $1 AND import_id = $2 AND email_key = ANY ($3)
         UNION
         SELECT email_key, record_id, external_id FROM import_seen
         WHERE workspace_id = $1 AND import_id = $2 AND record_id = ANY ($4)
         UNION
         SELECT email_key, record_id, external_id FROM import_seen
         WHERE workspace_id = $1 AND import_id = $2 AND external_id = ANY ($5)",
    )
    .bind(import.workspace_id)
    .bind(import.id)
    .bind(keys)
    .bind(ids)
    .bind(external_ids)
    .fetch_all(connection)
    .await?)
}

/// Deletes the keys and ids that a dry run stored, at the end of the import.
pub async fn forget_seen(connection: &mut PgConnection, import: &Import) -> Result<()> {
    if import.plan.dry_run {
        sqlx::query("DELETE FROM import_seen WHERE workspace_id = $1 AND import_id = $2")
            .bind(import.workspace_id)
            .bind(import.id)
            .execute(connection)
            .await?;
    }
    Ok(())
}
