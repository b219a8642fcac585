//! Reads JSON Lines into [packed](super::packed) records: keys are headers, in the order in which they appear.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::ops::Range;

use memchr::memchr;
use serde::de::{DeserializeSeed, Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::head::{MAX_COLUMNS, MAX_HEADER};
use super::packed::{self, CellKind, DELIMITER, Rejection};
use super::split::MAX_RECORD;
use crate::error::{Error, Result};

/// How much of a line that is too long is kept, in bytes.
const EXCERPT: usize = 1_000;

/// The state between two pieces of the text.
#[derive(Debug, Default)]
pub(super) struct JsonLines {
    /// The beginning of the current line.
    line: Vec<u8>,
    /// Whether the rest of the current line is skipped.
    skipping: bool,
    columns: Columns,
    row: Row,
}

/// The keys so far.
#[derive(Debug, Default)]
struct Columns {
    names: Vec<String>,
    places: HashMap<String, usize>,
}

/// The cells of the current line.
#[derive(Debug, Default)]
struct Row {
    /// The number of the line.
    number: u64,
    /// The cell of each column, with the number of the line that it belongs to.
    cells: Vec<(u64, CellKind, Range<usize>)>,
    /// The texts of the cells.
    text: Vec<u8>,
}

impl JsonLines {
    /// The keys of the lines so far, in the order in which they appeared.
    pub fn columns(&self) -> &[String] {
        &self.columns.names
    }

    /// Reads the next piece of the text, and returns the records that it completes.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there are too many keys, or one is too long.
    pub fn feed(&mut self, mut text: &[u8]) -> Result<Vec<u8>> {
        let mut packed = Vec::with_capacity(text.len());
        while let Some(end) = memchr(b'\n', text) {
            let (line, rest) = (&text[..end], &text[end + 1..]);
            text = rest;
            if std::mem::take(&mut self.skipping) {
                continue;
            }
            if self.line.is_empty() {
                self.read(line, &mut packed)?;
            } else {
                let mut whole = std::mem::take(&mut self.line);
                whole.extend_from_slice(line);
                self.read(&whole, &mut packed)?;
                whole.clear();
                self.line = whole;
            }
        }
        if !self.skipping {
            self.line.extend_from_slice(text);
            if self.line.len() > MAX_RECORD {
                reject_long(&self.line, &mut packed);
                self.line = Vec::new();
                self.skipping = true;
            }
        }
        Ok(packed)
    }

    /// Reads the last line, if no line break ends it.
    ///
    /// # Errors
    /// As [`JsonLines::feed`].
    pub fn finish(&mut self) -> Result<Vec<u8>> {
        let mut packed = Vec::new();
        let line = std::mem::take(&mut self.line);
        if !line.is_empty() {
            self.read(&line, &mut packed)?;
        }
        Ok(packed)
    }

    fn read(&mut self, line: &[u8], packed: &mut Vec<u8>) -> Result<()> {
        if line.len() > MAX_RECORD {
            reject_long(line, packed);
            return Ok(());
        }
        let line = line.trim_ascii();
        if line.is_empty() {
            packed.push(b'\n');
            return Ok(());
        }
        let Ok(line) = std::str::from_utf8(line) else {
            let message = "contains bytes that are invalid in the file's encoding";
            packed::push_rejected(packed, Rejection::Encoding, message, &String::from_utf8_lossy(line));
            return Ok(());
        };
        let known = self.columns.names.len();
        match self.row.read(line, &mut self.columns) {
            Ok(()) if self.columns.names.len() > MAX_COLUMNS => {
                let message = format!("has more than {MAX_COLUMNS} different keys");
                return Err(Error::invalid("file", "too_many_columns", message));
            }
            Ok(()) => {
                self.columns.check_from(known)?;
                let start = packed.len();
                self.row.pack(packed);
                if packed.len() - start > MAX_RECORD {
                    packed.truncate(start);
                    reject_long(line.as_bytes(), packed);
                }
            }
            Err((rejection, message)) => {
                self.columns.forget_from(known);
                packed::push_rejected(packed, rejection, &message, line);
            }
        }
        Ok(())
    }
}

fn reject_long(line: &[u8], packed: &mut Vec<u8>) {
    let message = format!("is longer than {} KiB", MAX_RECORD / 1024);
    let excerpt = String::from_utf8_lossy(&line[..line.len().min(EXCERPT)]);
    packed::push_rejected(packed, Rejection::TooLong, &message, &excerpt);
}

impl Columns {
    fn place(&mut self, key: &str) -> usize {
        if let Some(place) = self.places.get(key) {
            return *place;
        }
        let place = self.names.len();
        self.names.push(key.to_owned());
        self.places.insert(key.to_owned(), place);
        place
    }

    /// Forgets the keys of a rejected line.
    fn forget_from(&mut self, known: usize) {
        for name in self.names.drain(known..) {
            self.places.remove(&name);
        }
    }

    /// Checks new keys as the header of a CSV file is checked.
    fn check_from(&self, known: usize) -> Result<()> {
        match self.names[known..].iter().find(|name| name.len() > MAX_HEADER) {
            None => Ok(()),
            Some(name) => {
                let start: String = name.chars().take(40).collect();
                let message = format!("has a key of more than {MAX_HEADER} bytes: {start}…");
                Err(Error::invalid("file", "header_too_long", message))
            }
        }
    }
}

impl Row {
    /// Reads the cells of a line, or returns why the line is rejected.
    fn read(&mut self, line: &str, columns: &mut Columns) -> Result<(), (Rejection, String)> {
        self.number += 1;
        self.text.clear();
        let mut reader = RowReader { row: self, columns, repeated: None };
        let mut json = serde_json::Deserializer::from_str(line);
        let read = reader.deserialize(&mut json).and_then(|()| json.end());
        match (read, reader.repeated) {
            (Ok(()), _) => Ok(()),
            (Err(_), Some(key)) => Err((Rejection::Duplicate, format!("has the key {key:?} twice"))),
            (Err(error), None) => Err((Rejection::Malformed, format!("is not a JSON object: {error}"))),
        }
    }

    /// Appends the cells up to the last one that is not empty.
    fn pack(&self, packed: &mut Vec<u8>) {
        let is_set = |(number, _, _): &(u64, CellKind, Range<usize>)| *number == self.number;
        let end = self.cells.iter().rposition(is_set).map_or(0, |last| last + 1);
        for (at, cell) in self.cells[..end].iter().enumerate() {
            if at > 0 {
                packed.push(DELIMITER);
            }
            if is_set(cell) {
                packed::push_kind(packed, cell.1);
                packed.extend_from_slice(&self.text[cell.2.clone()]);
            }
        }
        packed.push(b'\n');
    }

    /// Sets the cell of a column, unless its value is empty.
    fn set(&mut self, place: usize, value: &RawValue) -> serde_json::Result<()> {
        let (start, json) = (self.text.len(), value.get());
        let kind = match json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
            Some(text) if !text.contains('\\') => {
                packed::push_text(&mut self.text, text.as_bytes());
                CellKind::Text
            }
            Some(_) => {
                packed::push_text(&mut self.text, serde_json::from_str::<String>(json)?.as_bytes());
                CellKind::Text
            }
            None if matches!(json, "null" | "{}" | "[]") => CellKind::Text,
            None => {
                packed::push_text(&mut self.text, json.as_bytes());
                CellKind::Json
            }
        };
        self.cells.resize(self.cells.len().max(place + 1), (0, CellKind::Text, 0..0));
        self.cells[place] = (self.number, kind, start..self.text.len());
        Ok(())
    }

    fn has(&self, place: usize) -> bool {
        self.cells.get(place).is_some_and(|(number, _, _)| *number == self.number)
    }
}

/// Reads the object of a line.
struct RowReader<'a> {
    row: &'a mut Row,
    columns: &'a mut Columns,
    /// The key that the line has twice.
    repeated: Option<String>,
}

#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> DeserializeSeed<'de> for &mut RowReader<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for &mut RowReader<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<(), A::Error> {
        while let Some(Key(key)) = object.next_key()? {
            let value: &RawValue = object.next_value()?;
            let place = self.columns.place(&key);
            if self.row.has(place) {
                self.repeated = Some(key.chars().take(100).collect());
                return Err(A::Error::custom("a key is repeated"));
            }
            self.row.set(place, value).map_err(A::Error::custom)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use csv::ByteRecord;
    use proptest::prelude::*;

    use super::*;
    use crate::imports::grammar::Records;
    use crate::imports::packed::{Unpacked, unpack};

    /// A line with its cells, or with the code of its rejection.
    type Line = (u64, Result<Vec<String>, &'static str>);

    /// The keys, and the lines.
    fn read(text: &[u8], piece: usize) -> (Vec<String>, Vec<Line>) {
        let mut reader = JsonLines::default();
        let mut packed: Vec<u8> = text.chunks(piece).flat_map(|piece| reader.feed(piece).unwrap()).collect();
        packed.extend(reader.finish().unwrap());
        let mut records = Records::new(&packed, DELIMITER, false, 1);
        let mut record = ByteRecord::new();
        let mut rows = Vec::new();
        while let Some(line) = records.read(&mut record) {
            let row = match unpack(&mut record) {
                Unpacked::Cells(_) => Ok(record.iter().map(|cell| String::from_utf8(cell.to_vec()).unwrap()).collect()),
                Unpacked::Rejected(fault, _) => Err(fault.code),
            };
            rows.push((line, row));
        }
        (reader.columns().to_vec(), rows)
    }

    #[test]
    fn keys_are_columns_in_the_order_of_the_file() {
        let text = b"{\"email\":\"a@x\",\"score\":7.5,\"tags\":[\"a\",\"b\"]}\r\n\n{\"late\":\"1\\n\\\"2\\\"\",\"email\":null}\n\
            [1]\n{\"x\":1,\"x\":2}\n{\"gone\":1,\n{\"a\":\"\xff\"}\n{\"email\":\"b@x\"} {}\n{\"email\":\"c@x\"}";
        let cells = |cells: &[&str]| Ok(cells.iter().map(|&cell| cell.to_owned()).collect());
        for piece in [1, 7, 1_000] {
            let (columns, rows) = read(text, piece);
            assert_eq!(columns, ["email", "score", "tags", "late"]);
            let expected = [
                (1, cells(&["a@x", "7.5", "[\"a\",\"b\"]"])),
                (3, cells(&["", "", "", "1\n\"2\""])),
                (4, Err("malformed")),
                (5, Err("duplicate")),
                (6, Err("malformed")),
                (7, Err("encoding")),
                (8, Err("malformed")),
                (9, cells(&["c@x"])),
            ];
            assert_eq!(rows, expected);
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_rejected_and_the_next_one_is_read() {
        let text = format!("{{\"a\":\"{}\"}}\n{{\"a\":\"1\"}}\n", "x".repeat(MAX_RECORD));
        let expected = vec![(1, Err("record_too_long")), (2, Ok(vec!["1".to_owned()]))];
        for piece in [1_000, 64 * 1024, 8 << 20] {
            assert_eq!(read(text.as_bytes(), piece).1, expected);
        }
    }

    #[test]
    fn a_file_has_at_most_1000_different_keys() {
        let mut reader = JsonLines::default();
        let line = |n: usize| format!("{{\"k{n}\":1}}\n").into_bytes();
        (0..MAX_COLUMNS).for_each(|n| assert!(reader.feed(&line(n)).is_ok()));
        assert!(matches!(reader.feed(&line(MAX_COLUMNS)), Err(Error::Invalid(_))));
    }

    proptest! {
        #[test]
        fn each_line_is_a_record_or_rejected(text in "([{}\\[\\]:,\"a1\\\\ \n\r]|\"a\":|\"b\":){0,60}", piece in 1..20_usize) {
            let (columns, rows) = read(text.as_bytes(), piece);
            prop_assert!(rows.iter().all(|(_, row)| row.as_ref().map_or(true, |cells| cells.len() <= columns.len().max(1))));
            let lines = text.split('\n').filter(|line| !line.trim_ascii().is_empty()).count();
            // A line with an empty object is blank.
            prop_assert!(rows.len() <= lines);
            prop_assert_eq!(read(text.as_bytes(), 1_000), (columns, rows));
        }
    }
}
