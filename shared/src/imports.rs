//! Imports: an upload stores a file in chunks, and a worker writes the rows of each chunk.
//!
//! An upload is split at record boundaries and stored as it arrives. Its last transaction creates
//! the job. The worker processes the chunks in order, one transaction per chunk: the transaction
//! writes the rows, stores the rejected rows, updates the counts and deletes the chunk. Every
//! accepted row is therefore imported exactly once, whichever process dies.

pub mod aliases;
pub mod columns;
pub mod decode;
mod grammar;
pub mod head;
mod known;
pub mod options;
pub mod rows;
pub mod split;
mod undo;
mod upload;
mod write;

use futures_util::TryStreamExt;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::types::Json;
use sqlx::{FromRow, PgConnection};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::error::Result;
use crate::queue::{Payload, Progress};
use crate::records::UniqueKey;
use crate::records::link::Linked;
use crate::string_enum;
use crate::values::CustomFields;
use crate::values::json_schema::Shape;
use crate::values::patch::Patch;
use columns::{Column, Target, is_fault_column};
use split::Chunk;

pub use columns::FAULT_COLUMNS;
pub use known::forget_seen;
pub use options::Options;
pub use undo::{Undo, UndoImport, undo};
pub use upload::{Upload, Uploaded, sweep};
pub use write::{KeyCheck, write};

/// A kind of record that files can be imported into.
///
/// A row is matched to its record by a key. The columns declare which fields are required, and
/// [`Linked`] declares what a record is linked to. Columns that match no field are stored in the
/// record's custom fields, if the kind has any.
pub trait Importable: Linked {
    /// The importable fields and their names in other systems.
    const FILE_COLUMNS: &'static [Column];
    /// The key that matches rows to records, one of [`Record::UNIQUE`](crate::records::Record::UNIQUE).
    const KEY: &'static UniqueKey<Self>;

    /// The key of records' ids in the system that wrote the file, if the kind has one.
    const EXTERNAL_ID: Option<&'static UniqueKey<Self>> = None;

    /// The normalized key of a row.
    fn row_key(changes: &Self::Changes) -> Option<String>;

    /// The external id of a row.
    fn row_external_id(_changes: &Self::Changes) -> Option<&str> {
        None
    }

    /// The custom fields of a row.
    fn custom_fields_mut(_changes: &mut Self::Changes) -> Option<&mut Patch<CustomFields>> {
        None
    }

    /// The record's custom fields.
    fn custom_fields(&self) -> Option<&CustomFields> {
        None
    }
}

/// The job that imports leads.
#[derive(Debug, Serialize, Deserialize)]
pub struct ImportLeads {
    /// The [`Import`].
    pub import_id: Uuid,
    /// See [`Plan::dry_run`].
    #[serde(default)]
    pub dry_run: bool,
}

impl Payload for ImportLeads {
    const KIND: &'static str = "import_leads";
    const QUEUE: &'static str = "imports";

    type Result = ImportResult;

    fn is_dry_run(&self) -> bool {
        self.dry_run
    }
}

/// The job that imports customers.
#[derive(Debug, Serialize, Deserialize)]
pub struct ImportCustomers {
    /// The [`Import`].
    pub import_id: Uuid,
    /// See [`Plan::dry_run`].
    #[serde(default)]
    pub dry_run: bool,
}

impl Payload for ImportCustomers {
    const KIND: &'static str = "import_customers";
    const QUEUE: &'static str = "imports";

    type Result = ImportResult;

    fn is_dry_run(&self) -> bool {
        self.dry_run
    }
}

string_enum! {
    /// How to handle a row whose key already exists, in the database or earlier in the file.
    OnConflict {
        /// Counts the row and skips it.
        Skip = "skip",
        /// Updates the record with the row's non-empty cells.
        Update = "update",
        /// Rejects the row.
        Fail = "fail",
    }
}

/// How a file is read; decided from its head.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Plan {
    /// See [`OnConflict`].
    pub on_conflict: OnConflict,
    /// Whether only the result and the rejected rows are stored.
    pub dry_run: bool,
    /// The delimiter of the cells.
    pub delimiter: u8,
    /// The name of the encoding.
    pub encoding: String,
    /// The headers, made distinct: blank headers are named by position, repeated ones are numbered.
    pub headers: Vec<String>,
    /// The target of each column.
    pub targets: Vec<Target>,
    /// The number of records in the file; known when the upload is complete.
    pub rows: i64,
    /// The line after which every line break ends a record, because too many quotes were unclosed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_line_from: Option<u64>,
}

impl Plan {
    /// The maximum number of records in a chunk. Every record may store all the headers in its
    /// custom fields, so long headers lower it.
    fn max_chunk_records(&self) -> usize {
        const HEADERS: usize = 32 << 20;
        let headers: usize = self.headers.iter().map(String::len).sum();
        (HEADERS / headers.max(1)).clamp(1, split::MAX_CHUNK_RECORDS)
    }

    /// Whether every line break ends a record in the chunk that begins on the line.
    fn is_by_line(&self, first_line: u64) -> bool {
        self.by_line_from.is_some_and(|from| first_line >= from)
    }
}

/// The counts of an import, in rows of the file: `rows = created + updated + skipped + failed`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// Rows read.
    pub rows: i64,
    /// Rows that created a record.
    pub created: i64,
    /// Rows whose key already existed, with `on_conflict=update`.
    pub updated: i64,
    /// Rows whose key already existed, with `on_conflict=skip`.
    pub skipped: i64,
    /// Rejected rows.
    pub failed: i64,
    /// Cells with a value that the field does not know, which are stored in `custom_fields`, and
    /// links that were not created.
    pub warnings: i64,
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
    /// Rows whose key already existed, with `on_conflict=skip`.
    skipped: i64,
    /// Rejected rows; the job's `errors` list them.
    failed: i64,
    /// Cells with a value that the field does not know, which are stored in `custom_fields`, and links that
    /// were not created.
    warnings: i64,
    /// Whether this was a dry run, which writes no records.
    dry_run: bool,
    /// How rows whose key already exists are handled.
    #[schema(schema_with = OnConflict::shape)]
    on_conflict: OnConflict,
    /// The delimiter of the cells.
    #[schema(value_type = String)]
    delimiter: char,
    /// The name of the encoding.
    encoding: String,
    /// The field of each header; `null` for a column that is ignored.
    #[schema(value_type = HashMap<String, Option<String>>)]
    mapping: Value,
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
        let Counts { rows, created, updated, skipped, failed, warnings } = self.counts;
        Ok(serde_json::to_value(ImportResult {
            rows,
            created,
            updated,
            skipped,
            failed,
            warnings,
            dry_run: self.plan.dry_run,
            on_conflict: self.plan.on_conflict,
            delimiter: char::from(self.plan.delimiter),
            encoding: self.plan.encoding.clone(),
            mapping: columns::as_json(&self.plan.headers, &self.plan.targets),
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

/// A row that a job rejected.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct RefusedRow {
    /// The line on which the record starts; the header is line 1.
    pub line: i64,
    /// The invalid field; `file` if the row as a whole is invalid.
    pub field: String,
    /// A stable code for the reason.
    pub code: String,
    /// The reason, for people.
    pub message: String,
    /// The row as it was in the file, by header.
    #[schema(value_type = HashMap<String, String>)]
    pub row: Value,
    /// The cells, in the order of the file.
    #[serde(skip)]
    pub cells: Vec<String>,
}

/// A page of a job's rejected rows.
#[derive(Debug)]
pub struct RefusedRows {
    /// The headers of the file.
    pub headers: Vec<String>,
    /// The rows, in the order of the file.
    pub rows: Vec<RefusedRow>,
    /// Whether more rows follow.
    pub goes_on: bool,
}

/// Returns the job's rejected rows after a line: at most `limit` rows, and at most `max_bytes` of
/// cells after the first row.
///
/// # Errors
/// [`Error::NotFound`](crate::Error::NotFound) if the job does not exist.
pub async fn refused(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    job_id: Uuid,
    after_line: i64,
    (limit, max_bytes): (usize, usize),
) -> Result<RefusedRows> {
    crate::queue::get(connection, workspace_id, job_id).await?;
    let plan: Option<Json<Plan>> =
        sqlx::query_scalar("SELECT plan FROM imports WHERE workspace_id = $1 AND job_id = $2")
            .bind(workspace_id)
            .bind(job_id)
            .fetch_optional(&mut *connection)
            .await?;
    let mut headers = plan.map_or_else(|| undo::LEFT_HEADERS.map(str::to_owned).to_vec(), |Json(plan)| plan.headers);
    let stored = sqlx::query_as::<_, StoredRow>(
        "SELECT line, field, code, message, cells FROM job_errors
         WHERE workspace_id = $1 AND job_id = $2 AND line > $3 ORDER BY line LIMIT $4",
    );
    // One row more than the limit shows whether more rows follow.
    let mut stored = stored.bind(workspace_id).bind(job_id).bind(after_line).bind(limit as i64 + 1).fetch(connection);
    let (mut rows, mut bytes, mut goes_on) = (Vec::new(), 0, false);
    while let Some(row) = stored.try_next().await? {
        bytes += row.cells.iter().map(String::len).sum::<usize>();
        goes_on |= rows.len() == limit || (!rows.is_empty() && bytes > max_bytes);
        if !goes_on {
            rows.push(row);
        }
    }
    // A corrected file may still have the reasons of an earlier import; they are not returned.
    let is_own: Vec<bool> = headers.iter().map(|header| !is_fault_column(header)).collect();
    headers.retain(|header| !is_fault_column(header));
    let rows = rows.into_iter().map(|row| row.named(&headers, &is_own)).collect();
    Ok(RefusedRows { headers, rows, goes_on })
}

#[derive(FromRow)]
struct StoredRow {
    line: i64,
    field: String,
    code: String,
    message: String,
    #[sqlx(json)]
    cells: Vec<String>,
}

impl StoredRow {
    /// Keeps the cells of the file's own columns, and the cells beyond the header.
    fn named(self, headers: &[String], is_own: &[bool]) -> RefusedRow {
        let Self { line, field, code, message, cells } = self;
        let is_own = is_own.iter().chain(std::iter::repeat(&true));
        let cells: Vec<String> = cells.into_iter().zip(is_own).filter(|(_, own)| **own).map(|(cell, _)| cell).collect();
        let row = Value::Object(headers.iter().cloned().zip(cells.iter().map(|cell| json!(cell))).collect());
        RefusedRow { line, field, code, message, row, cells }
    }
}
