//! From the bytes of a chunk to rows that can be written: reading, matching, validating. No database.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::columns::{Column, Target};
use super::split::{Chunk, count_lines};
use super::{Importable, Plan};
use crate::error::Result;
use crate::fields::{CustomFields, Fault};
use crate::patch::Patch;

/// A row of a file that can be written.
#[derive(Debug)]
pub struct Row<C> {
    /// The line on which it begins.
    pub line: u64,
    /// What it says.
    pub changes: C,
    /// The key of its email.
    pub key: String,
    /// Values that were kept as text because the field does not know them.
    pub warnings: u64,
    /// The cells as they stand in the file.
    pub cells: Vec<String>,
}

/// A row of a file that is not written, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Refused {
    /// The line on which it begins.
    pub line: u64,
    /// The field at fault; `file` if it is the row as such.
    pub field: String,
    /// See [`Fault`].
    pub fault: Fault,
    /// The cells as they stand in the file.
    pub cells: Vec<String>,
}

/// A chunk that was read.
#[derive(Debug)]
pub struct Rows<C> {
    /// The rows that can be written, in the order of the file.
    pub rows: Vec<Row<C>>,
    /// The others, in the order of the file.
    pub refused: Vec<Refused>,
}

/// Reads the records of a chunk.
///
/// # Errors
/// [`Error::Internal`](crate::Error::Internal) only for a defect: any bytes are rows or refusals.
pub fn read<R: Importable>(plan: &Plan, chunk: &Chunk) -> Result<Rows<R::Changes>> {
    let mut rows = Rows { rows: Vec::new(), refused: Vec::new() };
    if let Some(refusal) = &chunk.refusal {
        let cells = vec![String::from_utf8_lossy(&chunk.data).into_owned()];
        let fault = Fault::new("record_too_long", refusal.clone());
        rows.refused.push(Refused { line: chunk.first_line, field: "file".into(), fault, cells });
        return Ok(rows);
    }
    let reader = RowReader::<R>::new(plan);
    let mut records = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .delimiter(plan.delimiter)
        .from_reader(chunk.data.as_slice());
    let mut record = csv::ByteRecord::new();
    let (mut line, mut counted) = (chunk.first_line, 0);
    loop {
        let mut start = usize::try_from(records.position().byte()).unwrap_or(usize::MAX);
        if !records.read_byte_record(&mut record).map_err(crate::Error::internal)? {
            return Ok(rows);
        }
        // Blank lines before a record are none of it.
        while chunk.data.get(start).is_some_and(|&byte| matches!(byte, b'\n' | b'\r')) {
            start += 1;
        }
        line += count_lines(&chunk.data[counted..start]);
        counted = start;
        match reader.read(line, &record) {
            Ok(row) => rows.rows.push(row),
            Err(refused) => rows.refused.push(refused),
        }
    }
}

/// How each column of the file is read.
struct RowReader<'p, R> {
    plan: &'p Plan,
    columns: HashMap<&'static str, &'static Column>,
    kind: std::marker::PhantomData<R>,
}

impl<'p, R: Importable> RowReader<'p, R> {
    fn new(plan: &'p Plan) -> Self {
        let columns = R::COLUMNS.iter().map(|column| (column.name, column)).collect();
        Self { plan, columns, kind: std::marker::PhantomData }
    }

    fn read(&self, line: u64, record: &csv::ByteRecord) -> Result<Row<R::Changes>, Refused> {
        let cells: Vec<String> = record.iter().map(|cell| String::from_utf8_lossy(cell).into_owned()).collect();
        match self.changes(record, &cells) {
            Ok((changes, key, warnings)) => Ok(Row { line, changes, key, warnings, cells }),
            Err((field, fault)) => Err(Refused { line, field, fault, cells }),
        }
    }

    fn changes(
        &self,
        record: &csv::ByteRecord,
        cells: &[String],
    ) -> Result<(R::Changes, String, u64), (String, Fault)> {
        if let Some(at) = record.iter().position(|cell| std::str::from_utf8(cell).is_err()) {
            return Err((self.header(at), Fault::new("encoding", "has bytes that are not UTF-8")));
        }
        if cells.iter().skip(self.plan.headers.len()).any(|cell| !cell.trim().is_empty()) {
            let (has, columns) = (cells.len(), self.plan.headers.len());
            return Err((
                "file".into(),
                Fault::new("too_many_cells", format!("has {has} cells for {columns} columns")),
            ));
        }
        let mut changes = R::Changes::default();
        let mut custom = Map::new();
        let mut name: [&str; 2] = ["", ""];
        let mut warnings = 0;
        for ((cell, header), target) in cells.iter().zip(&self.plan.headers).zip(&self.plan.targets) {
            let text = cell.trim();
            if text.is_empty() {
                continue;
            }
            match target {
                Target::Ignored => {}
                Target::Custom => {
                    custom.insert(header.clone(), Value::from(text));
                }
                Target::FirstName => name[0] = text,
                Target::LastName => name[1] = text,
                Target::Field(field) => {
                    let Some(column) = self.columns.get(field.as_str()) else { continue };
                    let value = if column.words.is_empty() { Some(text) } else { column.word(text) };
                    match value {
                        Some(value) => R::set(&mut changes, field, value).map_err(|fault| (field.clone(), fault))?,
                        None => {
                            warnings += 1;
                            custom.insert(header.clone(), Value::from(text));
                        }
                    }
                }
            }
        }
        let joined = name.join(" ");
        if !joined.trim().is_empty() {
            R::set(&mut changes, "name", joined.trim()).map_err(|fault| ("name".to_owned(), fault))?;
        }
        keep_custom::<R>(&mut changes, custom).map_err(|fault| ("custom_fields".to_owned(), fault))?;
        if !R::has_name(&changes) {
            return Err(("name".into(), Fault::new("required", "is required")));
        }
        match R::email_key(&changes) {
            Some(key) => Ok((changes, key, warnings)),
            None => Err(("email".into(), Fault::new("required", "is required"))),
        }
    }

    fn header(&self, at: usize) -> String {
        self.plan.headers.get(at).map_or_else(|| "file".to_owned(), Clone::clone)
    }
}

/// Adds what the unmapped columns say to what a column of JSON said.
fn keep_custom<R: Importable>(changes: &mut R::Changes, custom: Map<String, Value>) -> Result<(), Fault> {
    if custom.is_empty() {
        return Ok(());
    }
    let fields = R::custom_fields_mut(changes);
    let mut all = match std::mem::take(fields) {
        Patch::Set(fields) => fields.as_map().clone(),
        Patch::Clear | Patch::Keep => Map::new(),
    };
    all.extend(custom);
    *fields = Patch::Set(CustomFields::new(all, CustomFields::IMPORT_LIMITS)?);
    Ok(())
}
