//! How a file is read: decided from its head and its first chunk, stored with the import.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::cells::dates::DateForm;
use super::cells::numbers::Decimal;
use super::columns::{self, Target};
use super::format::Format;
use super::split;
use crate::accounts::settings::TimeZone;
use crate::records::csv::unguard;
use crate::string_enum;

string_enum! {
    /// How to handle a row whose key already exists, in the database or earlier in the file.
    OnConflict {
        /// Counts the row and skips it.
        Skip = "skip",
        /// Updates the record with the row's non-empty cells.
        Update = "update",
        /// Rejects the row.
        Fail = "fail",
    }
}

string_enum! {
    /// The field by which a row finds its record.
    RowKey {
        /// The email address.
        Email = "email",
        /// The id.
        Id = "id",
        /// The id in another system.
        ExternalId = "external_id",
    }
}

string_enum! {
    /// Where the mapping of an import comes from.
    MappingSource {
        /// From the headers alone.
        Detected = "detected",
        /// From the request.
        Given = "given",
        /// From an earlier import of a file with the same headers.
        Saved = "saved",
    }
}

#[expect(clippy::derivable_impls, reason = "the macro has no attribute for the default variant")]
impl Default for RowKey {
    fn default() -> Self {
        Self::Email
    }
}

#[expect(clippy::derivable_impls, reason = "the macro has no attribute for the default variant")]
impl Default for MappingSource {
    fn default() -> Self {
        Self::Detected
    }
}

/// How the ambiguous cells of a column are read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CellForm {
    /// As text.
    #[default]
    Text,
    /// As dates.
    Date(DateForm),
    /// As numbers with this decimal separator.
    Number {
        /// The separator, if it is known.
        decimal: Option<Decimal>,
        /// Whether the caller named it.
        is_given: bool,
    },
}

/// How a file is read.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Plan {
    /// See [`OnConflict`].
    pub on_conflict: OnConflict,
    /// See [`RowKey`].
    #[serde(default)]
    pub key: RowKey,
    /// Whether rows without a record create one.
    #[serde(default = "yes")]
    pub create: bool,
    /// Whether a cell that cannot be read rejects its row.
    #[serde(default)]
    pub strict: bool,
    /// Whether created leads are enrolled for nurture.
    #[serde(default)]
    pub enroll: bool,
    /// Whether only the result and the rejected rows are stored.
    pub dry_run: bool,
    /// The format of the file.
    #[serde(default)]
    pub format: Format,
    /// The delimiter of the cells; [`packed::DELIMITER`](super::packed::DELIMITER) in formats other than CSV.
    pub delimiter: u8,
    /// The name of the encoding.
    pub encoding: String,
    /// The line of the header; `None` if the caller named the columns.
    #[serde(default)]
    pub header_row: Option<u64>,
    /// The headers, made distinct: blank headers are named by position, repeated ones are numbered.
    pub headers: Vec<String>,
    /// The target of each column.
    pub targets: Vec<Target>,
    /// The place of each column among those with the same target; the lowest is the best.
    #[serde(default)]
    pub ranks: Vec<usize>,
    /// Where the targets come from.
    #[serde(default)]
    pub mapping_source: MappingSource,
    /// How the ambiguous cells of each column are read.
    #[serde(default)]
    pub forms: Vec<CellForm>,
    /// The language of most of the headers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// The time zone of times without an offset.
    #[serde(default)]
    pub tz: TimeZone,
    /// Values of fields for every row.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub set: Map<String, Value>,
    /// Whether rows with one external id are lines of one record of the other system.
    #[serde(default)]
    pub has_lines: bool,
    /// The number of records in the file; known when the upload is complete.
    pub rows: i64,
    /// The line on which the last [`split::TAIL`] records begin.
    #[serde(default)]
    pub tail_from: u64,
    /// The line after which every line break ends a record, because too many quotes were unclosed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_line_from: Option<u64>,
}

fn yes() -> bool {
    true
}

impl Plan {
    /// The maximum number of records in a chunk. Every record may store all the headers in its custom fields, so
    /// long headers lower it.
    pub(super) fn max_chunk_records(&self) -> usize {
        const HEADERS: usize = 32 << 20;
        let headers: usize = self.headers.iter().map(String::len).sum();
        (HEADERS / headers.max(1)).clamp(1, split::MAX_CHUNK_RECORDS)
    }

    /// Whether every line break ends a record in the chunk that begins on the line.
    pub(super) fn is_by_line(&self, first_line: u64) -> bool {
        self.by_line_from.is_some_and(|from| first_line >= from)
    }

    /// The delimiter for the API: that of a CSV file.
    pub(super) fn shown_delimiter(&self) -> Option<String> {
        (self.format == Format::Csv).then(|| char::from(self.delimiter).to_string())
    }

    /// Removes the guards of a cell's text. Workbooks have those of the CSV file that they were made of.
    pub(super) fn unguard<'t>(&self, text: &'t str) -> Cow<'t, str> {
        match self.format {
            Format::Csv => unguard(text, self.delimiter),
            Format::Xlsx => unguard(text, b','),
            Format::Jsonl => Cow::Borrowed(text),
        }
    }

    /// Whether a column sets the field.
    pub(super) fn supplies(&self, field: &str) -> bool {
        self.targets.iter().any(|target| target.supplies(field))
    }

    /// The mapping for the API.
    pub fn mapping(&self) -> Value {
        columns::as_json(&self.headers, &self.targets)
    }
}
