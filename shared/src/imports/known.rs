//! The keys and ids that an import meets, in the database and in its own file.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use super::plan::RowKey;
use super::rows::Row;
use super::{Import, Importable, lines};
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
    key: RowKey,
    /// Whether created leads are enrolled for nurture.
    enrolls: bool,
    /// The addresses in use, with the ids of their records.
    emails: HashMap<String, Uuid>,
    /// The ids in use.
    ids: HashSet<Uuid>,
    /// The external ids in use, with the ids of their records. A value that a row gives up becomes free after the
    /// chunk.
    external: HashMap<String, Uuid>,
    /// The values of [`Importable::EXCLUSIVE`] in use, with the ids of their records.
    exclusive: HashMap<String, Uuid>,
}

impl Known {
    pub async fn read<R: Importable>(
        connection: &mut PgConnection,
        import: &Import,
        rows: &[Row<R::Changes>],
    ) -> Result<Self> {
        let key = import.plan.key;
        let mut known = Self {
            now: db::now(),
            key,
            enrolls: import.plan.enroll,
            emails: HashMap::new(),
            ids: HashSet::new(),
            external: HashMap::new(),
            exclusive: HashMap::new(),
        };
        let ids: Vec<Uuid> = rows.iter().filter_map(|row| row.given.id).collect();
        if !ids.is_empty() {
            let found = records::keys_of(connection, import.workspace_id, R::EXTERNAL_ID, &ids).await?;
            known.ids.extend(found.into_iter().map(|(id, _)| id));
        }
        if import.plan.dry_run {
            let seen = seen(connection, import, &emails::<R>(rows), &ids, &external_ids::<R>(rows)).await?;
            for Seen { key, id, external_id } in seen {
                known.ids.insert(id);
                known.emails.insert(key, id);
                known.external.extend(external_id.map(|external_id| (external_id, id)));
            }
        }
        Ok(known)
    }

    /// Looks up the addresses and external ids of the rows. Returns how many records have one of them.
    pub async fn look_up<R: Importable>(
        &mut self,
        connection: &mut PgConnection,
        import: &Import,
        rows: &[Row<R::Changes>],
    ) -> Result<usize> {
        let mut met = self.ids.len();
        if let Some(key) = R::EMAIL {
            let owners = records::owners(connection, import.workspace_id, key, &emails::<R>(rows)).await?;
            met += owners.len();
            self.emails.extend(owners);
        }
        let wanted = external_ids::<R>(rows);
        if !wanted.is_empty() {
            let owners = records::owners(connection, import.workspace_id, R::EXTERNAL_ID, &wanted).await?;
            met += owners.len();
            self.external.extend(owners);
        }
        if let Some(key) = R::EXCLUSIVE {
            let wanted: Vec<String> = rows.iter().filter_map(|row| R::exclusive(&row.changes)).collect();
            self.exclusive.extend(records::owners(connection, import.workspace_id, key, &wanted).await?);
        }
        Ok(met)
    }

    /// Whether records have ids of the chunk. Only a look-up shows whether these are the rows' own.
    pub fn has_ids(&self) -> bool {
        !self.ids.is_empty()
    }

    /// The record that a row finds by its key.
    pub fn target<C>(&self, row: &Row<C>) -> Option<Uuid> {
        match self.key {
            RowKey::Email => self.emails.get(row.key.as_ref()?).copied(),
            RowKey::Id => row.given.id.filter(|id| self.ids.contains(id)),
            RowKey::ExternalId => self.external.get(row.key.as_ref()?).copied(),
        }
    }

    /// Rejects a row with an id, an address or an external id of another record than the one that it finds.
    pub fn check<R: Importable>(&self, row: &Row<R::Changes>, target: Option<Uuid>) -> Result<(), FieldFault> {
        if row.given.id.is_some_and(|id| self.ids.contains(&id) && Some(id) != target) {
            let message = format!("is the id of a record with another {}", self.key.as_str());
            return Err(("id", Fault::new("taken", message)));
        }
        // A row that finds its record by the address cannot have another record's.
        let email = if self.key == RowKey::Email { None } else { R::email_key(&row.changes) };
        let email = email.and_then(|email| self.emails.get(&email));
        let external_id = R::row_external_id(&row.changes).and_then(|external_id| self.external.get(external_id));
        for (field, owner) in [("email", email), (R::EXTERNAL_ID.field, external_id)] {
            if owner.is_some_and(|owner| Some(*owner) != target) {
                return Err((field, taken(field)));
            }
        }
        let exclusive = R::exclusive(&row.changes).and_then(|value| self.exclusive.get(&value));
        match (exclusive, R::EXCLUSIVE) {
            (Some(owner), Some(key)) if Some(*owner) != target => {
                Err((key.field, Fault::new(key.reason.code(), key.message)))
            }
            _ => Ok(()),
        }
    }

    /// Notes the address and the external id that a row gives to a record.
    pub fn claim<R: Importable>(&mut self, changes: &R::Changes, id: Uuid) {
        self.emails.extend(R::email_key(changes).map(|email| (email, id)));
        self.external.extend(R::row_external_id(changes).map(|external_id| (external_id.to_owned(), id)));
    }

    /// Creates the record of a row; `None` if a required field is missing.
    pub fn create<R: Importable>(&mut self, row: Row<R::Changes>) -> Option<R> {
        let id = row.given.id.unwrap_or_else(Uuid::now_v7);
        let created_at = row.given.created_at.unwrap_or(self.now);
        let by_email = row.key.filter(|_| self.key == RowKey::Email);
        let mut record = R::new(id, created_at, row.changes)?;
        record.touch(row.given.updated_at.unwrap_or(created_at));
        record.derive_fields(None);
        if self.enrolls {
            record.enroll(self.now);
        }
        if row.given.id.is_some() {
            self.ids.insert(id);
        }
        let email = by_email.or_else(|| R::EMAIL.and_then(|key| (key.of)(&record)));
        self.emails.extend(email.map(|email| (email, id)));
        self.external.extend((R::EXTERNAL_ID.of)(&record).map(|external_id| (external_id, id)));
        self.exclusive.extend(R::EXCLUSIVE.and_then(|key| (key.of)(&record)).map(|value| (value, id)));
        Some(record)
    }
}

fn emails<R: Importable>(rows: &[Row<R::Changes>]) -> Vec<String> {
    rows.iter().filter_map(|row| R::email_key(&row.changes)).collect()
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
        // A record without an address has its own id in the place of one.
        let email = R::EMAIL.and_then(|key| (key.of)(record));
        keys.push(email.unwrap_or_else(|| record.id().to_string()));
        ids.push(record.id());
        external_ids.push((R::EXTERNAL_ID.of)(record));
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
    emails: &[String],
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
    .bind(emails)
    .bind(ids)
    .bind(external_ids)
    .fetch_all(connection)
    .await?)
}

/// Deletes what the import stored about its file, at its end.
pub async fn forget_seen(connection: &mut PgConnection, import: &Import) -> Result<()> {
    lines::forget(connection, import).await?;
    if import.plan.dry_run {
        for delete in [
            "DELETE FROM import_seen WHERE workspace_id = $1 AND import_id = $2",
            "DELETE FROM import_seen_suppressions WHERE workspace_id = $1 AND import_id = $2",
        ] {
            sqlx::query(delete).bind(import.workspace_id).bind(import.id).execute(&mut *connection).await?;
        }
    }
    Ok(())
}
