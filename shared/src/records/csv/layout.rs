//! The columns of a file of records.

use std::fmt::Display;
use std::slice::Iter;

use serde_json::{Map, Value};

use super::CsvRows;
use crate::records::Fields;
use crate::values::cell::Cells;

/// The field whose keys can be columns of their own.
const CUSTOM_FIELDS: &str = "custom_fields";

/// Which columns a file of records has.
#[derive(Debug, Clone, Default)]
pub struct Layout {
    /// Whether each field of the record, computed ones included, is a column; without it, all fields that
    /// an import reads are.
    chosen: Option<Vec<bool>>,
    header: Vec<String>,
    /// The keys of `custom_fields` that are columns of their own. They stand before `custom_fields`, which
    /// then has the other keys.
    custom: Vec<String>,
}

impl Layout {
    /// The columns of a kind of record: only these fields, or all that an import reads; and keys of the
    /// custom fields, each with its header.
    pub fn new<R: Fields>(fields: Option<&[&'static str]>, custom: Vec<(String, String)>) -> Self {
        let all = R::COLUMNS.iter().chain(R::JOINED).copied();
        let chosen = fields.map(|fields| all.map(|name| fields.contains(&name)).collect());
        let columns = match fields {
            Some(fields) => fields.to_vec(),
            None => R::COLUMNS.to_vec(),
        };
        let mut header = Vec::new();
        for column in columns {
            if column == CUSTOM_FIELDS {
                header.extend(custom.iter().map(|(_, header)| header.clone()));
            }
            header.push(column.to_owned());
        }
        Self { chosen, header, custom: custom.into_iter().map(|(key, _)| key).collect() }
    }

    /// Writes the header row.
    pub fn write_header(&self, rows: &mut CsvRows) {
        rows.row(self.header.iter().map(String::as_str));
    }

    /// Writes a record.
    pub fn write(&self, rows: &mut CsvRows, record: &impl Fields) {
        match (&self.chosen, self.custom.is_empty()) {
            (None, true) => record.cells(rows),
            (None, false) => record.cells(&mut CustomCells { rows, keys: &self.custom }),
            (Some(chosen), _) => {
                let mut cells = ChosenCells { cells: CustomCells { rows, keys: &self.custom }, chosen: chosen.iter() };
                record.cells(&mut cells);
                record.computed_cells(&mut cells);
            }
        }
        rows.end();
    }
}

/// Writes some cells of a row, and skips the others.
struct ChosenCells<'a, C> {
    cells: C,
    chosen: Iter<'a, bool>,
}

impl<C> ChosenCells<'_, C> {
    fn next(&mut self) -> Option<&mut C> {
        self.chosen.next().is_some_and(|chosen| *chosen).then_some(&mut self.cells)
    }
}

impl<C: Cells> Cells for ChosenCells<'_, C> {
    fn value(&mut self, value: impl Display) {
        if let Some(cells) = self.next() {
            cells.value(value);
        }
    }

    fn text(&mut self, text: &str) {
        if let Some(cells) = self.next() {
            cells.text(text);
        }
    }

    fn json(&mut self, json: &str) {
        if let Some(cells) = self.next() {
            cells.json(json);
        }
    }

    fn empty(&mut self) {
        if let Some(cells) = self.next() {
            cells.empty();
        }
    }
}

/// Writes keys of `custom_fields` as cells of their own.
struct CustomCells<'a> {
    rows: &'a mut CsvRows,
    keys: &'a [String],
}

impl Cells for CustomCells<'_> {
    fn value(&mut self, value: impl Display) {
        self.rows.value(value);
    }

    fn text(&mut self, text: &str) {
        self.rows.text(text);
    }

    /// Only `custom_fields` is an object.
    fn json(&mut self, json: &str) {
        if self.keys.is_empty() {
            return self.rows.json(json);
        }
        let mut fields: Map<String, Value> = serde_json::from_str(json).unwrap_or_default();
        for key in self.keys {
            match fields.remove(key) {
                None | Some(Value::Null) => self.rows.empty(),
                Some(Value::String(text)) => self.rows.text(&text),
                Some(value) => self.rows.text(&value.to_string()),
            }
        }
        self.rows.json(&Value::Object(fields).to_string());
    }

    fn empty(&mut self) {
        self.rows.empty();
    }
}
