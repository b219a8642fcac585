//! Values that the caller sets in every row.

use serde_json::{Map, Value};

use super::Importable;
use super::columns::CUSTOM_FIELDS;
use super::owners::Owners;
use crate::error::{Error, FieldError, FieldErrors, Result};
use crate::values::json_schema::Mode;
use crate::values::patch::Patch;
use crate::values::{CustomFields, Fault, Field};

/// Checks the values and replaces the owner by the user's id.
///
/// # Errors
/// [`Error::Invalid`] with every field that a file cannot have, and every value that is not valid for its field.
pub(super) fn check<R: Importable>(given: &Map<String, Value>, owners: &Owners) -> Result<Map<String, Value>> {
    let mut errors = FieldErrors::default();
    let mut checked = Map::new();
    for (field, value) in given {
        match checked_value::<R>(field, value, owners) {
            Ok(value) => _ = checked.insert(field.clone(), value),
            Err(fault) => errors.push(FieldError::new(format!("set.{field}"), fault.code, fault.message)),
        }
    }
    errors.check()?;
    template::<R>(&checked)?;
    Ok(checked)
}

fn checked_value<R: Importable>(field: &str, value: &Value, owners: &Owners) -> Result<Value, Fault> {
    let text = match value {
        Value::String(text) => text.trim().to_owned(),
        other => other.to_string(),
    };
    if value.is_null() || text.is_empty() {
        return Err(Fault::new("required", "must have a value"));
    }
    let has_custom = R::COLUMNS.contains(&CUSTOM_FIELDS);
    if has_custom && field == CUSTOM_FIELDS {
        return CustomFields::from_json(value.clone()).map(|_| value.clone());
    }
    if has_custom && field.strip_prefix("custom_fields.").is_some_and(|key| !key.is_empty()) {
        return Ok(value.clone());
    }
    let is_settable = |name: &str| {
        let own = R::properties().into_iter().find(|property| property.name == name);
        let is_own = own.is_some_and(|own| !matches!(own.mode, Mode::Fixed) || R::OWNER == Some(name));
        is_own && !(R::EMAIL.is_some() && name == "email")
    };
    if !is_settable(field) {
        return Err(Fault::new("unknown", "is not a field that can be set in every row"));
    }
    if field == "assigned_to" {
        let user = owners.find(&text);
        return user.map(|id| Value::from(id.to_string())).ok_or_else(|| {
            Fault::new("not_found", "must be the id, the name or the email of a user of the workspace")
        });
    }
    R::set(&mut R::Changes::default(), field, &text).map(|()| Value::from(text))
}

/// The changes and the custom fields of every row.
///
/// # Errors
/// [`Error::Invalid`] for a value that is not valid for its field.
pub(super) fn template<R: Importable>(set: &Map<String, Value>) -> Result<(R::Changes, Map<String, Value>)> {
    let (mut changes, mut custom) = (R::Changes::default(), Map::new());
    for (field, value) in set {
        match (field.strip_prefix("custom_fields."), value) {
            (Some(key), value) => _ = custom.insert(key.to_owned(), value.clone()),
            (None, Value::Object(fields)) if field == CUSTOM_FIELDS => custom.extend(fields.clone()),
            // It is looked up with the names in cells.
            (None, _) if R::OWNER == Some(field.as_str()) => {}
            (None, value) => R::set(&mut changes, field, value.as_str().unwrap_or_default())
                .map_err(|fault| Error::Invalid(vec![fault.of(format!("set.{field}"))]))?,
        }
    }
    if let Some(fields) = R::custom_fields_mut(&mut changes) {
        *fields = Patch::Keep;
    }
    Ok((changes, custom))
}
