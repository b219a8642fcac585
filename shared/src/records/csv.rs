//! Exports: records as CSV that imports again to the same records.

mod guard;

use std::fmt::{Display, Write};

use super::model::Fields;
use crate::error::{Error, Result};
use crate::values::cell::Cells;

use guard::{guard, guard_file_cell};

pub use guard::unguard;

/// Records being written as CSV (RFC 4180).
#[derive(Debug)]
pub struct CsvRows {
    writer: csv::Writer<Vec<u8>>,
    /// A value being written as text.
    value: String,
}

impl CsvRows {
    /// An empty set of rows, with room for so many bytes.
    pub fn with_capacity(bytes: usize) -> Self {
        Self::behind(Vec::with_capacity(bytes))
    }

    /// Rows that go on behind others.
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

    /// Writes a row of cells as they were in somebody's file. What has a guard there keeps it, so that
    /// a cell still means what it meant.
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

    /// The bytes written.
    ///
    /// # Errors
    /// [`Error::Internal`], though a vector takes every write.
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
        // Writing to a string cannot fail, nor can writing to a vector.
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
