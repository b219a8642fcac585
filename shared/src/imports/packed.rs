//! Records of JSON Lines and workbooks as text that is split and read like CSV.
//!
//! A packed record is one line, so lines of the text are lines of the file, or rows of the sheet. Its cells
//! contain neither quotes, line breaks nor delimiters: bytes that UTF-8 never contains stand for them. Such
//! bytes also mark cells that are no plain text, and records that are rejected.

use std::borrow::Cow;

use csv::ByteRecord;
use memchr::memchr3;

use crate::values::Fault;

/// Separates the cells of a record.
pub const DELIMITER: u8 = 0xf5;
const QUOTE: u8 = 0xf6;
const LF: u8 = 0xf7;
const CR: u8 = 0xf8;
const NUMBER: u8 = 0xf9;
const JSON: u8 = 0xfa;
const ERROR: u8 = 0xfb;
const REJECTED: u8 = 0xfc;

/// What a cell is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CellKind {
    /// Text, which people may have written.
    #[default]
    Text,
    /// A number of a workbook, with a decimal point.
    Number,
    /// A JSON value other than a string.
    Json,
    /// An error of a workbook, such as `#N/A`.
    Error,
}

/// Why a record is rejected before its cells are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    /// It is no JSON object.
    Malformed,
    /// It is longer than a record may be.
    TooLong,
    /// It has bytes that are invalid in the file's encoding.
    Encoding,
    /// It has a key twice.
    Duplicate,
}

impl Rejection {
    const ALL: [Self; 4] = [Self::Malformed, Self::TooLong, Self::Encoding, Self::Duplicate];

    fn code(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::TooLong => "record_too_long",
            Self::Encoding => "encoding",
            Self::Duplicate => "duplicate",
        }
    }
}

/// Appends the mark of a cell, which comes before its text.
pub fn push_kind(text: &mut Vec<u8>, kind: CellKind) {
    match kind {
        CellKind::Text => {}
        CellKind::Number => text.push(NUMBER),
        CellKind::Json => text.push(JSON),
        CellKind::Error => text.push(ERROR),
    }
}

/// Appends the text of a cell, which must be UTF-8.
pub fn push_text(packed: &mut Vec<u8>, mut text: &[u8]) {
    while let Some(at) = memchr3(b'"', b'\n', b'\r', text) {
        packed.extend_from_slice(&text[..at]);
        packed.push(match text[at] {
            b'"' => QUOTE,
            b'\n' => LF,
            _ => CR,
        });
        text = &text[at + 1..];
    }
    packed.extend_from_slice(text);
}

/// Appends a rejected record with its text, and ends it.
pub fn push_rejected(packed: &mut Vec<u8>, rejection: Rejection, message: &str, raw: &str) {
    packed.extend([REJECTED, b'0' + rejection as u8]);
    push_text(packed, message.as_bytes());
    packed.push(DELIMITER);
    push_text(packed, raw.as_bytes());
    packed.push(b'\n');
}

/// What a packed record is.
#[derive(Debug, PartialEq, Eq)]
pub enum Unpacked {
    /// A record, of which these cells are no plain text; cells beyond the end are.
    Cells(Vec<CellKind>),
    /// A rejected record, with its text.
    Rejected(Fault, String),
}

/// Restores the cells of a record.
pub fn unpack(record: &mut ByteRecord) -> Unpacked {
    if record.as_slice().iter().all(|byte| !(DELIMITER..=REJECTED).contains(byte)) {
        return Unpacked::Cells(Vec::new());
    }
    let rejection = match record.get(0) {
        Some([REJECTED, code, ..]) => Rejection::ALL.get(usize::from(code.wrapping_sub(b'0'))).copied(),
        _ => None,
    };
    let (mut cells, mut kinds) = (ByteRecord::with_capacity(record.as_slice().len(), record.len()), Vec::new());
    for (at, cell) in record.iter().enumerate() {
        let (kind, text) = match cell {
            [NUMBER, text @ ..] => (CellKind::Number, text),
            [JSON, text @ ..] => (CellKind::Json, text),
            [ERROR, text @ ..] => (CellKind::Error, text),
            [REJECTED, _, text @ ..] => (CellKind::Text, text),
            text => (CellKind::Text, text),
        };
        if kind != CellKind::Text {
            kinds.resize(at, CellKind::Text);
            kinds.push(kind);
        }
        cells.push_field(&restored(text));
    }
    *record = cells;
    let Some(rejection) = rejection else { return Unpacked::Cells(kinds) };
    let text = |at| record.get(at).map(|cell| String::from_utf8_lossy(cell).into_owned()).unwrap_or_default();
    Unpacked::Rejected(Fault::new(rejection.code(), text(0)), text(1))
}

fn restored(cell: &[u8]) -> Cow<'_, [u8]> {
    let Some(at) = memchr3(QUOTE, LF, CR, cell) else { return Cow::Borrowed(cell) };
    let mut text = cell.to_vec();
    for byte in &mut text[at..] {
        match *byte {
            QUOTE => *byte = b'"',
            LF => *byte = b'\n',
            CR => *byte = b'\r',
            _ => {}
        }
    }
    Cow::Owned(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::imports::grammar::Records;

    #[test]
    fn a_rejected_record_keeps_its_reason_and_its_text() {
        let mut packed = Vec::new();
        push_rejected(&mut packed, Rejection::Duplicate, "has \"a\" twice", "{\"a\":1,\n\"a\":2}");
        let mut record = ByteRecord::new();
        assert_eq!(Records::new(&packed, DELIMITER, false, 1).read(&mut record), Some(1));
        let fault = Fault::new("duplicate", "has \"a\" twice");
        assert_eq!(unpack(&mut record), Unpacked::Rejected(fault, "{\"a\":1,\n\"a\":2}".to_owned()));
    }

    proptest! {
        #[test]
        fn cells_are_the_same_when_they_are_unpacked(cells in prop::collection::vec((0..4_usize, "[a,;\"\r\n\tü ]{1,8}"), 1..6)) {
            let kinds = [CellKind::Text, CellKind::Number, CellKind::Json, CellKind::Error];
            let mut packed = Vec::new();
            for (at, (kind, text)) in cells.iter().enumerate() {
                if at > 0 {
                    packed.push(DELIMITER);
                }
                push_kind(&mut packed, kinds[*kind]);
                push_text(&mut packed, text.as_bytes());
            }
            packed.push(b'\n');
            let mut records = Records::new(&packed, DELIMITER, false, 1);
            let mut record = ByteRecord::new();
            prop_assert_eq!(records.read(&mut record), Some(1));
            prop_assert!(!records.has_stray_quote());
            let Unpacked::Cells(unpacked) = unpack(&mut record) else { panic!("the record was rejected") };
            for (at, (kind, text)) in cells.iter().enumerate() {
                prop_assert_eq!(&record[at], text.as_bytes());
                prop_assert_eq!(unpacked.get(at).copied().unwrap_or_default(), kinds[*kind]);
            }
            prop_assert!(records.read(&mut record).is_none());
        }
    }
}
