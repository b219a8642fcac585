//! The query parameters of an import.

use encoding_rs::Encoding;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::Importable;
use super::cells::dates::DateOrder;
use super::cells::numbers::Decimal;
use super::columns::Unmapped;
use super::decode;
use super::plan::{OnConflict, RowKey};
use crate::accounts::settings::TimeZone;
use crate::error::{Error, FieldError, Result};
use crate::query::parameters::Parameters;
use crate::records::csv::delimiter;
use crate::values::{Fault, Field, json};

/// The options of an import.
#[derive(Debug, Clone)]
pub struct Options {
    /// See [`OnConflict`].
    pub on_conflict: OnConflict,
    /// See [`RowKey`]; the kind's default if it is not given.
    pub key: Option<RowKey>,
    /// Whether rows without a record create one.
    pub create: bool,
    /// Whether a cell that cannot be read rejects its row.
    pub strict: bool,
    /// Whether created leads are enrolled for nurture.
    pub enroll: Option<bool>,
    /// See [`Unmapped`].
    pub unmapped: Unmapped,
    /// Whether only the result and the rejected rows are stored.
    pub dry_run: bool,
    /// The delimiter; detected by default.
    pub delimiter: Option<u8>,
    /// The encoding; detected by default.
    pub encoding: Option<&'static Encoding>,
    /// The stored upload that is imported, instead of a file in the request.
    pub upload: Option<Uuid>,
    /// The sheet of a workbook; the first one by default.
    pub sheet: Option<String>,
    /// The header; detected by default.
    pub header: HeaderRow,
    /// Header → field, instead of matching by name; `null` ignores a column.
    pub mapping: Option<Map<String, Value>>,
    /// Whether a mapping that an earlier import saved is used.
    pub use_saved: bool,
    /// Whether the mapping is saved for the next file with the same headers.
    pub save_mapping: bool,
    /// Values of fields for every row.
    pub set: Map<String, Value>,
    /// The order of ambiguous dates; settled by each column's cells by default.
    pub date_order: Option<DateOrder>,
    /// The decimal separator of ambiguous numbers; settled by each column's cells by default.
    pub decimal: Option<Decimal>,
    /// The time zone of times without an offset; the workspace's by default.
    pub tz: Option<TimeZone>,
}

/// Where the header is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderRow {
    /// The first row that has the required columns.
    Detected,
    /// On this line.
    At(u64),
    /// Nowhere: the columns are these, from the left.
    Columns(Vec<String>),
}

impl Options {
    /// Parses the query parameters of an import.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) with every invalid parameter.
    pub fn parse(parameters: &[(String, String)]) -> Result<Self> {
        let mut parameters = Parameters::new(parameters);
        let upload = parameters.take_as("upload", Uuid::from_text);
        let options = Self { upload, ..Self::take(&mut parameters) };
        parameters.finish()?;
        Ok(options)
    }

    /// Takes the query parameters that say how a file is read.
    pub fn take(parameters: &mut Parameters<'_>) -> Self {
        let mapping = parameters.take_as("mapping", mapping);
        Self {
            on_conflict: parameters.take("on_conflict").unwrap_or(OnConflict::Skip),
            key: parameters.take("key"),
            create: parameters.take("create").unwrap_or(true),
            strict: parameters.flag("strict"),
            enroll: parameters.take("enroll"),
            unmapped: parameters.take("unmapped").unwrap_or(Unmapped::Keep),
            dry_run: parameters.flag("dry_run"),
            delimiter: parameters.take_as("delimiter", delimiter),
            encoding: parameters.take_as("encoding", decode::by_label),
            upload: None,
            sheet: parameters.take_as("sheet", sheet),
            header: header(parameters),
            use_saved: mapping.is_none(),
            mapping: mapping.flatten(),
            save_mapping: parameters.flag("save_mapping"),
            set: parameters.take_as("set", set).unwrap_or_default(),
            date_order: parameters.take("date_order"),
            decimal: parameters.take("decimal"),
            tz: parameters.take("tz"),
        }
    }

    /// Checks what depends on the kind of record.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) for an option or a key that the kind does not have.
    pub fn check<R: Importable>(&self) -> Result<()> {
        if self.enroll.is_some() && !R::ENROLLED {
            return Err(Error::invalid("enroll", "unknown", "is only a parameter of imports of leads"));
        }
        if self.key.is_some_and(|key| !R::KEYS.contains(&key)) {
            let keys: Vec<&str> = R::KEYS.iter().map(|key| key.as_str()).collect();
            return Err(Error::invalid("key", "invalid", format!("must be one of: {}", keys.join(" "))));
        }
        Ok(())
    }
}

/// Takes the parameters that say where the header is.
fn header(parameters: &mut Parameters<'_>) -> HeaderRow {
    let has_header: Option<bool> = parameters.take("header");
    let row = parameters.take_as("header_row", row);
    let columns = parameters.take_as("columns", columns);
    let mut refuse = |field: &str, code: &'static str, message: &'static str| {
        parameters.refuse(FieldError::new(field, code, message));
    };
    match (has_header, row, columns) {
        (Some(false), None, Some(columns)) => return HeaderRow::Columns(columns),
        (Some(false), None, None) => refuse("columns", "required", "is required with header=false"),
        (Some(false), Some(_), _) => refuse("header_row", "invalid", "must not be given with header=false"),
        (_, _, Some(_)) => refuse("columns", "invalid", "must be given only with header=false"),
        (_, Some(row), None) => return HeaderRow::At(row),
        (_, None, None) => {}
    }
    HeaderRow::Detected
}

fn sheet(text: &str) -> Result<String, Fault> {
    if text.trim().is_empty() { Err(Fault::new("required", "must name a sheet")) } else { Ok(text.to_owned()) }
}

fn row(text: &str) -> Result<u64, Fault> {
    crate::query::parameters::whole(text, 1..=1_000).map(u64::from)
}

/// The names of columns, separated by commas. An empty one is ignored.
fn columns(text: &str) -> Result<Vec<String>, Fault> {
    let columns: Vec<String> = text.split(',').map(|name| name.trim().to_owned()).collect();
    if columns.iter().all(String::is_empty) {
        return Err(Fault::new("required", "must name the columns, separated by commas"));
    }
    Ok(columns)
}

/// `None` for `none`, which ignores a saved mapping.
fn mapping(text: &str) -> Result<Option<Map<String, Value>>, Fault> {
    if text == "none" {
        return Ok(None);
    }
    let fault = || Fault::new("invalid", "must be none, or a JSON object that maps headers to field names or null");
    let map = json::object_in_text(text).map_err(|twice| twice.unwrap_or_else(fault))?;
    let is_field = |value: &Value| value.is_string() || value.is_null();
    if map.values().all(is_field) { Ok(Some(map)) } else { Err(fault()) }
}

fn set(text: &str) -> Result<Map<String, Value>, Fault> {
    let fault = || Fault::new("invalid", "must be a JSON object from field to value");
    json::object_in_text(text).map_err(|twice| twice.unwrap_or_else(fault))
}
