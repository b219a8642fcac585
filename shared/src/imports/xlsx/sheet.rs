//! Reads the rows of a sheet into [packed](crate::imports::packed) records.

use std::io::Read;

use super::archive::fault;
use super::damaged;
use super::strings::Strings;
use super::styles::Styles;
use super::workbook::TextRuns;
use super::xml::{Element, Node, Xml};
use crate::error::Result;
use crate::imports::head::MAX_COLUMNS;
use crate::imports::packed::{self, CellKind, DELIMITER, Rejection};
use crate::imports::split::MAX_RECORD;

/// The most rows of a sheet.
const MAX_ROWS: u64 = 1_048_576;

/// Reads the cells of a sheet.
pub(super) struct SheetReader<'a> {
    pub strings: &'a mut Strings,
    pub styles: &'a Styles,
    pub is_1904: bool,
    /// The rows that were read, with blank ones between them.
    rows: u64,
    /// Where the current row begins in the text, and how many cells it has.
    start: usize,
    cells: usize,
    /// The place of a cell that does not say its own.
    next: usize,
    is_too_long: bool,
    cell: Cell,
    /// The buffer for a shared string.
    shared: Vec<u8>,
}

/// The cell that is being read.
#[derive(Default)]
struct Cell {
    place: usize,
    kind: Kind,
    style: usize,
    value: String,
    has_value: bool,
    formula: Option<String>,
    inline: TextRuns,
    /// The element whose text is read.
    open: Open,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Kind {
    #[default]
    Number,
    Shared,
    Inline,
    Text,
    Bool,
    Error,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Open {
    #[default]
    None,
    Value,
    Formula,
}

impl<'a> SheetReader<'a> {
    pub fn new(strings: &'a mut Strings, styles: &'a Styles, is_1904: bool) -> Self {
        Self {
            strings,
            styles,
            is_1904,
            rows: 0,
            start: 0,
            cells: 0,
            next: 0,
            is_too_long: false,
            cell: Cell::default(),
            shared: Vec::new(),
        }
    }

    /// Reads the rows, and gives the text to `send` in pieces of about `piece` bytes. Ends early if it returns
    /// `false`.
    pub fn read(mut self, document: impl Read, piece: usize, mut send: impl FnMut(Vec<u8>) -> bool) -> Result<()> {
        let mut xml = Xml::new(document);
        let mut text = Vec::with_capacity(piece * 2);
        loop {
            match xml.next().map_err(damaged)? {
                Node::Start(element) => match element.name() {
                    b"row" => self.begin_row(&element, &mut text)?,
                    b"c" => self.cell.begin(&element, self.next),
                    b"v" => self.cell.open = Open::Value,
                    b"f" => self.cell.open_formula(),
                    name => self.cell.inline.start(name),
                },
                Node::Text(part) => self.cell.add(&part),
                Node::End(element) => match element.name() {
                    b"v" | b"f" => self.cell.open = Open::None,
                    b"c" => self.end_cell(&mut text)?,
                    b"row" => {
                        self.end_row(&mut text);
                        if text.len() >= piece && !send(std::mem::replace(&mut text, Vec::with_capacity(piece * 2))) {
                            return Ok(());
                        }
                    }
                    b"sheetData" => break,
                    name => self.cell.inline.end(name),
                },
                Node::Eof => break,
            }
        }
        if !text.is_empty() {
            send(text);
        }
        Ok(())
    }

    /// Begins a row. Rows that the file leaves out are blank.
    fn begin_row(&mut self, element: &Element<'_>, text: &mut Vec<u8>) -> Result<()> {
        let number = element.attribute("r").and_then(|number| number.parse::<u64>().ok());
        let number = number.filter(|number| *number > self.rows).unwrap_or(self.rows + 1);
        if number > MAX_ROWS {
            return Err(damaged(fault("it has a row after the last one that a sheet can have")));
        }
        text.resize(text.len() + (number - self.rows - 1) as usize, b'\n');
        self.rows = number;
        (self.start, self.cells, self.next, self.is_too_long) = (text.len(), 0, 0, false);
        Ok(())
    }

    fn end_row(&mut self, text: &mut Vec<u8>) {
        if !self.is_too_long {
            text.push(b'\n');
            return;
        }
        text.truncate(self.start);
        let message = format!("is longer than {} KiB", MAX_RECORD / 1024);
        packed::push_rejected(text, Rejection::TooLong, &message, "");
    }

    fn end_cell(&mut self, text: &mut Vec<u8>) -> Result<()> {
        let cell = std::mem::take(&mut self.cell);
        self.next = cell.place + 1;
        if self.is_too_long {
            return Ok(());
        }
        let (kind, value): (CellKind, std::borrow::Cow<'_, str>) = match cell.kind {
            _ if !cell.has_value && cell.formula.is_some() => {
                // Programs that do not calculate write formulas without results.
                (CellKind::Error, format!("={}", cell.formula.unwrap_or_default()).into())
            }
            Kind::Inline => {
                let mut inline = cell.inline;
                (CellKind::Text, inline.finish().into())
            }
            Kind::Shared => {
                let number = cell.value.trim().parse().ok();
                let is_known = match number {
                    Some(number) => self.strings.read(number, &mut self.shared)?,
                    None => cell.value.trim().is_empty(),
                };
                if !is_known {
                    return Err(damaged(fault("a cell refers to a text that the workbook does not have")));
                }
                if number.is_none() {
                    return Ok(());
                }
                (CellKind::Text, String::from_utf8_lossy(&self.shared))
            }
            Kind::Bool => (CellKind::Text, if cell.value.trim() == "1" { "true" } else { "false" }.into()),
            Kind::Error => (CellKind::Error, cell.value.into()),
            Kind::Text => (CellKind::Text, cell.value.into()),
            Kind::Number => {
                let (kind, value) = self.styles.format(cell.style).write(&cell.value, self.is_1904);
                (kind, value.into())
            }
        };
        if value.trim().is_empty() || (cell.kind != Kind::Inline && !cell.has_value && kind != CellKind::Error) {
            return Ok(());
        }
        // Cells beyond the last possible column come after it, so that a far one costs no room.
        let place = cell.place.min(MAX_COLUMNS).max(self.cells);
        let delimiters = if self.cells == 0 { place } else { place + 1 - self.cells };
        text.resize(text.len() + delimiters, DELIMITER);
        packed::push_kind(text, kind);
        packed::push_text(text, value.as_bytes());
        self.cells = place + 1;
        self.is_too_long = text.len() - self.start >= MAX_RECORD;
        Ok(())
    }
}

impl Cell {
    /// Begins a cell: its place is that of its reference, such as `AB12`, or the next one.
    fn begin(&mut self, element: &Element<'_>, next: usize) {
        *self = Self { place: next, ..Self::default() };
        for (name, value) in element.attributes() {
            match name {
                "r" => self.place = place(value.as_bytes()).unwrap_or(next),
                "s" => self.style = value.parse().unwrap_or(0),
                "t" => {
                    self.kind = match &*value {
                        "s" => Kind::Shared,
                        "inlineStr" => Kind::Inline,
                        "str" | "d" => Kind::Text,
                        "b" => Kind::Bool,
                        "e" => Kind::Error,
                        _ => Kind::Number,
                    }
                }
                _ => {}
            }
        }
    }

    fn open_formula(&mut self) {
        self.open = Open::Formula;
        self.formula = Some(String::new());
    }

    /// Adds a part of a text. What is longer than a record is left out.
    fn add(&mut self, part: &str) {
        let text = match (self.open, &mut self.formula) {
            (Open::Value, _) => {
                self.has_value = true;
                &mut self.value
            }
            (Open::Formula, Some(formula)) => formula,
            _ => return self.inline.add(part),
        };
        if text.len() <= MAX_RECORD {
            text.push_str(part);
        }
    }
}

/// The place of a column by its letters, counted from 0.
fn place(reference: &[u8]) -> Option<usize> {
    let letters = reference.iter().take_while(|byte| byte.is_ascii_alphabetic());
    let number =
        letters.take(4).fold(0, |number, letter| number * 26 + usize::from(letter.to_ascii_uppercase() - b'@'));
    number.checked_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_places() {
        for (reference, expected) in
            [("A1", Some(0)), ("Z9", Some(25)), ("AA1", Some(26)), ("XFD1", Some(16_383)), ("1", None)]
        {
            assert_eq!(place(reference.as_bytes()), expected, "{reference}");
        }
    }
}
