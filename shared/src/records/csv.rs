//! Writing records as CSV, which an import reads back unchanged.

mod guard;

use std::fmt::{Display, Write};

use super::model::Fields;
use crate::error::{Error, Result};
use crate::values::cell::Cells;

use guard::{guard, guard_file_cell};

pub use guard::unguard;

/// A writer of CSV (RFC 4180).
#[derive(Debug)]
pub struct CsvRows {
    writer: csv::Writer<Vec<u8>>,
    /// A buffer to format values.
    value: String,
}

impl CsvRows {
    /// Creates an empty buffer with this capacity.
    pub fn with_capacity(bytes: usize) -> Self {
        Self::behind(Vec::with_capacity(bytes))
    }

    /// Appends to rows that are already written.
    pub fn behind(rows: Vec<u8>) -> Self {
        let writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).flexible(true).from_writer(rows);
        Self { writer, value: String::new() }
    }

    /// Writes a row of texts, such as the header.
    pub fn row<'a>(&mut self, cells: impl IntoIterator<Item = &'a str>) {
        for cell in cells {
            self.text(cell);
        }
        self.end();
    }

    /// Writes a row of an uploaded file. Existing guards are kept, so that the cells keep their
    /// meaning.
    pub fn file_row<'a>(&mut self, cells: impl IntoIterator<Item = &'a str>) {
        for cell in cells {
            self.field(&guard_file_cell(cell));
        }
        self.end();
    }

    /// Writes a record.
    pub fn record(&mut self, record: &impl Fields) {
        record.cells(self);
        self.end();
    }

    /// Writes the chosen fields of a record, computed ones included; `chosen` says of each field in the
    /// order of the record whether it is.
    pub fn fields(&mut self, record: &impl Fields, chosen: &[bool]) {
        let mut cells = ChosenCells { rows: self, chosen: chosen.iter() };
        record.cells(&mut cells);
        record.computed_cells(&mut cells);
        self.end();
    }

    /// Returns the written bytes.
    ///
    /// # Errors
    /// [`Error::Internal`], which does not happen, as writing to a vector cannot fail.
    pub fn into_bytes(self) -> Result<Vec<u8>> {
        self.writer.into_inner().map_err(|error| Error::internal(error.to_string()))
    }

    fn field(&mut self, text: &str) {
        // Writing to a vector cannot fail.
        let _ = self.writer.write_field(text);
    }

    fn end(&mut self) {
        let _ = self.writer.write_record(None::<&[u8]>);
    }
}

impl Cells for CsvRows {
    fn value(&mut self, value: impl Display) {
        self.value.clear();
        // Writing to a string or a vector cannot fail.
        let _ = write!(self.value, "{value}");
        let _ = self.writer.write_field(&self.value);
    }

    fn text(&mut self, text: &str) {
        self.field(&guard(text));
    }

    fn json(&mut self, json: &str) {
        if json == "{}" { self.field("") } else { self.text(json) }
    }

    fn empty(&mut self) {
        self.field("");
    }
}

/// Writes some cells of a row, and skips the others.
struct ChosenCells<'a> {
    rows: &'a mut CsvRows,
    chosen: std::slice::Iter<'a, bool>,
}

impl ChosenCells<'_> {
    fn next_is_chosen(&mut self) -> bool {
        self.chosen.next().is_some_and(|chosen| *chosen)
    }
}

impl Cells for ChosenCells<'_> {
    fn value(&mut self, value: impl Display) {
        if self.next_is_chosen() {
            self.rows.value(value);
        }
    }

    fn text(&mut self, text: &str) {
        if self.next_is_chosen() {
            self.rows.text(text);
        }
    }

    fn json(&mut self, json: &str) {
        if self.next_is_chosen() {
            self.rows.json(json);
        }
    }

    fn empty(&mut self) {
        if self.next_is_chosen() {
            self.rows.empty();
        }
    }
}
