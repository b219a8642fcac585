//! Reading the head of a file: its delimiter, its headers, and the target of each column.

use std::collections::{HashMap, HashSet};

use super::columns::{Column, match_headers, missing};
use super::{Options, Plan};
use crate::error::{Error, Result};
use crate::records::csv::unguard;

/// How many bytes of a file are inspected before anything is stored.
pub const HEAD: usize = 64 * 1024;
/// How many times each byte of the head is read, at most: once per delimiter, once for the header,
/// and once to count the lines of the header.
pub const LOOKS: usize = DELIMITERS.len() + 2;
// On a tie the last one wins, so the comma comes last.
const DELIMITERS: [u8; 4] = [b'|', b'\t', b';', b','];
const MAX_COLUMNS: usize = 1_000;
/// The longest header, in bytes.
const MAX_HEADER: usize = 1_000;

impl Plan {
    /// Decides from its head how a file is read, and returns where the header ends. `whole` is set
    /// if the head is the whole file. The encoding and the number of rows are known only at the end
    /// of the file.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the file is empty, its header is unreadable, a required field has no
    /// column, or the mapping does not match the headers.
    pub fn detect(head: &[u8], whole: bool, options: &Options, columns: &[Column]) -> Result<(Self, usize)> {
        let delimiter = options.delimiter.unwrap_or_else(|| detect_delimiter(head));
        let (headers, length) = read_header(head, delimiter, whole)?;
        let targets = match_headers(&headers, columns, options.unmapped, &options.mapping)?;
        let missing = missing(columns, &targets);
        if !missing.is_empty() {
            return Err(Error::Invalid(missing));
        }
        let Options { on_conflict, dry_run, .. } = *options;
        let plan = Self {
            on_conflict,
            dry_run,
            delimiter,
            encoding: String::new(),
            headers,
            targets,
            rows: 0,
            by_line_from: None,
        };
        Ok((plan, length))
    }
}

/// The delimiter with which the most cells are in records as long as the header.
fn detect_delimiter(head: &[u8]) -> u8 {
    const SAMPLE: usize = 50;
    let cells_in_common = |delimiter: u8| {
        let mut records =
            csv::ReaderBuilder::new().has_headers(false).flexible(true).delimiter(delimiter).from_reader(head);
        let counts: Vec<usize> =
            records.byte_records().take(SAMPLE).map_while(Result::ok).map(|record| record.len()).collect();
        let header = counts.first().copied().unwrap_or(0);
        let alike = counts.iter().filter(|&&count| count == header).count();
        if header < 2 { 0 } else { header * alike }
    };
    DELIMITERS.into_iter().max_by_key(|&delimiter| cells_in_common(delimiter)).unwrap_or(b',')
}

/// Returns the headers of a file, and where they end in its head.
fn read_header(head: &[u8], delimiter: u8, whole: bool) -> Result<(Vec<String>, usize)> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).delimiter(delimiter).from_reader(head);
    let mut record = csv::ByteRecord::new();
    if !reader.read_byte_record(&mut record).map_err(Error::internal)? {
        return Err(Error::invalid("file", "empty", "has no header and no rows"));
    }
    let mut length = usize::try_from(reader.position().byte()).unwrap_or(head.len());
    // The reader stops between CR and LF, which together end one line.
    if head[..length].ends_with(b"\r") && head.get(length) == Some(&b'\n') {
        length += 1;
    }
    if record.len() > MAX_COLUMNS {
        return Err(Error::invalid("file", "too_many_columns", format!("has more than {MAX_COLUMNS} columns")));
    }
    if length >= head.len() && !whole {
        return Err(Error::invalid(
            "file",
            "header_too_long",
            format!("has a header of more than {} KiB", HEAD / 1024),
        ));
    }
    let mut names = Names::default();
    let mut headers = Vec::with_capacity(record.len());
    for (i, cell) in record.iter().enumerate() {
        let text = std::str::from_utf8(cell)
            .map_err(|_| Error::invalid("file", "encoding", "has a header that is not UTF-8"))?;
        if text.contains('\0') {
            return Err(Error::invalid("file", "invalid", "has a NUL character in its header; is it a CSV file?"));
        }
        // Each row with a cell in a custom column stores its header.
        if text.len() > MAX_HEADER {
            return Err(Error::invalid(
                "file",
                "header_too_long",
                format!("has a header of more than {MAX_HEADER} bytes in column {}", i + 1),
            ));
        }
        headers.push(names.distinct(&unguard(text.trim(), delimiter), i));
    }
    Ok((headers, length))
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
        let text = if text.is_empty() { format!("column_{}", at + 1) } else { text.to_owned() };
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
        let (headers, _) = read_header(b"a,a (2),a,,a,column_4,a (2)\n", b',', true).unwrap();
        assert_eq!(headers, ["a", "a (2)", "a (3)", "column_4", "a (4)", "column_4 (2)", "a (2) (2)"]);
    }
}
