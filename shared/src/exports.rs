//! Exports: records as CSV that imports again to the same records.

use std::fmt::{Display, Write};

use serde_json::{Map, Value};

use crate::copy::Cells;
use crate::error::{Error, Result};
use crate::records::Fields;

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

    /// Writes a row of plain cells, such as the header.
    pub fn row<'a>(&mut self, cells: impl IntoIterator<Item = &'a str>) {
        for cell in cells {
            self.field(cell);
        }
        self.end();
    }

    /// Writes a row of cells as they were in somebody's file. One that begins with an apostrophe is
    /// no formula, and is left to mean what it meant.
    pub fn file_row<'a>(&mut self, cells: impl IntoIterator<Item = &'a str>) {
        for cell in cells {
            if cell.starts_with('\'') { self.field(cell) } else { self.text(cell) }
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

    fn field(&mut self, text: impl AsRef<[u8]>) {
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
        if must_be_guarded(text) { self.field(format!("'{text}")) } else { self.field(text) }
    }

    fn json(&mut self, map: &Map<String, Value>) {
        match map.is_empty() {
            true => self.field(""),
            // A map of values always serializes.
            false => self.field(serde_json::to_string(map).unwrap_or_default()),
        }
    }

    fn empty(&mut self) {
        self.field("");
    }
}

/// Whether a spreadsheet would run the cell as a formula, or might have guarded it.
///
/// Numbers and phone numbers stay as they are: a sign, digits and what stands between them.
fn must_be_guarded(text: &str) -> bool {
    let bare = text.trim_start_matches('\'');
    let is_formula = bare.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let is_number =
        text.starts_with(['+', '-']) && text[1..].chars().all(|c| c.is_ascii_digit() || " .()/-".contains(c));
    is_formula && !is_number
}

/// Takes the apostrophe off that guards a cell against being run as a formula.
pub fn unguard(text: &str) -> &str {
    match text.strip_prefix('\'') {
        Some(rest) if rest.trim_start_matches('\'').starts_with(['=', '+', '-', '@', '\t', '\r']) => rest,
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn exported(text: &str) -> String {
        let mut rows = CsvRows::with_capacity(0);
        Cells::text(&mut rows, text);
        rows.end();
        let bytes = rows.into_bytes().unwrap();
        let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(bytes.as_slice());
        reader.records().next().unwrap().unwrap()[0].to_owned()
    }

    #[test]
    fn formulas_are_guarded_and_numbers_are_not() {
        for (text, cell) in [
            ("=1+1", "'=1+1"),
            ("@cmd", "'@cmd"),
            ("-2+3*cmd|' /C calc'!A0", "'-2+3*cmd|' /C calc'!A0"),
            ("'=1", "''=1"),
            ("+1 (555) 010-9999", "+1 (555) 010-9999"),
            ("-12.5", "-12.5"),
            ("O'Neil", "O'Neil"),
        ] {
            assert_eq!(exported(text), cell);
            assert_eq!(unguard(cell), text);
        }
    }

    proptest! {
        #[test]
        fn any_text_comes_back(text in "['=+@\\-0-9a-z,\" ]{1,12}") {
            let cell = exported(&text);
            prop_assert_eq!(unguard(&cell), text);
        }
    }
}
