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
