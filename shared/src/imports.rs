//! Imports: a file goes in through an upload, a worker brings its rows in chunk by chunk.
//!
//! The upload is cut at record boundaries and stored as it arrives; its last transaction makes the
//! job. The worker takes the chunks in order, one transaction each: the rows are written, refused
//! rows kept, counts moved and the chunk dropped, or none of it. That alone makes a row that was
//! accepted come in exactly once, whatever dies.

pub mod aliases;
pub mod columns;
pub mod decode;
mod grammar;
pub mod head;
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
use crate::values::patch::Patch;
use columns::{Column, Target, is_fault_column};
use split::Chunk;

pub use columns::FAULT_COLUMNS;
pub use options::Options;
pub use undo::{Undo, UndoImport, undo};
pub use upload::{Upload, Uploaded, sweep};
pub use write::{KeyCheck, forget_seen, write};

/// A kind of record that files can be imported into.
///
/// A row finds its record by a key. What else a row must have, its columns say; what a record is linked with,
/// [`Linked`] says; columns that match no field go into its custom fields, if it has any.
pub trait Importable: Linked {
    /// The fields and what other systems call them.
    const FILE_COLUMNS: &'static [Column];
    /// The key by which rows and records are the same: one of [`Record::UNIQUE`](crate::records::Record::UNIQUE).
    const KEY: &'static UniqueKey<Self>;

    /// The value of the key in a row, in its normal form.
    fn row_key(changes: &Self::Changes) -> Option<String>;

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

    fn is_dry_run(&self) -> bool {
        self.dry_run
    }
}

string_enum! {
    /// What becomes of a row whose email is taken, in the database or earlier in the file.
    OnConflict {
        /// It is counted and left out.
        Skip = "skip",
        /// Its cells that are not empty win over the record's.
        Update = "update",
        /// It is refused.
        Fail = "fail",
    }
}

/// How a file is read; settled when its head has arrived.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Plan {
    /// See [`OnConflict`].
    pub on_conflict: OnConflict,
    /// Nothing is kept but the result and the refused rows.
    pub dry_run: bool,
    /// The delimiter.
    pub delimiter: u8,
    /// The encoding, by its name.
    pub encoding: String,
    /// The headers; a blank one has a name by its place, and one that came before has a number.
    pub headers: Vec<String>,
    /// What becomes of each column.
    pub targets: Vec<Target>,
    /// How many records the file has; known when the upload has ended.
    pub rows: i64,
    /// From which line on a line break ends every record, as too many quotes were not closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_line_from: Option<u64>,
}

impl Plan {
    /// How many records a chunk may have: each may keep all the headers in its custom fields.
    fn max_chunk_records(&self) -> usize {
        const HEADERS: usize = 32 << 20;
        let headers: usize = self.headers.iter().map(String::len).sum();
        (HEADERS / headers.max(1)).clamp(1, split::MAX_CHUNK_RECORDS)
    }

    /// Whether a line break ends every record of the chunk that begins on the line.
    fn is_by_line(&self, first_line: u64) -> bool {
        self.by_line_from.is_some_and(|from| first_line >= from)
    }
}

/// What an import did, row by row of the file: `rows = created + updated + skipped + failed`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// Rows read.
    pub rows: i64,
    /// Rows that became records.
    pub created: i64,
    /// Rows that met a record of the same key, with `on_conflict=update`.
    pub updated: i64,
    /// Rows that met one, with `on_conflict=skip`.
    pub skipped: i64,
    /// Rows that were refused.
    pub failed: i64,
    /// Cells whose words the field does not know; they are kept in `custom_fields`.
    pub warnings: i64,
}

/// An import at work.
#[derive(Debug, Clone, FromRow)]
pub struct Import {
    /// The workspace it brings records into.
    pub workspace_id: Uuid,
    /// The import, and its job.
    pub id: Uuid,
    /// How the file is read.
    #[sqlx(json)]
    pub plan: Plan,
    /// What it did so far.
    #[sqlx(json)]
    pub counts: Counts,
}

impl Import {
    /// How far it is.
    pub fn progress(&self) -> Progress {
        Progress { done: self.counts.rows, total: Some(self.plan.rows) }
    }

    /// The result as callers see it, complete or so far.
    ///
    /// # Errors
    /// [`Error::Internal`](crate::Error::Internal) if it cannot be written as JSON.
    pub fn result(&self) -> Result<Value> {
        let mut result = serde_json::to_value(self.counts)?;
        result["dry_run"] = json!(self.plan.dry_run);
        result["on_conflict"] = json!(self.plan.on_conflict);
        result["delimiter"] = json!(char::from(self.plan.delimiter));
        result["encoding"] = json!(self.plan.encoding);
        result["mapping"] = columns::as_json(&self.plan.headers, &self.plan.targets);
        Ok(result)
    }
}

/// An accepted import.
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

/// The first chunk at or after `seq` that was not brought in yet, with its number.
///
/// # Errors
/// [`Error::Unavailable`](crate::Error::Unavailable) when the database is away.
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

/// A row that a job refused, as callers see it.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct RefusedRow {
    /// The line on which the record starts; the header is line 1.
    pub line: i64,
    /// The field at fault, `file` if it is the row as such.
    pub field: String,
    /// The kind of fault.
    pub code: String,
    /// The fault for people.
    pub message: String,
    /// The row as it was in the file: header → cell.
    #[schema(value_type = HashMap<String, String>)]
    pub row: Value,
    /// Its cells, in the order of the file.
    #[serde(skip)]
    pub cells: Vec<String>,
}

/// Some refused rows of a job.
#[derive(Debug)]
pub struct RefusedRows {
    /// The headers of the file.
    pub headers: Vec<String>,
    /// The rows, in the order of the file.
    pub rows: Vec<RefusedRow>,
    /// Whether there are more after them.
    pub goes_on: bool,
}

/// The refused rows of a job after a line: at most `limit`, and no more than `max_bytes` after the first one.
///
/// # Errors
/// [`Error::NotFound`](crate::Error::NotFound) if there is no such job.
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
    // One more than asked for tells whether there are more. What is too much is read and dropped.
    let mut stored = stored.bind(workspace_id).bind(job_id).bind(after_line).bind(limit as i64 + 1).fetch(connection);
    let (mut rows, mut bytes, mut goes_on) = (Vec::new(), 0, false);
    while let Some(row) = stored.try_next().await? {
        bytes += row.cells.iter().map(String::len).sum::<usize>();
        goes_on |= rows.len() == limit || (!rows.is_empty() && bytes > max_bytes);
        if !goes_on {
            rows.push(row);
        }
    }
    // What was said of these rows when they were refused before is not told again.
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
    /// With the cells of the file's own columns, and those beyond the header.
    fn named(self, headers: &[String], is_own: &[bool]) -> RefusedRow {
        let Self { line, field, code, message, cells } = self;
        let is_own = is_own.iter().chain(std::iter::repeat(&true));
        let cells: Vec<String> = cells.into_iter().zip(is_own).filter(|(_, own)| **own).map(|(cell, _)| cell).collect();
        let row = Value::Object(headers.iter().cloned().zip(cells.iter().map(|cell| json!(cell))).collect());
        RefusedRow { line, field, code, message, row, cells }
    }
}
