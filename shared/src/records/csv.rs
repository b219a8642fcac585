//! Writing records as CSV, which an import reads back unchanged.

mod guard;
mod layout;

use std::fmt::{Display, Write};

use crate::error::{Error, Result};
use crate::values::Fault;
use crate::values::cell::Cells;

use guard::Guard;

pub use guard::unguard;
pub use layout::Layout;

/// Parses the name of a delimiter, or the delimiter itself.
///
/// # Errors
/// A [`Fault`] for any other text.
pub fn delimiter(text: &str) -> Result<u8, Fault> {
    match text {
        "," | "comma" => Ok(b','),
        ";" | "semicolon" => Ok(b';'),
        "\t" | "tab" => Ok(b'\t'),
        "|" | "pipe" => Ok(b'|'),
        _ => Err(Fault::new("invalid", "must be one of: comma semicolon tab pipe")),
    }
}

/// A writer of CSV (RFC 4180).
#[derive(Debug)]
pub struct CsvRows {
    writer: csv::Writer<Vec<u8>>,
    guard: Guard,
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
        Self::delimited(rows, b',')
    }

    /// Appends to rows that are already written, with this delimiter.
    pub fn delimited(rows: Vec<u8>, delimiter: u8) -> Self {
        let mut writer = csv::WriterBuilder::new();
        writer.terminator(csv::Terminator::CRLF).flexible(true).delimiter(delimiter);
        Self { writer: writer.from_writer(rows), guard: Guard { delimiter }, value: String::new() }
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
            let guarded = self.guard.file_cell(cell);
            self.field(&guarded);
        }
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
        let guarded = self.guard.cell(text);
        self.field(&guarded);
    }

    fn json(&mut self, json: &str) {
        if json == "{}" { self.field("") } else { self.text(json) }
    }

    fn empty(&mut self) {
        self.field("");
    }
}
