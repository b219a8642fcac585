//! The query parameters of an import.

use encoding_rs::Encoding;
use serde_json::{Map, Value};

use super::OnConflict;
use super::columns::Unmapped;
use super::decode;
use crate::error::Result;
use crate::query::parameters::Parameters;
use crate::records::csv::delimiter;
use crate::values::Fault;
use crate::values::json;

/// The options of an import.
#[derive(Debug, Clone)]
pub struct Options {
    /// See [`OnConflict`].
    pub on_conflict: OnConflict,
    /// See [`Unmapped`].
    pub unmapped: Unmapped,
    /// Whether only the result and the rejected rows are stored.
    pub dry_run: bool,
    /// The delimiter; detected by default.
    pub delimiter: Option<u8>,
    /// The encoding; detected by default.
    pub encoding: Option<&'static Encoding>,
    /// Header → field, instead of matching by name; `null` ignores a column.
    pub mapping: Map<String, Value>,
}

impl Options {
    /// Parses the query parameters of an import.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) with every invalid parameter.
    pub fn parse(parameters: &[(String, String)]) -> Result<Self> {
        let mut parameters = Parameters::new(parameters);
        let options = Self {
            on_conflict: parameters.take("on_conflict").unwrap_or(OnConflict::Skip),
            unmapped: parameters.take("unmapped").unwrap_or(Unmapped::Keep),
            dry_run: parameters.flag("dry_run"),
            delimiter: parameters.take_as("delimiter", delimiter),
            encoding: parameters.take_as("encoding", decode::by_label),
            mapping: parameters.take_as("mapping", mapping).unwrap_or_default(),
        };
        parameters.finish()?;
        Ok(options)
    }
}

fn mapping(text: &str) -> Result<Map<String, Value>, Fault> {
    let fault = || Fault::new("invalid", "must be a JSON object that maps headers to field names or null");
    let map = json::object_in_text(text).map_err(|twice| twice.unwrap_or_else(fault))?;
    let is_field = |value: &Value| value.is_string() || value.is_null();
    if map.values().all(is_field) { Ok(map) } else { Err(fault()) }
}
