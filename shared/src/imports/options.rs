//! What the caller says about an import, in its query parameters.

use encoding_rs::Encoding;
use serde_json::{Map, Value};

use super::OnConflict;
use super::columns::Unmapped;
use super::decode;
use crate::error::{Error, Result};
use crate::fields::{Fault, Field};

/// The options of an import.
#[derive(Debug, Clone)]
pub struct Options {
    /// See [`OnConflict`].
    pub on_conflict: OnConflict,
    /// See [`Unmapped`].
    pub unmapped: Unmapped,
    /// Whether nothing is to be kept but the result.
    pub dry_run: bool,
    /// The delimiter, if the caller knows it better.
    pub delimiter: Option<u8>,
    /// The encoding, if the caller knows it better.
    pub encoding: Option<&'static Encoding>,
    /// Header → field, which wins over what the header looks like; `null` leaves a column out.
    pub mapping: Map<String, Value>,
}

impl Options {
    /// Reads the query parameters of an import. Every fault is told.
    ///
    /// # Errors
    /// [`Error::Invalid`].
    pub fn parse(parameters: &[(String, String)]) -> Result<Self> {
        let mut options = Self {
            on_conflict: OnConflict::Skip,
            unmapped: Unmapped::Keep,
            dry_run: false,
            delimiter: None,
            encoding: None,
            mapping: Map::new(),
        };
        let mut errors = Vec::new();
        for (name, text) in parameters {
            if let Err(fault) = options.take(name, text) {
                errors.push(fault.of(name));
            }
        }
        if errors.is_empty() { Ok(options) } else { Err(Error::Invalid(errors)) }
    }

    fn take(&mut self, name: &str, text: &str) -> Result<(), Fault> {
        match name {
            "on_conflict" => self.on_conflict = OnConflict::from_text(text)?,
            "unmapped" => self.unmapped = Unmapped::from_text(text)?,
            "dry_run" => self.dry_run = bool::from_text(text)?,
            "delimiter" => self.delimiter = Some(delimiter(text)?),
            "encoding" => self.encoding = Some(decode::by_label(text)?),
            "mapping" => self.mapping = mapping(text)?,
            _ => return Err(Fault::new("unknown", "is not a known parameter")),
        }
        Ok(())
    }
}

fn delimiter(text: &str) -> Result<u8, Fault> {
    match text {
        "," | "comma" => Ok(b','),
        ";" | "semicolon" => Ok(b';'),
        "\t" | "tab" => Ok(b'\t'),
        "|" | "pipe" => Ok(b'|'),
        _ => Err(Fault::new("invalid", "must be one of: comma semicolon tab pipe")),
    }
}

fn mapping(text: &str) -> Result<Map<String, Value>, Fault> {
    let fault =
        || Fault::new("invalid", "must be a JSON object of headers with the name of a field, or null, for each");
    let map: Map<String, Value> = serde_json::from_str(text).map_err(|_| fault())?;
    let is_field = |value: &Value| value.is_string() || value.is_null();
    if map.values().all(is_field) { Ok(map) } else { Err(fault()) }
}
