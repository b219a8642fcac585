//! Values as cells of a row: for COPY, or as CSV.

use std::fmt::Display;

use chrono::{DateTime, SecondsFormat, Utc};
use uuid::Uuid;

/// A row of cells being written: for COPY, or as CSV.
pub trait Cells {
    /// A value whose text needs no escaping.
    fn value(&mut self, value: impl Display);
    /// Any text.
    fn text(&mut self, text: &str);
    /// The text of a JSON object.
    fn json(&mut self, json: &str);
    /// Nothing.
    fn empty(&mut self);

    /// A value whose text needs no escaping, or nothing.
    fn optional(&mut self, value: Option<impl Display>) {
        match value {
            Some(value) => self.value(value),
            None => self.empty(),
        }
    }

    /// Any text, or nothing.
    fn optional_text(&mut self, text: Option<&impl AsRef<str>>) {
        match text {
            Some(text) => self.text(text.as_ref()),
            None => self.empty(),
        }
    }

    /// A point in time, in microseconds.
    fn time(&mut self, time: DateTime<Utc>) {
        self.value(time.to_rfc3339_opts(SecondsFormat::Micros, true));
    }
}

/// A kind of value that is one cell.
pub trait Cell {
    /// Writes the cell.
    fn write(&self, cells: &mut impl Cells);
}

impl<T: Cell> Cell for Option<T> {
    fn write(&self, cells: &mut impl Cells) {
        match self {
            Some(value) => value.write(cells),
            None => cells.empty(),
        }
    }
}

impl Cell for Uuid {
    fn write(&self, cells: &mut impl Cells) {
        cells.value(self);
    }
}

impl Cell for DateTime<Utc> {
    fn write(&self, cells: &mut impl Cells) {
        cells.time(*self);
    }
}
