//! What the head of a file settles: its delimiter, its headers, and what becomes of each column.

use super::columns::{Column, match_headers, missing};
use super::{Options, Plan};
use crate::error::{Error, Result};

/// What of a file is looked at before any of it is stored, in bytes.
pub const HEAD: usize = 64 * 1024;
const MAX_COLUMNS: usize = 1_000;

impl Plan {
    /// Settles how a file is read by its head, which may be the whole of it, and says where the header
    /// ends. The encoding and the number of rows are known for certain only at the end of the file.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a file that is empty, has a header that cannot be read, or no column for
    /// a required field, and for a mapping that does not fit it.
    pub fn settle(head: &[u8], whole: bool, options: &Options, columns: &[Column]) -> Result<(Self, usize)> {
        let delimiter = options.delimiter.unwrap_or_else(|| detect_delimiter(head));
        let (headers, length) = read_header(head, delimiter, whole)?;
        let targets = match_headers(&headers, columns, options.unmapped, &options.mapping)?;
        let missing = missing(&targets);
        if !missing.is_empty() {
            return Err(Error::Invalid(missing));
        }
        let Options { on_conflict, dry_run, .. } = *options;
        let plan = Self { on_conflict, dry_run, delimiter, encoding: String::new(), headers, targets, rows: 0 };
        Ok((plan, length))
    }
}

/// The delimiter under which the first records have the most cells in common with the header.
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
    // Of equals the last one would win, so the comma comes last.
    [b'|', b'\t', b';', b','].into_iter().max_by_key(|&delimiter| cells_in_common(delimiter)).unwrap_or(b',')
}

/// The headers of a file, and where they end in its head.
fn read_header(head: &[u8], delimiter: u8, whole: bool) -> Result<(Vec<String>, usize)> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).delimiter(delimiter).from_reader(head);
    let mut record = csv::ByteRecord::new();
    if !reader.read_byte_record(&mut record).map_err(Error::internal)? {
        return Err(Error::invalid("file", "empty", "has no header and no rows"));
    }
    let mut length = usize::try_from(reader.position().byte()).unwrap_or(head.len());
    // The reader stops between CR and LF, which are one end of one line.
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
    let mut headers: Vec<String> = Vec::with_capacity(record.len());
    for (i, cell) in record.iter().enumerate() {
        let text = std::str::from_utf8(cell)
            .map_err(|_| Error::invalid("file", "encoding", "has a header that is not UTF-8"))?;
        if text.contains('\0') {
            return Err(Error::invalid("file", "invalid", "has a NUL character in its header; is it a CSV file?"));
        }
        headers.push(distinct(text.trim(), i, &headers));
    }
    Ok((headers, length))
}

/// A header by which its column can be told from the others.
fn distinct(text: &str, at: usize, others: &[String]) -> String {
    let text = if text.is_empty() { format!("column_{}", at + 1) } else { text.to_owned() };
    let free = |candidate: &String| !others.contains(candidate);
    std::iter::once(text.clone()).chain((2..).map(|n| format!("{text} ({n})"))).find(free).unwrap_or(text)
}
