//! The grammar of CSV, as the `csv` crate reads it.
//!
//! [`Scan`] finds the ends of records in a stream, [`Records`] reads the records of a chunk. Both
//! read each byte once and count lines.

use csv::ByteRecord;
use memchr::{memchr, memchr2, memchr3};

const QUOTE: u8 = b'"';

/// Whether a byte ends a line. CR, LF and CRLF each end one.
pub fn is_break(byte: u8) -> bool {
    matches!(byte, b'\n' | b'\r')
}

/// Whether all cells of a record are empty. Such a record is ignored like a blank line.
pub(super) fn is_blank_record(raw: &[u8], delimiter: u8) -> bool {
    raw.split(|byte| *byte == delimiter).all(|cell| matches!(cell.trim_ascii(), b"" | b"\"\""))
}

/// The position of a scan in a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Position {
    /// At the start of a field, where a quote opens it.
    FieldStart,
    /// In an unquoted field, or after a closing quote; quotes are text here.
    Field,
    /// Between quotes, where line breaks and delimiters are text.
    Quoted,
    /// After a quote between quotes: a second quote is text, any other byte follows a closing quote.
    QuoteInQuoted,
}

/// The state of a scan between two pieces of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Scan {
    position: Position,
    after_cr: bool,
    /// The line of the file that the scan is on.
    pub line: u64,
}

/// Why a scan stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// The last byte ended a record.
    Record,
    /// The last byte is a line break between quotes.
    QuotedBreak,
    /// The input is used up.
    Nothing,
}

impl Scan {
    /// At the start of a record, on the given line.
    pub fn new(line: u64) -> Self {
        Self { position: Position::FieldStart, after_cr: false, line }
    }

    /// The same position in the file, as the start of a record.
    pub fn at_record(self) -> Self {
        Self { position: Position::FieldStart, ..self }
    }

    /// The position before a line break that ended a record.
    pub fn before_end(self) -> Self {
        Self { position: Position::Field, after_cr: false, line: self.line - 1 }
    }

    /// Whether a quote is open.
    pub fn is_quoted(self) -> bool {
        self.position == Position::Quoted
    }

    /// Whether the last byte was a CR, which an LF may follow.
    pub fn is_after_cr(self) -> bool {
        self.after_cr
    }

    /// Skips line breaks between records. Returns the number of bytes.
    pub fn blank_lines(&mut self, input: &[u8]) -> usize {
        let length = input.iter().take_while(|&&byte| is_break(byte)).count();
        input[..length].iter().for_each(|&byte| self.pass_break(byte));
        length
    }

    /// Scans to the next line break, which ends the record regardless of quotes.
    pub fn line(&mut self, input: &[u8]) -> (usize, Found) {
        let Some(at) = memchr2(b'\n', b'\r', input) else {
            self.after_cr &= input.is_empty();
            return (input.len(), Found::Nothing);
        };
        self.after_cr &= at == 0;
        self.pass_break(input[at]);
        self.position = Position::FieldStart;
        (at + 1, Found::Record)
    }

    /// Scans to the end of the record, or to the next line break between its quotes.
    pub fn record(&mut self, delimiter: u8, input: &[u8]) -> (usize, Found) {
        let mut at = 0;
        while at < input.len() {
            let rest = &input[at..];
            match self.position {
                Position::FieldStart | Position::QuoteInQuoted if rest[0] == QUOTE => {
                    self.position = Position::Quoted;
                    self.after_cr = false;
                    at += 1;
                }
                Position::Quoted => {
                    let Some(byte) = self.pass_to(memchr3(QUOTE, b'\n', b'\r', rest), rest, &mut at) else { break };
                    if byte != QUOTE {
                        return (at, Found::QuotedBreak);
                    }
                    self.position = Position::QuoteInQuoted;
                }
                Position::FieldStart | Position::Field | Position::QuoteInQuoted => {
                    self.position = Position::Field;
                    let stop = memchr3(delimiter, b'\n', b'\r', rest);
                    let Some(byte) = self.pass_to(stop, rest, &mut at) else { break };
                    self.position = Position::FieldStart;
                    if byte != delimiter {
                        return (at, Found::Record);
                    }
                }
            }
        }
        (at, Found::Nothing)
    }

    /// Moves past the byte at which a search stopped, or past the rest of the input.
    fn pass_to(&mut self, stop: Option<usize>, rest: &[u8], at: &mut usize) -> Option<u8> {
        self.after_cr &= stop == Some(0);
        *at += stop.map_or(rest.len(), |stop| stop + 1);
        let byte = rest[stop?];
        match is_break(byte) {
            true => self.pass_break(byte),
            false => self.after_cr = false,
        }
        Some(byte)
    }

    fn pass_break(&mut self, byte: u8) {
        if !(byte == b'\n' && self.after_cr) {
            self.line += 1;
        }
        self.after_cr = byte == b'\r';
    }
}

/// The records of a chunk.
#[derive(Debug)]
pub(super) struct Records<'d> {
    data: &'d [u8],
    delimiter: u8,
    /// Whether a line break between quotes ends the record, too.
    by_line: bool,
    at: usize,
    line: u64,
    /// Where the last record began.
    start: usize,
    /// Whether the data has quotes at all.
    has_quotes: bool,
    /// Whether the last record has a quote where none may stand.
    has_stray_quote: bool,
    /// The buffer for a quoted field.
    field: Vec<u8>,
}

impl<'d> Records<'d> {
    /// The records of a chunk that begins on the given line.
    pub fn new(data: &'d [u8], delimiter: u8, by_line: bool, line: u64) -> Self {
        let has_quotes = memchr(QUOTE, data).is_some();
        Self { data, delimiter, by_line, at: 0, line, start: 0, has_quotes, has_stray_quote: false, field: Vec::new() }
    }

    /// Where the last record ends, before its line break.
    pub fn at(&self) -> usize {
        self.at
    }

    /// The last record as it is in the file, without its line break.
    pub fn raw(&self) -> &'d [u8] {
        &self.data[self.start..self.at]
    }

    /// Whether the last record has a quote where none may stand. It is part of the cell.
    pub fn has_stray_quote(&self) -> bool {
        self.has_stray_quote
    }

    /// Reads the next record, and returns the line on which it begins.
    pub fn read(&mut self, record: &mut ByteRecord) -> Option<u64> {
        record.clear();
        while self.peek().is_some_and(is_break) {
            self.pass_break();
        }
        self.peek()?;
        let line = self.line;
        self.start = self.at;
        self.has_stray_quote = false;
        while !self.read_field(record) {}
        Some(line)
    }

    /// Reads a field and the delimiter after it. Returns whether it was the last of the record.
    fn read_field(&mut self, record: &mut ByteRecord) -> bool {
        let start = self.at;
        let is_quoted = self.peek() == Some(QUOTE);
        if is_quoted {
            self.field.clear();
            self.at += 1;
            self.read_quoted();
        }
        let rest = &self.data[self.at..];
        let stop = memchr3(self.delimiter, b'\n', b'\r', rest);
        let text = &rest[..stop.unwrap_or(rest.len())];
        self.at += text.len();
        if !is_quoted {
            self.has_stray_quote |= self.has_quotes && memchr(QUOTE, text).is_some();
            record.push_field(text);
        } else if text.trim_ascii().is_empty() {
            record.push_field(&self.field);
        } else {
            self.has_stray_quote = true;
            record.push_field(&literal(&self.data[start..self.at]));
        }
        let is_last = self.peek() != Some(self.delimiter);
        self.at += usize::from(!is_last);
        is_last
    }

    /// Reads up to and including the closing quote.
    fn read_quoted(&mut self) {
        loop {
            let rest = &self.data[self.at..];
            let stop = memchr3(QUOTE, b'\n', b'\r', rest);
            let text = &rest[..stop.unwrap_or(rest.len())];
            self.field.extend_from_slice(text);
            self.at += text.len();
            match self.peek() {
                Some(QUOTE) => {
                    self.at += 1;
                    if self.peek() != Some(QUOTE) {
                        return;
                    }
                    self.field.push(QUOTE);
                    self.at += 1;
                }
                Some(byte) if !self.by_line => {
                    self.field.push(byte);
                    self.pass_break();
                }
                _ => return,
            }
        }
    }

    fn pass_break(&mut self) {
        let ends_crlf = self.data[self.at] == b'\n' && self.at > 0 && self.data[self.at - 1] == b'\r';
        self.line += u64::from(!ends_crlf);
        self.at += 1;
    }

    fn peek(&self) -> Option<u8> {
        self.data.get(self.at).copied()
    }
}

/// A cell with text after its closing quote, without losing a quote: `"6" pipe"` is `6" pipe`, and `"Ann" Lee`
/// stays as it is.
fn literal(raw: &[u8]) -> Vec<u8> {
    let Some(inner) = raw.strip_suffix(b"\"").and_then(|raw| raw.strip_prefix(b"\"")) else { return raw.to_vec() };
    let mut text = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        text.push(byte);
        if byte == QUOTE {
            bytes.next_if_eq(&QUOTE);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The records as the `csv` crate reads them, with a byte order mark, which the crate would drop.
    fn expected(data: &[u8]) -> Vec<ByteRecord> {
        csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .from_reader([b"\n", data].concat().as_slice())
            .into_byte_records()
            .map(Result::unwrap)
            .collect()
    }

    fn read(data: &[u8], by_line: bool) -> Vec<(u64, ByteRecord)> {
        let mut records = Records::new(data, b',', by_line, 1);
        let mut record = ByteRecord::new();
        std::iter::from_fn(|| Some((records.read(&mut record)?, record.clone()))).collect()
    }

    #[test]
    fn a_line_break_ends_every_record_where_quotes_are_unreliable() {
        let cells: Vec<(u64, Vec<String>)> = read(b"\"a,1\r\n\"b,\",2\n\"\"\n\n\"c\"\"\n", true)
            .iter()
            .map(|(line, record)| (*line, record.iter().map(|cell| String::from_utf8_lossy(cell).into()).collect()))
            .collect();
        let row = |line, cells: &[&str]| (line, cells.iter().map(|&cell| cell.to_owned()).collect::<Vec<String>>());
        assert_eq!(cells, [row(1, &["a,1"]), row(2, &["b,", "2"]), row(3, &[""]), row(5, &["c\""])]);
    }

    #[test]
    fn a_quote_where_none_may_stand_is_kept() {
        let data = b"A,6\" pipe\nB,\"6\" pipe\"\nC,\"Ann\" Lee\nD,\"6\"\" pipe\"\nE,\"x\" \n";
        let mut records = Records::new(data, b',', false, 1);
        let (mut record, mut seen) = (ByteRecord::new(), Vec::new());
        while records.read(&mut record).is_some() {
            seen.push((String::from_utf8_lossy(&record[1]).into_owned(), records.has_stray_quote()));
        }
        let cell = |text: &str, is_stray| (text.to_owned(), is_stray);
        let expected = [
            cell("6\" pipe", true),
            cell("6\" pipe", true),
            cell("\"Ann\" Lee", true),
            cell("6\" pipe", false),
            cell("x", false),
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn records_without_text_are_blank() {
        for (raw, is_blank) in [
            (";;;", true),
            (" ; ;", true),
            ("\"\";\"\"", true),
            ("", true),
            (";a", false),
            ("\";\"", false),
            (";0;", false),
        ] {
            assert_eq!(is_blank_record(raw.as_bytes(), b';'), is_blank, "{raw}");
        }
    }

    proptest! {
        #[test]
        fn records_match_the_csv_crate(data in "[ab,\"\r\n\u{feff}]{0,40}") {
            let mut records = Records::new(data.as_bytes(), b',', false, 1);
            let mut record = ByteRecord::new();
            for expected in expected(data.as_bytes()) {
                prop_assert!(records.read(&mut record).is_some());
                // Quotes where none may stand do not change where cells end.
                prop_assert_eq!(record.len(), expected.len());
                if !records.has_stray_quote() {
                    prop_assert_eq!(&record, &expected);
                }
            }
            prop_assert!(records.read(&mut record).is_none());
        }

        #[test]
        fn scanning_and_reading_find_the_same_records(data in "[ab,\"\r\n]{0,40}") {
            let (mut scan, mut at, mut starts) = (Scan::new(1), 0, Vec::new());
            let data = data.as_bytes();
            loop {
                at += scan.blank_lines(&data[at..]);
                if at == data.len() {
                    break;
                }
                starts.push(scan.line);
                loop {
                    let (taken, found) = scan.record(b',', &data[at..]);
                    at += taken;
                    if found != Found::QuotedBreak {
                        break;
                    }
                }
            }
            let lines: Vec<u64> = read(data, false).into_iter().map(|(line, _)| line).collect();
            prop_assert_eq!(starts, lines);
        }

        #[test]
        fn by_line_each_line_is_one_record(data in "[ab,\"\r\n]{0,40}") {
            let lines = data.split(['\r', '\n']).filter(|line| !line.is_empty()).count();
            prop_assert_eq!(read(data.as_bytes(), true).len(), lines);
        }
    }
}
