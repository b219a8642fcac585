//! Imports: an upload stores a file in chunks, and a worker writes the rows of each chunk.
//!
//! An upload is split at record boundaries and stored as it arrives. Its last transaction creates
//! the job. The worker processes the chunks in order, one transaction per chunk: the transaction
//! writes the rows, stores the rejected rows, updates the counts and deletes the chunk. Every
//! accepted row is therefore imported exactly once, whichever process dies.

mod cells;
pub mod columns;
pub mod decode;
pub mod dictionary;
mod effects;
mod file_kind;
mod format;
mod forms;
mod grammar;
mod gzip;
pub mod head;
mod jobs;
mod json_lines;
mod known;
mod lines;
mod nearest;
mod opt_outs;
pub mod options;
pub mod outcomes;
mod owners;
mod packed;
mod parents;
pub mod plan;
pub(crate) mod revert;
pub mod rows;
mod saved;
mod set;
mod source;
pub mod split;
mod spool;
pub mod stored;
mod suppressions;
mod undo;
mod upload;
mod write;
mod xlsx;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::{FromRow, PgConnection};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::error::Result;
use crate::mail::suppressions::NewSuppression;
use crate::queue::Progress;
use crate::records::UniqueKey;
use crate::records::link::Linked;
use crate::values::json_schema::Shape;
use crate::values::patch::Patch;
use crate::values::{CustomFields, Email, Time};
use dictionary::{Headers, Table};
use plan::MappingSource;
use split::Chunk;

pub use cells::dates::DateOrder;
pub use cells::numbers::Decimal;
pub use columns::FAULT_COLUMNS;
pub use effects::{Effect, EffectKind, effects};
pub use format::Format;
pub use jobs::{
    ImportCustomerInteractions, ImportCustomers, ImportFeedback, ImportJob, ImportLeadInteractions, ImportLeads,
    ImportOrders, ImportSuppressions,
};
pub use known::forget_seen;
pub use options::Options;
pub use outcomes::{Outcome, ReportedRow, ReportedRows, reported};
pub use owners::Owners;
pub use plan::{OnConflict, Plan, RowKey};
pub use rows::Given;
pub use undo::{Undo, UndoImport, Undone, undo};
pub use upload::{Preview, Upload, Uploaded, sweep};
pub use write::{KeyCheck, write};

/// A kind of record that files can be imported into.
///
/// Every field can be imported. Other names of the fields are in `config/import/`. Columns that match no field
/// are stored in the record's custom fields, if the kind has any.
///
/// Rows of a kind with an [owner](crate::records::Record::OWNER) name it by its id, its address or its external id.
pub trait Importable: Linked {
    /// The key of records' addresses, if the kind has unique ones.
    const EMAIL: Option<&'static UniqueKey<Self>> = None;

    /// The key of records' ids in the system that wrote the file.
    const EXTERNAL_ID: &'static UniqueKey<Self>;

    /// The fields by which rows can find their records, the default first. A row without a key is rejected if
    /// the kind has addresses, else it creates a record.
    const KEYS: &'static [RowKey] = &[RowKey::ExternalId, RowKey::Id];

    /// The words for the kind's fields.
    const HEADERS: Headers;

    /// The fields whose values have other names, with the table of these names.
    const WORDS: &'static [(&'static str, Table)] = &[];

    /// The ids of another system that files may name by any text. Each text is always the same id.
    const NAMED_IDS: &'static [&'static str] = &[];

    /// Values of fields with a fixed set that other systems have and the kind does not, with the one that is nearest.
    const NEAREST_WORDS: &'static [(&'static str, &'static str)] = &[];

    /// Fields of which the kind has another one: the name in `config/import/`, and that of the kind.
    const RENAMED: &'static [(&'static str, &'static str)] = &[];

    /// The required fields that [`complete`](Self::complete) supplies, so that a bad cell does not reject its row.
    const SUPPLIED: &'static [&'static str] = &[];

    /// A further key that new records must not share.
    const EXCLUSIVE: Option<&'static UniqueKey<Self>> = None;

    /// Fields whose values are ratings of five.
    const RATINGS: &'static [&'static str] = &[];

    /// The columns of which a file needs one to create records; without any, it only updates.
    const NAMED_BY: &'static [&'static str] = &[];

    /// The status of a record that another system marks as converted.
    const CONVERTED: Option<&'static str> = None;

    /// The status of a record that another system marks as cancelled, in whichever column.
    const CANCELLED: Option<&'static str> = None;

    /// The fields that a row shares with the earlier rows of the same external id, which are then lines of one
    /// record of the other system. Without any, the second of these rows is a conflict.
    const OF_ALL_LINES: &'static [&'static str] = &[];

    /// Whether records can be enrolled for nurture.
    const ENROLLED: bool = false;

    /// Whether each row suppresses an address, and writes no record.
    const SUPPRESSES: bool = false;

    /// The field of a file without a header that begins with an address or a hash, if the kind has such files.
    const BARE: Option<&'static str> = None;

    /// The external id of a row.
    fn row_external_id(changes: &Self::Changes) -> Option<&str>;

    /// The address of a row.
    fn email(_changes: &Self::Changes) -> Option<&Email> {
        None
    }

    /// The address of a record.
    fn address(&self) -> Option<&Email> {
        None
    }

    /// The value of [`EXCLUSIVE`](Self::EXCLUSIVE) that a row asks for.
    fn exclusive(_changes: &Self::Changes) -> Option<String> {
        None
    }

    /// Enrols a new record for nurture.
    fn enroll(&mut self, _at: Time) {}

    /// Completes the values of a new record, such as a name that the file does not have.
    fn complete(_changes: &mut Self::Changes, _given: &mut Given) {}

    /// The custom fields of a row.
    fn custom_fields_mut(_changes: &mut Self::Changes) -> Option<&mut Patch<CustomFields>> {
        None
    }

    /// The record's custom fields.
    fn custom_fields(&self) -> Option<&CustomFields> {
        None
    }

    /// The suppression that the record is.
    fn into_suppression(self) -> Option<NewSuppression> {
        None
    }

    /// The normal form of a row's address.
    fn email_key(changes: &Self::Changes) -> Option<String> {
        Self::email(changes).map(Email::key)
    }
}

/// The values that a field does not know, with their numbers, by the header of their column.
pub type Unmatched = BTreeMap<String, BTreeMap<String, i64>>;

/// The counts of an import, in rows of the file: `rows = created + updated + skipped + failed`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// Rows read.
    pub rows: i64,
    /// Rows that created a record.
    pub created: i64,
    /// Rows whose key already existed, with `on_conflict=update`.
    pub updated: i64,
    /// Rows that were skipped.
    pub skipped: i64,
    /// Rejected rows.
    pub failed: i64,
    /// Rows without a key, each of which created a record.
    pub without_key: i64,
    /// Cells that could not be read into their field, and links that were not created.
    pub warnings: i64,
    /// Addresses that the import suppressed.
    pub suppressed: i64,
    /// See [`Unmatched`].
    pub unmatched: Unmatched,
}

/// The most values of a column that are counted, and shown.
const MAX_UNMATCHED: (usize, usize) = (1_000, 100);
/// The most values of all columns that are counted: they are stored with each chunk.
const MAX_UNMATCHED_OF_FILE: usize = 5_000;

impl Counts {
    /// Adds the unknown values of a chunk.
    fn add_unmatched(&mut self, headers: &[String], unmatched: rows::Unmatched) {
        let mut left = MAX_UNMATCHED_OF_FILE.saturating_sub(self.unmatched.values().map(BTreeMap::len).sum());
        for (column, values) in unmatched {
            let Some(header) = headers.get(column) else { continue };
            let known = self.unmatched.entry(header.clone()).or_default();
            for (value, count) in values {
                let value: String = value.chars().filter(|c| *c != '\0').take(200).collect();
                if let Some(counted) = known.get_mut(&value) {
                    *counted += count;
                } else if known.len() < MAX_UNMATCHED.0 && left > 0 {
                    left -= 1;
                    known.insert(value, count);
                }
            }
        }
    }

    /// The most frequent unknown values of each column.
    fn shown_unmatched(&self) -> Value {
        let most_frequent = |values: &BTreeMap<String, i64>| {
            let mut values: Vec<(&String, &i64)> = values.iter().collect();
            values.sort_by_key(|(_, count)| -**count);
            values
                .into_iter()
                .take(MAX_UNMATCHED.1)
                .map(|(value, count)| (value.clone(), Value::from(*count)))
                .collect()
        };
        let columns =
            self.unmatched.iter().map(|(header, values)| (header.clone(), Value::Object(most_frequent(values))));
        Value::Object(columns.collect())
    }
}

/// The result of an import, as its job shows it.
#[derive(Debug, Serialize, ToSchema)]
pub struct ImportResult {
    /// Rows read: the sum of `created`, `updated`, `skipped` and `failed`.
    rows: i64,
    /// Rows that created a record.
    created: i64,
    /// Rows whose key already existed, with `on_conflict=update`.
    updated: i64,
    /// Rows that were skipped: conflicts, records marked as deleted, and totals at the end of the file.
    skipped: i64,
    /// Rejected rows; the job's `errors` list them.
    failed: i64,
    /// Rows without an id or external id, each of which created a record; they are counted in `created`. Rows of
    /// leads and customers always have a key.
    without_key: i64,
    /// Cells that could not be read into their field, whose text is in `custom_fields`, and links that were not
    /// created. `errors?outcome=warned` lists the rows.
    warnings: i64,
    /// Addresses that get no email any more, because the file says so.
    suppressed: i64,
    /// Values that a field does not know, with their numbers, by header: the 100 most frequent of each column.
    #[schema(value_type = HashMap<String, HashMap<String, i64>>)]
    unmatched: Value,
    /// Whether this was a dry run, which writes no records.
    dry_run: bool,
    /// How rows whose key already exists are handled.
    #[schema(schema_with = OnConflict::shape)]
    on_conflict: OnConflict,
    /// The field by which rows find their records.
    #[schema(schema_with = RowKey::shape)]
    key: RowKey,
    /// The format of the file.
    #[schema(schema_with = Format::shape)]
    format: Format,
    /// The delimiter of the cells of a CSV file.
    delimiter: Option<String>,
    /// The name of the encoding.
    encoding: String,
    /// The line of the header, or the row of a sheet; `null` if the request named the columns, and for JSON Lines.
    header_row: Option<u64>,
    /// What became of each header: a field, `custom_fields.key`, `suppression`, `deleted` for a column that says which
    /// rows to skip, or `null` for a column that is ignored.
    #[schema(value_type = HashMap<String, Option<String>>)]
    mapping: Value,
    /// Where the mapping comes from.
    #[schema(schema_with = MappingSource::shape)]
    mapping_source: MappingSource,
}

/// An accepted import.
#[derive(Debug, Clone, FromRow)]
pub struct Import {
    /// The workspace of the imported records.
    pub workspace_id: Uuid,
    /// The id of the import and of its job.
    pub id: Uuid,
    /// How the file is read.
    #[sqlx(json)]
    pub plan: Plan,
    /// The counts so far.
    #[sqlx(json)]
    pub counts: Counts,
}

impl Import {
    /// The rows processed so far, and the total.
    pub fn progress(&self) -> Progress {
        Progress { done: self.counts.rows, total: Some(self.plan.rows) }
    }

    /// The result for the API, final or so far.
    pub fn result(&self) -> Result<Value> {
        let Counts { rows, created, updated, skipped, failed, without_key, warnings, suppressed, .. } = self.counts;
        let plan = &self.plan;
        Ok(serde_json::to_value(ImportResult {
            rows,
            created,
            updated,
            skipped,
            failed,
            without_key,
            warnings,
            suppressed,
            unmatched: self.counts.shown_unmatched(),
            dry_run: plan.dry_run,
            on_conflict: plan.on_conflict,
            key: plan.key,
            format: plan.format,
            delimiter: plan.shown_delimiter(),
            encoding: plan.encoding.clone(),
            header_row: plan.header_row,
            mapping: plan.mapping(),
            mapping_source: plan.mapping_source,
        })?)
    }
}

/// Returns an accepted import.
///
/// # Errors
/// [`Error::NotFound`](crate::Error::NotFound).
pub async fn get(connection: &mut PgConnection, workspace_id: Uuid, id: Uuid) -> Result<Import> {
    Ok(sqlx::query_as(
        "SELECT workspace_id, id, plan, counts FROM imports WHERE workspace_id = $1 AND id = $2 AND job_id IS NOT NULL",
    )
    .bind(workspace_id)
    .bind(id)
    .fetch_one(connection)
    .await?)
}

/// Returns the first unprocessed chunk at or after `seq`, with its number.
pub async fn chunk(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    import_id: Uuid,
    seq: i64,
) -> Result<Option<(i64, Chunk)>> {
    let row: Option<(i64, i64, Option<String>, Vec<u8>)> = sqlx::query_as(
        "SELECT seq, first_line, refusal, data FROM import_chunks
         WHERE workspace_id = $1 AND import_id = $2 AND seq >= $3 ORDER BY seq LIMIT 1",
    )
    .bind(workspace_id)
    .bind(import_id)
    .bind(seq)
    .fetch_optional(connection)
    .await?;
    Ok(row
        .map(|(seq, first_line, refusal, data)| (seq, Chunk { first_line: first_line.unsigned_abs(), refusal, data })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_many_unknown_values_stores_few_of_them() {
        let headers: Vec<String> = (0..1_000).map(|n| format!("Status ({n})")).collect();
        let column = || (0..50).map(|n| (format!("{n}{}", "ß".repeat(300)), 1)).collect();
        let mut counts = Counts::default();
        for _ in 0..2 {
            counts.add_unmatched(&headers, (0..1_000).map(|at| (at, column())).collect());
        }
        let values: Vec<(&String, &i64)> = counts.unmatched.values().flatten().collect();
        assert_eq!(values.len(), MAX_UNMATCHED_OF_FILE);
        assert!(values.iter().all(|(value, count)| value.chars().count() == 200 && **count == 2));
    }
}
