//! What becomes of each column of a file: headers are matched to fields by name and alias.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::FieldError;

/// A field that a column can be read into.
#[derive(Debug)]
pub struct Column {
    /// The field's name.
    pub name: &'static str,
    /// Headers it goes by beside its name, in their normal form, the best first.
    pub aliases: &'static [&'static str],
    /// For a field of words: the other words it is known by, in their normal form.
    pub words: &'static [(&'static str, &'static [&'static str])],
}

impl Column {
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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

/// What becomes of columns that match no field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unmapped {
    /// They are kept in `custom_fields`.
    #[default]
    Keep,
    /// They are dropped.
    Ignore,
}

const FIRST_NAME: &[&str] = &["firstname", "givenname", "forename", "first", "contactfirstname"];
const LAST_NAME: &[&str] = &["lastname", "surname", "familyname", "last", "contactlastname"];
/// The columns that a file of refused rows carries; a mended file may still have them.
const REFUSAL: &[&str] = &["_line", "_field", "_code", "_message"];

/// Matches the headers of a file to the fields of a record.
///
/// Of several headers that mean the same field the best known one wins, and among equals the first;
/// the others are unmapped columns.
pub fn match_headers(headers: &[String], columns: &[Column], unmapped: Unmapped) -> Vec<Target> {
    let rest = match unmapped {
        Unmapped::Keep => Target::Custom,
        Unmapped::Ignore => Target::Ignored,
    };
    let mut targets: Vec<Target> = headers
        .iter()
        .map(
            |header| {
                if header.is_empty() || REFUSAL.contains(&header.as_str()) { Target::Ignored } else { rest.clone() }
            },
        )
        .collect();
    let mut claim = |aliases: &[&str], target: Target| {
        let rank = |header: &String| aliases.iter().position(|alias| *alias == normalize(header));
        let best = headers.iter().enumerate().filter_map(|(i, header)| Some((rank(header)?, i))).min();
        if let Some((_, i)) = best {
            targets[i] = target;
        }
        best.is_some()
    };
    for column in columns {
        let own = normalize(column.name);
        let aliases: Vec<&str> = std::iter::once(own.as_str()).chain(column.aliases.iter().copied()).collect();
        let found = claim(&aliases, Target::Field(column.name.to_owned()));
        if column.name == "name" && !found {
            claim(FIRST_NAME, Target::FirstName);
            claim(LAST_NAME, Target::LastName);
        }
    }
    targets
}

/// The faults of a file in which a required field has no column.
pub fn missing(targets: &[Target]) -> Vec<FieldError> {
    let has = |name: &str| targets.iter().any(|target| matches!(target, Target::Field(field) if field == name));
    let named = has("name") || targets.contains(&Target::FirstName) || targets.contains(&Target::LastName);
    [("name", named), ("email", has("email"))]
        .into_iter()
        .filter(|(_, found)| !found)
        .map(|(name, _)| FieldError::new(name, "missing_column", "no column of the file was recognised as this field"))
        .collect()
}

/// The mapping as callers see it: header → field, `null` for a column that is left out.
pub fn as_json(headers: &[String], targets: &[Target]) -> Value {
    let entry = |(header, target): (&String, &Target)| {
        let field = match target {
            Target::Field(field) => Value::from(field.as_str()),
            Target::FirstName => Value::from("first_name"),
            Target::LastName => Value::from("last_name"),
            Target::Custom => Value::from(format!("custom_fields.{header}")),
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
    use crate::imports::aliases::LEAD_COLUMNS;

    fn mapping(headers: &[&str]) -> Value {
        let headers: Vec<String> = headers.iter().map(|&header| header.to_owned()).collect();
        as_json(&headers, &match_headers(&headers, LEAD_COLUMNS, Unmapped::Keep))
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
    fn required_columns_are_missed_by_name() {
        let missing = missing(&match_headers(&["phone".into()], LEAD_COLUMNS, Unmapped::Keep));
        assert_eq!(missing.iter().map(|fault| fault.field.as_str()).collect::<Vec<_>>(), ["name", "email"]);
    }
}
