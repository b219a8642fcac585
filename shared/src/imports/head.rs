//! Reading the head of a file: its delimiter, its header, and the target of each column.

use std::collections::{HashMap, HashSet};

use csv::ByteRecord;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::cells::emails;
use super::columns::{Mapping, Matched, match_headers};
use super::dictionary::{dictionary, normal};
use super::format::Format;
use super::grammar::{Records, is_break};
use super::options::HeaderRow;
use super::plan::{MappingSource, RowKey};
use super::split::count_lines;
use super::{Importable, Options, Plan, nearest, packed, parents};
use crate::error::{Error, FieldError, Result};
use crate::records::csv::unguard;
use crate::values::{EmailHash, Field};

/// How many bytes of a file are inspected before anything is stored.
pub const HEAD: usize = 64 * 1024;
/// How many times each byte of the head is read, at most: once per delimiter, and twice to count lines.
pub const LOOKS: usize = DELIMITERS.len() + 2;
// On a tie the last one wins, so the comma comes last.
const DELIMITERS: [u8; 4] = [b'|', b'\t', b';', b','];
pub(super) const MAX_COLUMNS: usize = 1_000;
/// The longest header, in bytes.
pub(super) const MAX_HEADER: usize = 1_000;
/// How many records show how regular a file is.
const SAMPLE: usize = 100;
/// How many rows may be before the header, and it.
const HEADER_ROWS: usize = 20;

/// What a file may be: its records under each delimiter.
#[derive(Debug)]
pub struct Head<'h> {
    text: &'h [u8],
    /// Whether the head is the whole file.
    is_whole: bool,
    readings: Vec<Reading>,
}

/// The first records under a delimiter.
#[derive(Debug)]
struct Reading {
    delimiter: u8,
    /// The rows that may be the header.
    rows: Vec<HeaderCells>,
    /// The number of cells of each record, without an empty one at its end.
    lengths: Vec<usize>,
}

/// A row that may be the header.
#[derive(Debug, Clone)]
struct HeaderCells {
    /// The line on which it begins; `None` if the caller named the columns.
    line: Option<u64>,
    /// Which record it is.
    at: usize,
    /// Where the records after it begin.
    end: usize,
    /// Its cells.
    cells: ByteRecord,
    /// Its cells, made distinct.
    headers: Vec<String>,
}

/// The saved mappings by the fingerprint of their headers.
pub type SavedMappings = HashMap<String, Map<String, Value>>;

/// The fingerprint of headers, by which a mapping is found again.
pub fn fingerprint(headers: &[String]) -> String {
    let digest = Sha256::digest(serde_json::to_vec(headers).unwrap_or_default());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The options of a file that may have no header, because its first cell is none.
pub(super) fn without_header<R: Importable>(text: &[u8], options: &Options) -> Options {
    let mut options = options.clone();
    let line = text.split(|byte| is_break(*byte)).map(<[u8]>::trim_ascii).find(|line| !line.is_empty());
    let (Some(field), Some(line), HeaderRow::Detected) = (R::BARE, line, &options.header) else { return options };
    let line = String::from_utf8_lossy(line);
    let is_delimiter = |c: char| DELIMITERS.iter().any(|delimiter| c == char::from(*delimiter));
    let cells: Vec<&str> = line.split(is_delimiter).collect();
    let first = cells[0].trim_matches(|c: char| c == '"' || c.is_whitespace());
    if !emails::read(first).valid.is_empty() || EmailHash::from_text(first).is_ok() {
        let others = std::iter::repeat_n(String::new(), cells.len() - 1);
        options.header = HeaderRow::Columns(std::iter::once(field.to_owned()).chain(others).collect());
    }
    options
}

impl<'h> Head<'h> {
    /// Reads the head of a file under each delimiter.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the file is empty.
    pub fn read(text: &'h [u8], is_whole: bool, options: &Options) -> Result<Self> {
        let (start, named) = sep_line(text);
        if text[start..].iter().all(|byte| byte.is_ascii_whitespace()) {
            return Err(Error::invalid("file", "empty", "has no header and no rows"));
        }
        let delimiters = match options.delimiter.or(named) {
            Some(delimiter) => vec![delimiter],
            None => DELIMITERS.to_vec(),
        };
        let reading = |delimiter| Reading::of(text, start, delimiter, &options.header);
        Ok(Self { text, is_whole, readings: delimiters.into_iter().map(reading).collect() })
    }

    /// The fingerprints of the rows that may be the header.
    pub fn fingerprints(&self) -> Vec<String> {
        self.readings.iter().flat_map(|reading| &reading.rows).map(|row| fingerprint(&row.headers)).collect()
    }

    /// Decides how the file is read, and returns where its header ends. The encoding and the number of rows are
    /// known only at the end of the file.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the header is unreadable, the required field has no column, or the mapping does not
    /// match the headers.
    pub fn plan<R: Importable>(&self, options: &Options, saved: &SavedMappings) -> Result<(Plan, usize)> {
        let given = options.mapping.as_ref().map(Mapping::parse::<R>).transpose()?;
        let mut best: Option<(Rating, Choice<'_>)> = None;
        for reading in &self.readings {
            let Some(choice) = reading.choose::<R>(options, given.as_ref(), saved) else { continue };
            let rating = choice.rating::<R>(options);
            if best.as_ref().is_none_or(|(other, _)| rating >= *other) {
                best = Some((rating, choice));
            }
        }
        let Some((_, choice)) = best else {
            return Err(Error::invalid("header_row", "out_of_range", "is not a line of the file's first 64 KiB"));
        };
        self.check(choice.row)?;
        if let Some(given) = &given {
            given.check(&choice.row.headers)?;
        }
        if !is_complete::<R>(&choice.matched, options) {
            return Err(Error::Invalid(choice.missing::<R>(options)));
        }
        let end = choice.row.end;
        // Without a name of people, a file only updates.
        let is_named = |field: &&str| choice.matched.supplies(field) || options.set.contains_key(*field);
        let creates = options.create && (R::NAMED_BY.is_empty() || R::NAMED_BY.iter().any(is_named));
        let set = implied::<R>(&choice, options);
        Ok((Plan { create: creates, set, ..choice.into_plan::<R>(options) }, end))
    }

    fn check(&self, row: &HeaderCells) -> Result<()> {
        if row.cells.len() > MAX_COLUMNS {
            return Err(Error::invalid("file", "too_many_columns", format!("has more than {MAX_COLUMNS} columns")));
        }
        if row.end >= self.text.len() && !self.is_whole {
            let message = format!("has a header of more than {} KiB", HEAD / 1024);
            return Err(Error::invalid("file", "header_too_long", message));
        }
        for (i, cell) in row.cells.iter().enumerate() {
            if std::str::from_utf8(cell).is_err() {
                return Err(Error::invalid("file", "encoding", "has a header that is not UTF-8"));
            }
            if cell.contains(&0) {
                return Err(Error::invalid("file", "invalid", "has a NUL character in its header; is it a CSV file?"));
            }
            // Each row with a cell in a custom column stores its header.
            if cell.len() > MAX_HEADER {
                let message = format!("has a header of more than {MAX_HEADER} bytes in column {}", i + 1);
                return Err(Error::invalid("file", "header_too_long", message));
            }
        }
        Ok(())
    }
}

/// The end of a first line such as `sep=;`, and its delimiter.
fn sep_line(text: &[u8]) -> (usize, Option<u8>) {
    let end = text.iter().position(|byte| is_break(*byte)).unwrap_or(text.len());
    let line = text[..end].trim_ascii_start();
    let line = line.strip_prefix(b"\"").and_then(|line| line.strip_suffix(b"\"")).unwrap_or(line);
    match line {
        [s, e, p, b'=', delimiter] if [*s, *e, *p].eq_ignore_ascii_case(b"sep") => {
            (after_break(text, end), Some(*delimiter).filter(|delimiter| DELIMITERS.contains(delimiter)))
        }
        _ => (0, None),
    }
}

/// The position after the line break at a position.
fn after_break(text: &[u8], at: usize) -> usize {
    match text.get(at..) {
        Some([b'\r', b'\n', ..]) => at + 2,
        Some([byte, ..]) if is_break(*byte) => at + 1,
        _ => at,
    }
}

impl Reading {
    fn of(text: &[u8], start: usize, delimiter: u8, header: &HeaderRow) -> Self {
        let mut reading = Self { delimiter, rows: Vec::new(), lengths: Vec::new() };
        if let HeaderRow::Columns(names) = header {
            let cells: ByteRecord = names.iter().map(String::as_bytes).collect();
            reading.rows.push(HeaderCells::new((None, 0, start), cells, delimiter));
        }
        let mut records = Records::new(&text[start..], delimiter, false, 1 + count_lines(&text[..start]));
        let mut record = ByteRecord::new();
        while let Some(line) = records.read(&mut record) {
            let at = reading.lengths.len();
            let may_be_header = match header {
                HeaderRow::Detected => at < HEADER_ROWS,
                HeaderRow::At(wanted) => line == *wanted,
                HeaderRow::Columns(_) => false,
            };
            if may_be_header {
                let end = after_break(text, start + records.at());
                let mut cells = record.clone();
                if delimiter == packed::DELIMITER {
                    packed::unpack(&mut cells);
                }
                reading.rows.push(HeaderCells::new((Some(line), at, end), cells, delimiter));
            }
            let is_cut = record.iter().next_back().is_some_and(<[u8]>::is_empty);
            reading.lengths.push(record.len() - usize::from(is_cut && record.len() > 1));
            if reading.lengths.len() >= SAMPLE && !matches!(header, HeaderRow::At(wanted) if line < *wanted) {
                break;
            }
        }
        reading
    }

    /// The header: the first row that has the required column, else the one with the most known columns, or with the
    /// most columns.
    fn choose<R: Importable>(
        &self,
        options: &Options,
        given: Option<&Mapping>,
        saved: &SavedMappings,
    ) -> Option<Choice<'_>> {
        let mut best: Option<Choice<'_>> = None;
        for row in self.rows.iter().filter(|row| row.cells.len() <= MAX_COLUMNS || self.rows.len() == 1) {
            let (mapping, source) = match given {
                Some(given) => (given.clone(), MappingSource::Given),
                None => match saved.get(&fingerprint(&row.headers)).map(Mapping::parse::<R>) {
                    Some(Ok(saved)) => (saved, MappingSource::Saved),
                    _ => (Mapping::default(), MappingSource::Detected),
                },
            };
            let matched = match_headers::<R>(&row.headers, options.unmapped, &mapping);
            let choice = Choice { reading: self, row, matched, source };
            if is_complete::<R>(&choice.matched, options) {
                return Some(choice);
            }
            let width = |choice: &Choice<'_>| (choice.matched.known(), choice.row.headers.len());
            if best.as_ref().is_none_or(|best| width(&choice) > width(best)) {
                best = Some(choice);
            }
        }
        best.or_else(|| {
            let row = self.rows.first()?;
            let matched = Matched { targets: Vec::new(), ranks: Vec::new(), language: None };
            Some(Choice { reading: self, row, matched, source: MappingSource::Detected })
        })
    }
}

impl HeaderCells {
    fn new((line, at, end): (Option<u64>, usize, usize), cells: ByteRecord, delimiter: u8) -> Self {
        let mut names = Names::default();
        let name =
            |(i, cell): (usize, &[u8])| names.distinct(&unguard(String::from_utf8_lossy(cell).trim(), delimiter), i);
        // Each header is a field of every custom column, so rows that are too long are not made distinct.
        let headers = cells.iter().take(MAX_COLUMNS).enumerate().map(name).collect();
        Self { line, at, end, cells, headers }
    }
}

/// A header under a delimiter.
#[derive(Debug)]
struct Choice<'r> {
    reading: &'r Reading,
    row: &'r HeaderCells,
    matched: Matched,
    source: MappingSource,
}

/// How well a choice reads the file: the key, the known columns, and the cells in regular records.
type Rating = (bool, usize, usize);

impl Choice<'_> {
    fn rating<R: Importable>(&self, options: &Options) -> Rating {
        let columns = self.row.headers.len();
        let after = self.reading.lengths.iter().skip(self.row.at);
        let alike = after.filter(|length| **length == columns).count();
        (is_complete::<R>(&self.matched, options), self.matched.known(), if columns < 2 { 0 } else { columns * alike })
    }

    /// The faults of a header without the required column.
    fn missing<R: Importable>(&self, options: &Options) -> Vec<FieldError> {
        let field = match (options.key, R::OWNER) {
            (None, Some(owner)) => owner,
            (key, _) => key.unwrap_or(R::KEYS[0]).as_str(),
        };
        let place = self.row.line.map_or("the given columns".to_owned(), |line| format!("line {line}"));
        let delimiter = match self.reading.delimiter {
            packed::DELIMITER => String::new(),
            b'\t' => " and the delimiter tab".to_owned(),
            other => format!(" and the delimiter {:?}", char::from(other)),
        };
        let unknown = self.row.headers.iter().zip(&self.matched.targets).filter(|(_, target)| !target.is_known());
        let nearest: Vec<String> = unknown
            .filter_map(|(header, _)| Some(format!("{header:?} (did you mean {}?)", nearest::field::<R>(header)?)))
            .collect();
        let headers = self.row.headers.join(", ");
        let found = format!("was read with the header in {place}{delimiter}; its headers are: {headers}");
        let mut faults = vec![
            FieldError::new(field, "missing_column", "no column of the file matches this field; map one with mapping="),
            FieldError::new("file", "header", found),
        ];
        if !nearest.is_empty() {
            faults.push(FieldError::new("mapping", "nearest", nearest.join(", ")));
        }
        faults
    }

    fn into_plan<R: Importable>(self, options: &Options) -> Plan {
        let Matched { targets, ranks, language } = self.matched;
        let external_id = RowKey::ExternalId.as_str();
        Plan {
            on_conflict: options.on_conflict,
            key: options.key.unwrap_or(R::KEYS[0]),
            create: options.create,
            strict: options.strict,
            enroll: options.enroll.unwrap_or(false),
            dry_run: options.dry_run,
            format: Format::Csv,
            delimiter: self.reading.delimiter,
            encoding: String::new(),
            header_row: self.row.line,
            headers: self.row.headers.clone(),
            targets,
            ranks,
            mapping_source: self.source,
            forms: Vec::new(),
            language: language.map(|language| dictionary().name(language).to_owned()),
            tz: options.tz.unwrap_or_default(),
            set: Map::new(),
            // The program's own ids are those of lines already.
            has_lines: !R::OF_ALL_LINES.is_empty() && self.row.headers.iter().all(|header| header != external_id),
            rows: 0,
            tail_from: 0,
            by_line_from: None,
        }
    }
}

/// The values of fields that files with these headers have in every row, unless a column or the caller gives others.
fn implied<R: Importable>(choice: &Choice<'_>, options: &Options) -> Map<String, Value> {
    let forms: HashSet<String> = choice.row.headers.iter().map(|header| normal(header)).collect();
    let is_open = |field: &str| !choice.matched.supplies(field) && !options.set.contains_key(field);
    let implied = dictionary().implied(R::HEADERS, &forms).filter(|(field, _)| is_open(field));
    implied.map(|(field, value)| (field.clone(), Value::from(value.as_str()))).collect()
}

/// Whether the file has what its rows need: the key, or the name of the record that each new one belongs to.
fn is_complete<R: Importable>(matched: &Matched, options: &Options) -> bool {
    let names_owner = |owner: &str| {
        let names = parents::of::<R>().map(|parents| parents.names());
        names.into_iter().flatten().any(|name| matched.supplies(name)) || options.set.contains_key(owner)
    };
    match (options.key, R::OWNER) {
        (None, Some(owner)) => R::KEYS.iter().any(|key| has_key(matched, *key)) || names_owner(owner),
        (key, _) => has_key(matched, key.unwrap_or(R::KEYS[0])),
    }
}

/// Whether a column has the key. The ids of other systems become external ids.
fn has_key(matched: &Matched, key: RowKey) -> bool {
    matched.supplies(key.as_str()) || (key == RowKey::ExternalId && matched.supplies(RowKey::Id.as_str()))
}

/// Makes headers distinct.
#[derive(Default)]
struct Names {
    taken: HashSet<String>,
    /// The last number used for each text.
    numbers: HashMap<String, usize>,
}

impl Names {
    /// Returns a name that no other column has.
    fn distinct(&mut self, text: &str, at: usize) -> String {
        let is_blank = normal(text).is_empty() && text.chars().all(|c| c.is_whitespace() || c.is_control());
        let text = if is_blank { format!("column_{}", at + 1) } else { text.to_owned() };
        let mut name = text.clone();
        while !self.taken.insert(name.clone()) {
            let number = self.numbers.entry(text.clone()).or_insert(1);
            *number += 1;
            name = format!("{text} ({number})");
        }
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_headers_get_distinct_numbers() {
        let cells = ByteRecord::from(vec!["a", "a (2)", "a", "", "a", "column_4", "a (2)"]);
        let headers = HeaderCells::new((Some(1), 0, 0), cells, b',').headers;
        assert_eq!(headers, ["a", "a (2)", "a (3)", "column_4", "a (4)", "column_4 (2)", "a (2) (2)"]);
    }

    #[test]
    fn a_first_line_may_name_the_delimiter() {
        for (text, expected) in [
            ("sep=;\nName", (6, Some(b';'))),
            ("\"sep=|\"\r\nName", (9, Some(b'|'))),
            ("SEP=\t\nName", (6, Some(b'\t'))),
            ("sep=x\nName", (6, None)),
            ("separator\n", (0, None)),
            ("name,email", (0, None)),
        ] {
            assert_eq!(sep_line(text.as_bytes()), expected, "{text}");
        }
    }
}
