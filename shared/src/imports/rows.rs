//! Reading and validating the rows of a chunk, without the database.

mod draft;
mod reader;

use std::borrow::Cow;
use std::collections::HashMap;

use chrono::{DateTime, Utc};
use csv::StringRecord;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::grammar::{Records, is_blank_record};
use super::head::{self, HEAD, Head, SavedMappings};
use super::outcomes::{Outcome, Report};
use super::owners::Owners;
use super::packed::{self, Unpacked};
use super::parents::ParentNames;
use super::plan::RowKey;
use super::source::Source;
use super::split::{Chunk, Split, Splitter, count_lines};
use super::{Importable, Options, Plan, forms};
use crate::error::Result;
use crate::mail::suppressions::Reason;
use crate::platform::config::Imports;
use crate::values::json_schema::Mode;
use crate::values::{Email, Fault};
use reader::RowReader;

/// A row of a file that can be written.
#[derive(Debug)]
pub struct Row<C> {
    /// The line on which the row begins.
    pub line: u64,
    /// The values of the record's fields.
    pub changes: C,
    /// The id and times from the system that exported the file.
    pub given: Given,
    /// The value of the [key](Plan::key) by which the row finds its record, if it has one.
    pub key: Option<String>,
    /// The names of the record that the row belongs to.
    pub parent: ParentNames,
    /// Why the person gets no email, if the row says so.
    pub opt_out: Option<Reason>,
    /// The cells that could not be read.
    pub warnings: Vec<RowFault>,
    /// The cells as they are in the file.
    pub cells: StringRecord,
}

impl<C> Row<C> {
    /// Sets the key again, after its field changed.
    pub(super) fn rekey<R: Importable<Changes = C>>(&mut self, plan: &Plan) {
        self.key = key::<R>(plan.key, &self.changes, self.given);
    }
}

/// The value by which a row finds its record.
fn key<R: Importable>(key: RowKey, changes: &R::Changes, given: Given) -> Option<String> {
    match key {
        RowKey::Email => R::email_key(changes),
        RowKey::Id => given.id.map(|id| id.to_string()),
        RowKey::ExternalId => R::row_external_id(changes).map(str::to_owned),
    }
}

/// Values from the file that are otherwise generated for a new record.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Given {
    /// The record's id.
    pub id: Option<Uuid>,
    /// When the record was created.
    pub created_at: Option<DateTime<Utc>>,
    /// When the record last changed.
    pub updated_at: Option<DateTime<Utc>>,
}

/// A fault of a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RowFault {
    /// The field; `file` if the row as a whole has the fault.
    #[schema(value_type = String)]
    pub field: Cow<'static, str>,
    /// A stable code for the reason.
    #[schema(value_type = String)]
    pub code: Cow<'static, str>,
    /// The reason, for people.
    #[schema(value_type = String)]
    pub message: Cow<'static, str>,
}

impl RowFault {
    /// The fault of a field.
    pub fn new(field: impl Into<Cow<'static, str>>, fault: Fault) -> Self {
        Self { field: field.into(), code: fault.code.into(), message: fault.message }
    }
}

/// An address whose owner gets no email, and the line that says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OptOut {
    /// The address.
    pub email: Email,
    /// Why its owner gets no email.
    pub reason: Reason,
    /// The line of the file.
    pub line: u64,
}

/// The values that a column's field does not know, with their numbers, by the index of the column.
pub type Unmatched = HashMap<usize, HashMap<String, i64>>;

/// The rows of a chunk.
#[derive(Debug)]
pub struct Rows<C> {
    /// The rows that can be written, in the order of the file.
    pub rows: Vec<Row<C>>,
    /// The other rows, in the order of the file.
    pub reports: Vec<Report>,
    /// The opt-outs of the other rows.
    pub opt_outs: Vec<OptOut>,
    /// See [`Unmatched`].
    pub unmatched: Unmatched,
}

/// Reads the records of a chunk. Any bytes result in rows or reports.
pub fn read<R: Importable>(plan: &Plan, owners: &Owners, chunk: &Chunk) -> Result<Rows<R::Changes>> {
    let mut rows = Rows { rows: Vec::new(), reports: Vec::new(), opt_outs: Vec::new(), unmatched: HashMap::new() };
    if let Some(refusal) = &chunk.refusal {
        let cells = vec![String::from_utf8_lossy(&chunk.data).into_owned()];
        let fault = RowFault::new("file", Fault::new("record_too_long", refusal.clone()));
        rows.reports.push(Report { line: chunk.first_line, outcome: Outcome::Failed, faults: vec![fault], cells });
        return Ok(rows);
    }
    let reader = RowReader::<R>::new(plan, owners)?;
    let mut records = Records::new(&chunk.data, plan.delimiter, plan.is_by_line(chunk.first_line), chunk.first_line);
    let mut record = csv::ByteRecord::new();
    while let Some(line) = records.read(&mut record) {
        if record.get(0).is_some_and(|first| first.trim_ascii().is_empty())
            && is_blank_record(records.raw(), plan.delimiter)
        {
            continue;
        }
        let kinds = match plan.format.is_packed().then(|| packed::unpack(&mut record)) {
            None => Vec::new(),
            Some(Unpacked::Cells(kinds)) => kinds,
            Some(Unpacked::Rejected(fault, text)) => {
                let faults = vec![RowFault::new("file", fault)];
                rows.reports.push(Report { line, outcome: Outcome::Failed, faults, cells: vec![text] });
                continue;
            }
        };
        // The buffer is reused, as a file may consist of short, rejected rows.
        record = match StringRecord::from_byte_record(record) {
            Ok(cells) => {
                reader.read(line, &cells, &kinds, records.has_stray_quote(), &mut rows);
                cells.into_byte_record()
            }
            Err(broken) => {
                let at = broken.utf8_error().field();
                let cells = broken.into_byte_record();
                let fault = Fault::new("encoding", "contains bytes that are invalid in the file's encoding");
                let faults = vec![RowFault::new(reader.field(at), fault)];
                let texts = cells.iter().map(lossy).collect();
                rows.reports.push(Report { line, outcome: Outcome::Failed, faults, cells: texts });
                cells
            }
        };
    }
    Ok(rows)
}

/// A whole file, split like an upload.
#[derive(Debug)]
pub struct SplitFile {
    /// How the file is read.
    pub plan: Plan,
    /// The chunks of the file.
    pub chunks: Vec<Chunk>,
    /// The number of records.
    pub records: u64,
    /// How many bytes an upload and its job read to find the file's structure (delimiter, header,
    /// records); a byte that is read twice counts twice.
    pub looked: u64,
}

/// Splits a whole file like an upload in pieces of `piece` bytes, but without the database. The rows of a workbook
/// are left out, since they are read by a task of their own.
///
/// # Errors
/// See [`Head::plan`].
pub fn split_file<R: Importable>(file: &[u8], piece: usize, options: &Options) -> Result<SplitFile> {
    let mut source =
        Source::new(options.clone(), &Imports { max_bytes: u64::MAX, max_stored_bytes: 0, temp_dir: String::new() });
    let mut text = Vec::new();
    for piece in file.chunks(piece) {
        source.push(piece)?;
        while let Some(piece) = source.pull()? {
            text.extend(piece);
        }
    }
    text.extend(source.finish()?);
    let options = &source.options(true);
    let head = &text[..text.len().min(HEAD)];
    let (mut plan, length) =
        Head::read(head, head.len() == text.len(), options)?.plan::<R>(options, &SavedMappings::new())?;
    plan.format = source.format();
    let mut splitter = Splitter::new(plan.delimiter, 1 + count_lines(&text[..length]), plan.max_chunk_records());
    let mut chunks: Vec<Chunk> = text[length..].chunks(piece).flat_map(|piece| splitter.feed(piece)).collect();
    let Split { chunks: last, records, tail_from, by_line_from, looked } = splitter.finish();
    chunks.extend(last);
    if let Some(first) = chunks.first() {
        forms::settle::<R>(&mut plan, first, options);
    }
    (plan.tail_from, plan.by_line_from) = (tail_from, by_line_from);
    // The job reads each byte of a chunk once.
    let read: usize = chunks.iter().map(|chunk| chunk.data.len()).sum();
    let looked = looked + (head::LOOKS * head.len() + read) as u64;
    Ok(SplitFile { plan, chunks, records, looked })
}

/// Reads a whole file like an upload and its job, but without the database. Returns the rows of each
/// chunk, and the number of records.
///
/// # Errors
/// See [`Head::plan`].
pub fn read_file<R: Importable>(file: &[u8], piece: usize, options: &Options) -> Result<(Vec<Rows<R::Changes>>, u64)> {
    let SplitFile { plan, chunks, records, .. } = split_file::<R>(file, piece, options)?;
    let owners = Owners::default();
    Ok((chunks.iter().map(|chunk| read::<R>(&plan, &owners, chunk)).collect::<Result<_>>()?, records))
}

/// The fields that every record has.
pub(super) fn required<R: Importable>() -> Vec<&'static str> {
    let is_required = |mode: &Mode| matches!(mode, Mode::Required | Mode::Composed);
    let properties = R::properties();
    let fields = properties.iter().filter(|field| is_required(&field.mode) || R::OWNER == Some(field.name));
    fields.map(|field| field.name).collect()
}

/// The cells of a row, as they are stored with its report.
pub(super) fn as_strings(cells: &StringRecord) -> Vec<String> {
    cells.iter().map(str::to_owned).collect()
}

/// Replaces the invalid bytes of a cell. `String::from_utf8_lossy` would reallocate its string.
fn lossy(cell: &[u8]) -> String {
    let mut text = String::with_capacity(cell.len() + 2);
    for part in cell.utf8_chunks() {
        text.push_str(part.valid());
        if !part.invalid().is_empty() {
            text.push(char::REPLACEMENT_CHARACTER);
        }
    }
    text
}
