//! What becomes of each column of a file: headers are matched to fields by name and alias.

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
    /// Headers it goes by beside its name, in their normal form, the best first.
    pub aliases: &'static [&'static str],
    /// Only a header that is exactly the name is this field.
    pub exact: bool,
    /// No file is taken without it, and no row.
    pub required: bool,
    /// For a field of words: the other words it is known by, in their normal form.
    pub words: &'static [(&'static str, &'static [&'static str])],
}

impl Column {
    /// The same, without which no file and no row is taken.
    pub const fn required(self) -> Self {
        Self { required: true, ..self }
    }

    /// The word of the field that a cell means; `None` when it means none of them.
    pub fn word(&self, cell: &str) -> Option<&'static str> {
        let cell = normalize(cell);
        self.words
            .iter()
            .find(|(word, aliases)| *word == cell || aliases.contains(&cell.as_str()))
            .map(|(word, _)| *word)
    }
}

/// What becomes of one column of a file.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// It is this field of the record.
    Field(String),
    /// The first part of the name.
    FirstName,
    /// The last part of the name.
    LastName,
    /// It is kept in `custom_fields`, under its header.
    Custom,
    /// It is left out.
    Ignored,
}

impl Target {
    /// Whether it gives the field a value, or a part of one.
    fn supplies(&self, field: &str) -> bool {
        match self {
            Self::Field(name) => name == field,
            Self::FirstName | Self::LastName => field == NAME,
            Self::Custom | Self::Ignored => false,
        }
    }
}

string_enum! {
    /// What becomes of columns that match no field.
    Unmapped {
        /// They are kept in `custom_fields`.
        Keep = "keep",
        /// They are dropped.
        Ignore = "ignore",
    }
}

/// The field that a file may have in two columns.
pub(super) const NAME: &str = "name";
const CUSTOM_FIELDS: &str = "custom_fields";
const FIRST_NAME: &[&str] = &["firstname", "givenname", "forename", "first", "contactfirstname"];
const LAST_NAME: &[&str] = &["lastname", "surname", "familyname", "last", "contactlastname"];
/// The columns that a file of refused rows has behind its own: a mended file may still have them, and
/// they mean nothing there.
pub const FAULT_COLUMNS: [&str; 4] = ["_line", "_field", "_code", "_message"];

/// Whether a header is one of [`FAULT_COLUMNS`], also one that stands in a file again: `_line (2)`.
pub fn is_fault_column(header: &str) -> bool {
    let digits = |text: &str| text.strip_suffix(')').is_some_and(|n| n.bytes().all(|byte| byte.is_ascii_digit()));
    let name = header.split_once(" (").filter(|(_, rest)| digits(rest)).map_or(header, |(name, _)| name);
    FAULT_COLUMNS.contains(&name)
}

/// Matches the headers of a file to the fields of a record. What the caller's mapping says of a
/// header stands; the others are matched by name and alias.
///
/// Of several headers that mean the same field the best known one wins, and among equals the first;
/// the others are unmapped columns.
///
/// # Errors
/// [`Error::Invalid`] for a mapping that names a header or a field that does not exist, or a field
/// twice.
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
        let found = if column.exact {
            claim_exact(headers, &mut targets, column.name)
        } else {
            normal.claim(&mut targets, &aliases, field)
        };
        if column.name == NAME && !found {
            normal.claim(&mut targets, FIRST_NAME, Target::FirstName);
            normal.claim(&mut targets, LAST_NAME, Target::LastName);
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

/// What the caller's mapping says of each header.
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
            Some("first_name") if has(columns, NAME) => Target::FirstName,
            Some("last_name") if has(columns, NAME) => Target::LastName,
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
            errors.push(FieldError::new(name, "duplicate", "is a field that another header is mapped to"));
        }
        targets[at] = Some(target);
    }
    errors.check()?;
    Ok(targets)
}

/// The columns of a file by the normal form of their headers, each made once.
struct NormalHeaders(HashMap<String, Vec<usize>>);

impl NormalHeaders {
    fn of(headers: &[String]) -> Self {
        let mut columns: HashMap<String, Vec<usize>> = HashMap::new();
        for (i, header) in headers.iter().enumerate() {
            columns.entry(normalize(header)).or_default().push(i);
        }
        Self(columns)
    }

    /// Gives the target to the header that is the best of the aliases, if there is one that is free.
    fn claim(&self, targets: &mut [Option<Target>], aliases: &[&str], target: Target) -> bool {
        let columns = aliases.iter().filter_map(|alias| self.0.get(*alias)).flatten();
        let best = columns.copied().find(|&i| targets[i].is_none());
        if let Some(i) = best {
            targets[i] = Some(target);
        }
        best.is_some()
    }
}

fn claim_exact(headers: &[String], targets: &mut [Option<Target>], name: &str) -> bool {
    let at = headers.iter().position(|header| header == name).filter(|&i| targets[i].is_none());
    if let Some(i) = at {
        targets[i] = Some(Target::Field(name.to_owned()));
    }
    at.is_some()
}

/// The faults of a file in which a required field has no column.
pub fn missing(columns: &[Column], targets: &[Target]) -> Vec<FieldError> {
    let is_missing = |column: &&Column| column.required && !targets.iter().any(|target| target.supplies(column.name));
    let fault = |column: &Column| {
        FieldError::new(column.name, "missing_column", "no column of the file was recognised as this field")
    };
    columns.iter().filter(is_missing).map(fault).collect()
}

/// The mapping as callers see it: header → field, `null` for a column that is left out.
pub fn as_json(headers: &[String], targets: &[Target]) -> Value {
    let entry = |(header, target): (&String, &Target)| {
        let field = match target {
            Target::Field(field) => Value::from(field.as_str()),
            Target::FirstName => Value::from("first_name"),
            Target::LastName => Value::from("last_name"),
            Target::Custom => Value::from(format!("{CUSTOM_FIELDS}.{header}")),
            Target::Ignored => Value::Null,
        };
        (header.clone(), field)
    };
    Value::Object(headers.iter().zip(targets).map(entry).collect::<Map<_, _>>())
}

/// A header or a word without case, spaces and punctuation: `E-mail` is `email`.
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
    fn headers_of_other_systems_are_understood() {
        assert_eq!(
            mapping(&["First Name", "Last Name", "Work Email", "E-mail", "Phone 1", "Phone 2", "Deal Stage"]),
            serde_json::json!({
                "First Name": "first_name", "Last Name": "last_name", "Work Email": "custom_fields.Work Email",
                "E-mail": "email", "Phone 1": "phone", "Phone 2": "custom_fields.Phone 2", "Deal Stage": "status",
            })
        );
    }

    #[test]
    fn a_whole_name_wins_over_its_parts() {
        assert_eq!(
            mapping(&["First Name", "Name", "Email", "_line"]),
            serde_json::json!({ "First Name": "custom_fields.First Name", "Name": "name", "Email": "email", "_line": null })
        );
    }

    #[test]
    fn what_was_said_of_refused_rows_is_no_part_of_them() {
        assert_eq!(
            mapping(&["Name", "Email", "_line", "_field", "_code", "_message", "_message (2)", "_message (x)"]),
            serde_json::json!({
                "Name": "name", "Email": "email", "_line": null, "_field": null, "_code": null, "_message": null,
                "_message (2)": null, "_message (x)": "custom_fields._message (x)",
            })
        );
    }

    #[test]
    fn a_mapping_wins_and_its_slips_are_named() {
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
            panic!("a wrong mapping was taken")
        };
        let seen: Vec<_> = errors.iter().map(|error| (error.field.as_str(), error.code.as_ref())).collect();
        assert_eq!(seen, [("mapping.Name", "unknown"), ("mapping.Nom", "unknown"), ("mapping.Courriel", "duplicate")]);
    }

    #[test]
    fn required_columns_are_missed_by_name() {
        let targets = match_headers(&["phone".into()], LEAD_COLUMNS, Unmapped::Keep, &Map::new()).unwrap();
        let missing = missing(LEAD_COLUMNS, &targets);
        assert_eq!(missing.iter().map(|fault| fault.field.as_str()).collect::<Vec<_>>(), ["name", "email"]);
    }

    #[test]
    fn a_kind_without_a_name_and_custom_fields_has_no_such_columns() {
        let column = |name| Column { name, aliases: &[], exact: false, required: true, words: &[] };
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
                panic!("{field} was taken")
            };
            assert_eq!((errors[0].field.as_str(), errors[0].code.as_ref()), ("mapping.Colour", "unknown"));
        }
    }
}
