//! Values as cells of a row, for COPY or CSV.

use std::fmt::Display;

use chrono::{DateTime, Utc};
use serde::Serialize;
use uuid::Uuid;

use super::timestamp::Micros;

/// Writes the cells of a row.
pub trait Cells {
    /// Writes a value whose text needs no escaping.
    fn value(&mut self, value: impl Display);
    /// Writes a number.
    fn number(&mut self, number: impl Display + Serialize) {
        self.value(number);
    }

    /// Writes any text.
    fn text(&mut self, text: &str);
    /// Writes the text of a JSON object.
    fn json(&mut self, json: &str);
    /// Writes an empty cell.
    fn empty(&mut self);

    /// Writes a value whose text needs no escaping, or an empty cell.
    fn optional(&mut self, value: Option<impl Display>) {
        match value {
            Some(value) => self.value(value),
            None => self.empty(),
        }
    }

    /// Writes any text, or an empty cell.
    fn optional_text(&mut self, text: Option<&impl AsRef<str>>) {
        match text {
            Some(text) => self.text(text.as_ref()),
            None => self.empty(),
        }
    }

    /// Writes a point in time, in microseconds.
    fn time(&mut self, time: DateTime<Utc>) {
        self.value(Micros(time));
    }
}

/// A type whose values are one cell each.
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
