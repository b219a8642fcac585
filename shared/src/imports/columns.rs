//! Matching the headers of a file to fields, by name and alias.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{FieldError, FieldErrors, Result};
use crate::string_enum;

/// A field that a column can be read into.
#[derive(Debug)]
pub struct Column {
    /// The field's name.
    pub name: &'static str,
    /// Other headers of the field, [normalized](normalize), the best first.
    pub aliases: &'static [&'static str],
    /// Whether the header must be exactly the name.
    pub exact: bool,
    /// Whether every file and every row must have the field.
    pub required: bool,
    /// The fields of which this one can be made.
    pub parts: &'static [&'static str],
    /// For a field with a fixed set of values: each value with its aliases, [normalized](normalize).
    pub words: &'static [(&'static str, &'static [&'static str])],
}

impl Column {
    /// Makes the column required.
    pub const fn required(self) -> Self {
        Self { required: true, ..self }
    }

    /// Names the fields of which this one can be made.
    pub const fn made_of(self, parts: &'static [&'static str]) -> Self {
        Self { parts, ..self }
    }

    /// Returns the field's value that a cell means, if any.
    pub fn word(&self, cell: &str) -> Option<&'static str> {
        let cell = normalize(cell);
        self.words
            .iter()
            .find(|(word, aliases)| *word == cell || aliases.contains(&cell.as_str()))
            .map(|(word, _)| *word)
    }
}

/// Where the values of a file's column go.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// This field of the record.
    Field(String),
    /// `custom_fields`, under the header.
    Custom,
    /// Nowhere.
    Ignored,
}

impl Target {
    /// Whether the column sets the field.
    fn supplies(&self, field: &str) -> bool {
        matches!(self, Self::Field(name) if name == field)
    }
}

string_enum! {
    /// How to handle columns that match no field.
    Unmapped {
        /// Stores their values in `custom_fields`.
        Keep = "keep",
        /// Ignores them.
        Ignore = "ignore",
    }
}

const CUSTOM_FIELDS: &str = "custom_fields";
/// The columns that a file of rejected rows has after its own. A corrected file may still have them;
/// an import ignores them.
pub const FAULT_COLUMNS: [&str; 4] = ["_line", "_field", "_code", "_message"];

/// Whether a header is one of [`FAULT_COLUMNS`], or a numbered repetition of one: `_line (2)`.
pub fn is_fault_column(header: &str) -> bool {
    let digits = |text: &str| text.strip_suffix(')').is_some_and(|n| n.bytes().all(|byte| byte.is_ascii_digit()));
    let name = header.split_once(" (").filter(|(_, rest)| digits(rest)).map_or(header, |(name, _)| name);
    FAULT_COLUMNS.contains(&name)
}

/// Matches the headers of a file to the fields of a record. The caller's mapping takes precedence;
/// other headers are matched by name and alias.
///
/// If several headers match a field, the best alias wins, and among equals the first header. The
/// others are unmapped columns.
///
/// # Errors
/// [`Error::Invalid`](crate::Error::Invalid) if the mapping names an unknown header, an unknown field
/// or the same field twice.
pub fn match_headers(
    headers: &[String],
    columns: &[Column],
    unmapped: Unmapped,
    mapping: &Map<String, Value>,
) -> Result<Vec<Target>> {
    let mut targets = given(headers, columns, mapping)?;
    let normal = NormalHeaders::of(headers);
    for (target, header) in targets.iter_mut().zip(headers) {
        if target.is_none() && is_fault_column(header) {
            *target = Some(Target::Ignored);
        }
    }
    for column in columns {
        if targets.iter().flatten().any(|target| target.supplies(column.name)) {
            continue;
        }
        let field = Target::Field(column.name.to_owned());
        let own = normalize(column.name);
        let aliases: Vec<&str> = std::iter::once(own.as_str()).chain(column.aliases.iter().copied()).collect();
        if column.exact {
            claim_exact(headers, &mut targets, column.name);
        } else {
            normal.claim(&mut targets, &aliases, field);
        }
    }
    let rest = match unmapped {
        Unmapped::Keep if has(columns, CUSTOM_FIELDS) => Target::Custom,
        Unmapped::Keep | Unmapped::Ignore => Target::Ignored,
    };
    Ok(targets.into_iter().map(|target| target.unwrap_or_else(|| rest.clone())).collect())
}

fn has(columns: &[Column], field: &str) -> bool {
    columns.iter().any(|column| column.name == field)
}

/// Applies the caller's mapping to the headers.
fn given(headers: &[String], columns: &[Column], mapping: &Map<String, Value>) -> Result<Vec<Option<Target>>> {
    let mut targets = vec![None; headers.len()];
    let mut errors = FieldErrors::default();
    let places: HashMap<&String, usize> = headers.iter().zip(0..).collect();
    let mut mapped = HashSet::new();
    for (header, field) in mapping {
        let name = format!("mapping.{header}");
        let Some(&at) = places.get(header) else {
            errors.push(FieldError::new(name, "unknown", "is not a header of the file"));
            continue;
        };
        let target = match field.as_str() {
            None => Target::Ignored,
            Some(field) if has(columns, CUSTOM_FIELDS) && field == format!("{CUSTOM_FIELDS}.{header}") => {
                Target::Custom
            }
            Some(field) if has(columns, field) => Target::Field(field.to_owned()),
            Some(_) => {
                errors.push(FieldError::new(name, "unknown", "is not a field that can be imported"));
                continue;
            }
        };
        if !matches!(target, Target::Ignored | Target::Custom) && !mapped.insert(target.clone()) {
            errors.push(FieldError::new(name, "duplicate", "maps to a field that another header already maps to"));
        }
        targets[at] = Some(target);
    }
    errors.check()?;
    Ok(targets)
}

/// The columns of a file by their normalized headers.
struct NormalHeaders(HashMap<String, Vec<usize>>);

impl NormalHeaders {
    fn of(headers: &[String]) -> Self {
        let mut columns: HashMap<String, Vec<usize>> = HashMap::new();
        for (i, header) in headers.iter().enumerate() {
            columns.entry(normalize(header)).or_default().push(i);
        }
        Self(columns)
    }

    /// Assigns the target to the best matching header that has no target yet, if there is one.
    fn claim(&self, targets: &mut [Option<Target>], aliases: &[&str], target: Target) {
        let mut columns = aliases.iter().filter_map(|alias| self.0.get(*alias)).flatten();
        if let Some(&best) = columns.find(|&&i| targets[i].is_none()) {
            targets[best] = Some(target);
        }
    }
}

fn claim_exact(headers: &[String], targets: &mut [Option<Target>], name: &str) {
    if let Some(i) = headers.iter().position(|header| header == name).filter(|&i| targets[i].is_none()) {
        targets[i] = Some(Target::Field(name.to_owned()));
    }
}

/// Reports the required fields that have no column.
pub fn missing(columns: &[Column], targets: &[Target]) -> Vec<FieldError> {
    let has = |field: &str| targets.iter().any(|target| target.supplies(field));
    let is_missing =
        |column: &&Column| column.required && !has(column.name) && !column.parts.iter().any(|part| has(part));
    let fault =
        |column: &Column| FieldError::new(column.name, "missing_column", "no column of the file matches this field");
    columns.iter().filter(is_missing).map(fault).collect()
}

/// The mapping for the API: header → field, `null` for an ignored column.
pub fn as_json(headers: &[String], targets: &[Target]) -> Value {
    let entry = |(header, target): (&String, &Target)| {
        let field = match target {
            Target::Field(field) => Value::from(field.as_str()),
            Target::Custom => Value::from(format!("{CUSTOM_FIELDS}.{header}")),
            Target::Ignored => Value::Null,
        };
        (header.clone(), field)
    };
    Value::Object(headers.iter().zip(targets).map(entry).collect::<Map<_, _>>())
}

/// Normalizes a header or a value: lower case, letters and digits only (`E-mail` → `email`).
pub fn normalize(text: &str) -> String {
    text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::imports::aliases::LEAD_COLUMNS;

    fn mapping(headers: &[&str]) -> Value {
        let headers: Vec<String> = headers.iter().map(|&header| header.to_owned()).collect();
        as_json(&headers, &match_headers(&headers, LEAD_COLUMNS, Unmapped::Keep, &Map::new()).unwrap())
    }

    #[test]
    fn headers_of_other_systems_are_matched() {
        assert_eq!(
            mapping(&["First Name", "Last Name", "Work Email", "E-mail", "Phone 1", "Phone 2", "Deal Stage"]),
            serde_json::json!({
                "First Name": "first_name", "Last Name": "last_name", "Work Email": "custom_fields.Work Email",
                "E-mail": "email", "Phone 1": "phone", "Phone 2": "custom_fields.Phone 2", "Deal Stage": "status",
            })
        );
    }

    #[test]
    fn a_file_may_have_a_name_and_its_parts() {
        assert_eq!(
            mapping(&["First Name", "Name", "Email", "_line"]),
            serde_json::json!({ "First Name": "first_name", "Name": "name", "Email": "email", "_line": null })
        );
    }

    #[test]
    fn the_reasons_of_rejected_rows_are_ignored() {
        assert_eq!(
            mapping(&["Name", "Email", "_line", "_field", "_code", "_message", "_message (2)", "_message (x)"]),
            serde_json::json!({
                "Name": "name", "Email": "email", "_line": null, "_field": null, "_code": null, "_message": null,
                "_message (2)": null, "_message (x)": "custom_fields._message (x)",
            })
        );
    }

    #[test]
    fn a_mapping_takes_precedence_and_its_errors_are_reported() {
        let headers: Vec<String> = ["Nom", "Email", "Courriel", "Secret"].map(String::from).into();
        let mapping = serde_json::json!({ "Nom": "name", "Courriel": "email", "Secret": null });
        let targets = match_headers(&headers, LEAD_COLUMNS, Unmapped::Keep, mapping.as_object().unwrap()).unwrap();
        assert_eq!(
            as_json(&headers, &targets),
            serde_json::json!({ "Nom": "name", "Email": "custom_fields.Email", "Courriel": "email", "Secret": null })
        );
        let slips = serde_json::json!({ "Name": "name", "Nom": "nam", "Email": "email", "Courriel": "email" });
        let Err(Error::Invalid(errors)) =
            match_headers(&headers, LEAD_COLUMNS, Unmapped::Keep, slips.as_object().unwrap())
        else {
            panic!("an invalid mapping was accepted")
        };
        let seen: Vec<_> = errors.iter().map(|error| (error.field.as_str(), error.code.as_ref())).collect();
        assert_eq!(seen, [("mapping.Name", "unknown"), ("mapping.Nom", "unknown"), ("mapping.Courriel", "duplicate")]);
    }

    #[test]
    fn missing_required_columns_are_reported() {
        let targets = match_headers(&["phone".into()], LEAD_COLUMNS, Unmapped::Keep, &Map::new()).unwrap();
        let missing = missing(LEAD_COLUMNS, &targets);
        assert_eq!(missing.iter().map(|fault| fault.field.as_str()).collect::<Vec<_>>(), ["name", "email"]);
    }

    #[test]
    fn kinds_without_name_and_custom_fields_have_no_such_columns() {
        let column = |name| Column { name, aliases: &[], exact: false, required: true, parts: &[], words: &[] };
        let columns = [column("reference"), column("quantity")];
        let headers: Vec<String> = ["Reference", "First Name", "Colour"].map(String::from).into();
        let targets = match_headers(&headers, &columns, Unmapped::Keep, &Map::new()).unwrap();
        assert_eq!(
            as_json(&headers, &targets),
            serde_json::json!({ "Reference": "reference", "First Name": null, "Colour": null })
        );
        let missing = missing(&columns, &targets);
        assert_eq!(missing.iter().map(|fault| fault.field.as_str()).collect::<Vec<_>>(), ["quantity"]);
        for field in ["first_name", "last_name", "custom_fields.Colour"] {
            let mapping = serde_json::json!({ "Colour": field });
            let Err(Error::Invalid(errors)) =
                match_headers(&headers, &columns, Unmapped::Keep, mapping.as_object().unwrap())
            else {
                panic!("{field} was accepted")
            };
            assert_eq!((errors[0].field.as_str(), errors[0].code.as_ref()), ("mapping.Colour", "unknown"));
        }
    }
}
