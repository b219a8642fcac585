//! Reading and validating the rows of a chunk, without the database.

use std::borrow::Cow;
use std::collections::HashMap;

use chrono::{DateTime, Utc};
use csv::StringRecord;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::columns::{Column, Target};
use super::decode::Decoder;
use super::grammar::Records;
use super::head::{self, HEAD};
use super::split::{Chunk, Splitter, count_lines};
use super::{Importable, Options, Plan};
use crate::error::Result;
use crate::records::csv::unguard;
use crate::values::patch::Patch;
use crate::values::{CustomFields, Fault, Field, is_blank};

/// A row of a file that can be written.
#[derive(Debug)]
pub struct Row<C> {
    /// The line on which the row begins.
    pub line: u64,
    /// The values of the record's fields.
    pub changes: C,
    /// The id and times from the system that exported the file.
    pub given: Given,
    /// The value of the row's [key](Importable::KEY).
    pub key: String,
    /// The number of values that are stored as text because the field does not know them.
    pub warnings: u64,
    /// The cells as they are in the file.
    pub cells: StringRecord,
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

/// A rejected row of a file, and the reason.
#[derive(Debug, Clone, PartialEq)]
pub struct Refused {
    /// The line on which the row begins.
    pub line: u64,
    /// The invalid field; `file` if the row as a whole is invalid.
    pub field: Cow<'static, str>,
    /// The reason.
    pub fault: Fault,
    /// The cells as they are in the file.
    pub cells: Vec<String>,
}

/// The rows of a chunk.
#[derive(Debug)]
pub struct Rows<C> {
    /// The rows that can be written, in the order of the file.
    pub rows: Vec<Row<C>>,
    /// The rejected rows, in the order of the file.
    pub refused: Vec<Refused>,
}

/// Reads the records of a chunk. Any bytes result in rows or rejected rows.
pub fn read<R: Importable>(plan: &Plan, chunk: &Chunk) -> Result<Rows<R::Changes>> {
    let mut rows = Rows { rows: Vec::new(), refused: Vec::new() };
    if let Some(refusal) = &chunk.refusal {
        let cells = vec![String::from_utf8_lossy(&chunk.data).into_owned()];
        let fault = Fault::new("record_too_long", refusal.clone());
        rows.refused.push(Refused { line: chunk.first_line, field: "file".into(), fault, cells });
        return Ok(rows);
    }
    let reader = RowReader::<R>::new(plan);
    let mut records = Records::new(&chunk.data, plan.delimiter, plan.is_by_line(chunk.first_line), chunk.first_line);
    let mut record = csv::ByteRecord::new();
    while let Some(line) = records.read(&mut record) {
        // The buffer is reused, as a file may consist of short, rejected rows.
        record = match StringRecord::from_byte_record(record) {
            Ok(cells) => {
                match reader.read(&cells) {
                    Ok(row) => rows.rows.push(Row { line, cells: cells.clone(), ..row }),
                    Err((field, fault)) => {
                        rows.refused.push(Refused { line, field, fault, cells: as_strings(&cells) });
                    }
                }
                cells.into_byte_record()
            }
            Err(broken) => {
                let at = broken.utf8_error().field();
                let cells = broken.into_byte_record();
                let fault = Fault::new("encoding", "contains bytes that are invalid in the file's encoding");
                let texts = cells.iter().map(lossy).collect();
                rows.refused.push(Refused { line, field: reader.header(at), fault, cells: texts });
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

/// Splits a whole file like an upload in pieces of `piece` bytes, but without the database.
///
/// # Errors
/// See [`Plan::detect`].
pub fn split_file<R: Importable>(file: &[u8], piece: usize, options: &Options) -> Result<SplitFile> {
    let mut decoder = Decoder::new(options.encoding);
    let mut text: Vec<u8> = file.chunks(piece).flat_map(|piece| decoder.feed(piece)).collect();
    text.extend(decoder.finish());
    let head = &text[..text.len().min(HEAD)];
    let (mut plan, length) = Plan::detect(head, head.len() == text.len(), options, R::FILE_COLUMNS)?;
    let mut splitter = Splitter::new(plan.delimiter, 1 + count_lines(&text[..length]), plan.max_chunk_records());
    let mut chunks: Vec<Chunk> = text[length..].chunks(piece).flat_map(|piece| splitter.feed(piece)).collect();
    let split = splitter.finish();
    chunks.extend(split.chunks);
    plan.by_line_from = split.by_line_from;
    // The job reads each byte of a chunk once.
    let read: usize = chunks.iter().map(|chunk| chunk.data.len()).sum();
    let looked = split.looked + (head::LOOKS * head.len() + read) as u64;
    Ok(SplitFile { plan, chunks, records: split.records, looked })
}

/// Reads a whole file like an upload and its job, but without the database. Returns the rows of each
/// chunk, and the number of records.
///
/// # Errors
/// See [`Plan::detect`].
pub fn read_file<R: Importable>(file: &[u8], piece: usize, options: &Options) -> Result<(Vec<Rows<R::Changes>>, u64)> {
    let SplitFile { plan, chunks, records, .. } = split_file::<R>(file, piece, options)?;
    Ok((chunks.iter().map(|chunk| read::<R>(&plan, chunk)).collect::<Result<_>>()?, records))
}

/// Reads the cells of a row into fields.
struct RowReader<'p, R> {
    plan: &'p Plan,
    columns: HashMap<&'static str, &'static Column>,
    /// The fields that every row must have.
    required: Vec<&'static Column>,
    /// Copied for each rejected row, which is free where the header is the name of a field.
    headers: Vec<Cow<'static, str>>,
    kind: std::marker::PhantomData<R>,
}

impl<'p, R: Importable> RowReader<'p, R> {
    fn new(plan: &'p Plan) -> Self {
        let columns: HashMap<_, _> = R::FILE_COLUMNS.iter().map(|column| (column.name, column)).collect();
        let named = |header: &String| match columns.get_key_value(header.as_str()) {
            Some((name, _)) => Cow::Borrowed(*name),
            None => Cow::Owned(header.clone()),
        };
        let headers = plan.headers.iter().map(named).collect();
        let required = R::FILE_COLUMNS.iter().filter(|column| column.required).collect();
        Self { plan, columns, required, headers, kind: std::marker::PhantomData }
    }

    fn read(&self, cells: &StringRecord) -> Result<Row<R::Changes>, (Cow<'static, str>, Fault)> {
        if cells.iter().skip(self.plan.headers.len()).any(|cell| !cell.trim().is_empty()) {
            let (has, columns) = (cells.len(), self.plan.headers.len());
            return Err((
                "file".into(),
                Fault::new("too_many_cells", format!("has {has} cells for {columns} columns")),
            ));
        }
        let mut row = Row {
            line: 0,
            changes: R::Changes::default(),
            given: Given::default(),
            key: String::new(),
            warnings: 0,
            cells: StringRecord::new(),
        };
        let mut custom = Map::new();
        for ((cell, header), target) in cells.iter().zip(&self.plan.headers).zip(&self.plan.targets) {
            let text = unguard(cell.trim(), self.plan.delimiter);
            match target {
                _ if is_blank(&text) => {}
                Target::Ignored => {}
                Target::Field(field) => {
                    match self.set(&mut row, field, &text).map_err(|fault| (field.clone().into(), fault))? {
                        Set::Taken => {}
                        Set::Kept => _ = custom.insert(header.clone(), Value::from(text.into_owned())),
                    }
                }
                Target::Custom => _ = custom.insert(header.clone(), Value::from(text.into_owned())),
            }
        }
        keep_custom::<R>(&mut row.changes, custom).map_err(|fault| ("custom_fields".into(), fault))?;
        let is_required = |field: &'static str| (field.into(), Fault::new("required", "is required"));
        let has = |field: &&str| R::sets(&row.changes, field);
        if let Some(column) = self.required.iter().find(|column| !has(&column.name) && !column.parts.iter().any(has)) {
            return Err(is_required(column.name));
        }
        row.key = R::row_key(&row.changes).ok_or_else(|| is_required(R::KEY.field))?;
        Ok(row)
    }

    /// Reads a cell into its field. Returns [`Set::Kept`] if its text belongs into `custom_fields`.
    fn set(&self, row: &mut Row<R::Changes>, field: &str, text: &str) -> Result<Set, Fault> {
        match field {
            // The ids of other systems may not be UUIDs.
            "id" => match Uuid::from_text(text) {
                Ok(id) => row.given.id = Some(id),
                Err(_) => return Ok(Set::Kept),
            },
            "created_at" => row.given.created_at = Some(Field::from_text(text)?),
            "updated_at" => row.given.updated_at = Some(Field::from_text(text)?),
            _ => {
                let words = self.columns.get(field).filter(|column| !column.words.is_empty());
                match words.map(|column| column.word(text)) {
                    None => R::set(&mut row.changes, field, text)?,
                    Some(Some(word)) => R::set(&mut row.changes, field, word)?,
                    Some(None) => {
                        row.warnings += 1;
                        return Ok(Set::Kept);
                    }
                }
            }
        }
        Ok(Set::Taken)
    }

    fn header(&self, at: usize) -> Cow<'static, str> {
        self.headers.get(at).cloned().unwrap_or(Cow::Borrowed("file"))
    }
}

/// The cells of a row, as they are stored with a rejected row.
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

/// The result of reading a cell.
enum Set {
    /// The field has the value.
    Taken,
    /// The field does not know the value; its text is stored in `custom_fields`.
    Kept,
}

/// Adds the cells of unmapped columns to the custom fields that a column of JSON may have set.
fn keep_custom<R: Importable>(changes: &mut R::Changes, custom: Map<String, Value>) -> Result<(), Fault> {
    if custom.is_empty() {
        return Ok(());
    }
    let Some(fields) = R::custom_fields_mut(changes) else {
        return Err(Fault::new("unknown", "has values in columns that match no field"));
    };
    let mut all = match std::mem::take(fields) {
        Patch::Set(fields) => fields.to_map(),
        Patch::Clear | Patch::Keep => Map::new(),
    };
    all.extend(custom);
    *fields = Patch::Set(CustomFields::new(all, CustomFields::IMPORT_LIMITS)?);
    Ok(())
}
