//! The body of a bulk change.

use serde_json::{Map, Value};
use uuid::Uuid;

use super::{BulkAction, BulkChanged};
use crate::error::{Error, FieldError, Result};
use crate::query::parameters::{no_texts, texts};
use crate::query::{List, NO_FILTERS, Spec};
use crate::records::schema::example_record;
use crate::values::json_body::Object;
use crate::values::json_schema::Mode;

/// The most filters of a request.
const MAX_FILTERS: usize = 100;
/// The filter that every record matches.
const ALL: &str = "all";
/// The only field that [`BulkAction::Assign`] sets.
const OWNER: &str = "assigned_to";

/// A parsed request.
#[derive(Debug, Clone)]
pub struct Request {
    /// The records to change.
    pub(super) list: List,
    /// What to do.
    pub(super) action: BulkAction,
    /// The fields to set.
    pub(super) set: Map<String, Value>,
    /// A field of `set` that only one record can have with this value.
    pub(super) unique: Option<&'static str>,
    /// Whether leads that left the nurture sequence are brought back.
    pub(super) again: bool,
    /// Whether only the result and the rejected records are stored.
    pub(super) dry_run: bool,
    /// The number of records that the caller expects.
    pub(super) confirm: Option<i64>,
    /// The filters, as the parameters of a list.
    filters: Vec<(String, String)>,
}

impl Request {
    /// What to do.
    pub fn action(&self) -> BulkAction {
        self.action
    }

    /// Reads the body of a request.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every fault of the body.
    pub fn read<R: BulkChanged>(workspace_id: Uuid, mut body: Object) -> Result<Self> {
        let action = action::<R>(&mut body);
        let dry_run = body.present("dry_run").unwrap_or_default();
        let again = again(&mut body, action);
        let confirm = confirm(&mut body);
        let filters = filters(&mut body, action);
        let spec = (const { &R::DELETED }).as_ref().filter(|_| action == Some(BulkAction::Restore));
        let list = list(&mut body, spec.unwrap_or(const { &R::LIST }), workspace_id, filters.as_deref());
        let set = set::<R>(&mut body, action);
        body.finish()?;
        let (Some(list), Some(action), Some(filters)) = (list, action, filters) else {
            return Err(Error::internal("an invalid bulk change was accepted"));
        };
        let sets = |field: &&str| set.get(*field).is_some_and(|value| !value.is_null());
        let unique = R::UNIQUE.iter().map(|key| key.field).find(sets).filter(|_| action == BulkAction::Update);
        Ok(Self { list, action, set, unique, again, dry_run, confirm, filters })
    }

    /// The filters, as the parameters of a list.
    pub fn filters(&self) -> &[(String, String)] {
        &self.filters
    }
}

fn action<R: BulkChanged>(body: &mut Object) -> Option<BulkAction> {
    let action: BulkAction = body.required("action")?;
    if R::ACTIONS.contains(&action) {
        return Some(action);
    }
    let words: Vec<&str> = R::ACTIONS.iter().map(|action| action.as_str()).collect();
    body.refuse(FieldError::new("action", "invalid", format!("must be one of: {}", words.join(" "))));
    None
}

/// Whether leads that left the nurture sequence are brought back, which only [`BulkAction::Enroll`] can do.
fn again(body: &mut Object, action: Option<BulkAction>) -> bool {
    let again = body.present("again").unwrap_or_default();
    if again && action.is_some_and(|action| action != BulkAction::Enroll) {
        body.refuse(FieldError::new("again", "invalid", "must be set with enroll only"));
    }
    again
}

fn confirm(body: &mut Object) -> Option<i64> {
    let value = body.take_value("confirm").filter(|value| !value.is_null())?;
    let number = value.as_i64().filter(|number| *number >= 0);
    if number.is_none() {
        body.refuse(FieldError::new("confirm", "invalid", "must be the number of records that match"));
    }
    number
}

/// The filters, as the parameters of a list; `None` if they are not an object.
fn filters(body: &mut Object, action: Option<BulkAction>) -> Option<Vec<(String, String)>> {
    let filters = match body.take_value("filter") {
        Some(Value::String(text)) if text == ALL => return Some(Vec::new()),
        Some(Value::Object(filters)) if !filters.is_empty() => filters,
        None | Some(Value::Null | Value::Object(_)) => {
            body.refuse(no_filter());
            return None;
        }
        Some(_) => {
            body.refuse(FieldError::new("filter", "invalid", "must be \"all\", or an object of the list's filters"));
            return None;
        }
    };
    if filters.len() > MAX_FILTERS {
        let message = format!("must have at most {MAX_FILTERS} filters");
        body.refuse(FieldError::new("filter", "too_many", message));
        return None;
    }
    let mut parameters = Vec::with_capacity(filters.len());
    let mut errors = Vec::new();
    for (name, value) in filters {
        match texts(value) {
            None => errors.push(no_texts().of(&name)),
            Some(_) if NO_FILTERS.contains(&name.as_str()) => {
                errors.push(FieldError::new(&name, "unknown", "is not a filter"));
            }
            Some(texts) if name == "deleted" => errors.extend(deleted(&texts, action)),
            Some(texts) => parameters.extend(texts.into_iter().map(|text| (name.clone(), text))),
        }
    }
    body.refuse_inside("filter", errors);
    Some(parameters)
}

fn no_filter() -> FieldError {
    FieldError::new("filter", "required", "must have at least one filter; \"all\" matches every record")
}

/// Checks the filter `deleted`: deleted records can only be restored, and only they can be.
fn deleted(texts: &[String], action: Option<BulkAction>) -> Option<FieldError> {
    let is_deleted = match texts {
        [text] if text == "true" => true,
        [text] if text == "false" => false,
        _ => return Some(FieldError::new("deleted", "invalid", "must be true or false")),
    };
    let is_restore = action? == BulkAction::Restore;
    let message = if is_restore { "must be true with restore" } else { "must be true with restore only" };
    (is_deleted != is_restore).then(|| FieldError::new("deleted", "invalid", message))
}

/// The list of the records that match.
fn list(
    body: &mut Object,
    spec: &'static Spec,
    workspace_id: Uuid,
    filters: Option<&[(String, String)]>,
) -> Option<List> {
    let filters = filters?;
    match List::parse(spec, workspace_id, filters) {
        // A time zone alone matches every record.
        Ok(list) if !filters.is_empty() && !list.is_filtered() => {
            body.refuse(no_filter());
            None
        }
        Ok(list) => Some(list),
        Err(Error::Invalid(errors)) => {
            body.refuse_inside("filter", errors);
            None
        }
        Err(error) => {
            body.refuse(FieldError::new("filter", "invalid", error.to_string()));
            None
        }
    }
}

/// The fields to set.
fn set<R: BulkChanged>(body: &mut Object, action: Option<BulkAction>) -> Map<String, Value> {
    let set = match body.take_value("set") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(set)) => set,
        Some(_) => {
            body.refuse(FieldError::new("set", "invalid", "must be a JSON object"));
            return Map::new();
        }
    };
    let fault = match action {
        Some(BulkAction::Update | BulkAction::Assign) if set.is_empty() => Some(("required", "must set a field")),
        Some(BulkAction::Delete | BulkAction::Restore | BulkAction::Enroll | BulkAction::Unenroll)
            if !set.is_empty() =>
        {
            Some(("invalid", "must be empty for this action"))
        }
        _ => None,
    };
    if let Some((code, message)) = fault {
        body.refuse(FieldError::new("set", code, message));
    }
    let checked = match action {
        Some(BulkAction::Update) => check_update::<R>(set.clone(), None),
        Some(BulkAction::Assign) => check_update::<R>(set.clone(), Some(OWNER)),
        Some(BulkAction::Convert) => R::check_conversion(Object::new(set.clone())),
        Some(BulkAction::Delete | BulkAction::Restore | BulkAction::Enroll | BulkAction::Unenroll) | None => Ok(()),
    };
    if let Err(error) = checked {
        let errors = match error {
            Error::Invalid(errors) => errors,
            other => vec![FieldError::new("", "invalid", other.to_string())],
        };
        body.refuse_inside("set", errors);
    }
    set
}

/// Checks the fields of an update, as if it updated a valid record; with `only`, it may set this field alone.
fn check_update<R: BulkChanged>(mut set: Map<String, Value>, only: Option<&str>) -> Result<()> {
    let mut errors = Vec::new();
    let properties = R::properties();
    set.retain(|name, _| {
        let property = properties.iter().find(|property| property.name == *name);
        let fault = match property {
            // An update may send a read-only field unchanged, but many records do not have the same one.
            Some(property) if property.mode == Mode::Fixed => Some(("read_only", "cannot be set")),
            Some(_) if only.is_some_and(|only| name != only) => Some(("invalid", "must be set with update")),
            _ => None,
        };
        errors.extend(fault.map(|(code, message)| FieldError::new(name, code, message)));
        fault.is_none()
    });
    let example: Option<R> = example_record();
    let example = example.ok_or_else(|| Error::internal("the example of a record is invalid"))?;
    match R::read(Object::new(set), Some(&example)) {
        Err(Error::Invalid(more)) => errors.extend(more),
        Err(error) => return Err(error),
        Ok(_) => {}
    }
    if errors.is_empty() { Ok(()) } else { Err(Error::Invalid(errors)) }
}
