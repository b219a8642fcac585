//! Reading what operators ask for: from the arguments of a command, a query string or the body of a request.

use serde_json::{Map, Value};
use uuid::Uuid;

use super::actions::ActionFilter;
use super::command::Selection;
use super::emails::EmailFilter;
use super::jobs::JobFilter;
use crate::error::{Error, FieldError, Result};
use crate::query::parameters::{Parameters, texts, whole};
use crate::values::Field;
use crate::values::json_body::Object;

/// How many rows a list has by default.
const LIMIT: u32 = 50;
/// How many rows a list has at most.
const MAX_LIMIT: u32 = 1_000;
/// How many ids a request may name.
const MAX_IDS: usize = 1_000;

/// A filter that operators can give.
pub trait Filter: Default + Sized {
    /// Takes the filter from parameters.
    fn take(given: &mut Parameters<'_>) -> Self;

    /// Whether everything matches.
    fn is_empty(&self) -> bool;
}

impl Filter for JobFilter {
    fn take(given: &mut Parameters<'_>) -> Self {
        Self::take(given)
    }

    fn is_empty(&self) -> bool {
        self.is_empty()
    }
}

impl Filter for EmailFilter {
    fn take(given: &mut Parameters<'_>) -> Self {
        Self::take(given)
    }

    fn is_empty(&self) -> bool {
        self.is_empty()
    }
}

impl Filter for ActionFilter {
    fn take(given: &mut Parameters<'_>) -> Self {
        Self::take(given)
    }

    fn is_empty(&self) -> bool {
        false
    }
}

/// Reads the parameters of a list: the filter and `limit`.
///
/// # Errors
/// [`Error::Invalid`] with every fault.
pub fn list<F: Filter>(pairs: &[(String, String)]) -> Result<(F, i64)> {
    let mut given = Parameters::new(pairs);
    let filter = F::take(&mut given);
    let limit = given.take_as("limit", |text| whole(text, 1..=MAX_LIMIT)).unwrap_or(LIMIT);
    given.finish()?;
    Ok((filter, i64::from(limit)))
}

/// Reads the parameters of a count: the filter.
///
/// # Errors
/// [`Error::Invalid`] with every fault.
pub fn count<F: Filter>(pairs: &[(String, String)]) -> Result<F> {
    let mut given = Parameters::new(pairs);
    let filter = F::take(&mut given);
    given.finish()?;
    Ok(filter)
}

/// Reads the filter of a command, which names at least one condition, or `all`.
///
/// # Errors
/// [`Error::Invalid`] with every fault.
pub fn filter<F: Filter>(pairs: &[(String, String)]) -> Result<F> {
    let mut given = Parameters::new(pairs);
    let (filter, all) = (F::take(&mut given), given.flag("all"));
    given.finish()?;
    match (filter.is_empty(), all) {
        (true, false) => Err(Error::invalid("filter", "required", "must not be empty; `all` selects everything")),
        (false, true) => Err(Error::invalid("all", "not_allowed", "must not be combined with other conditions")),
        _ => Ok(filter),
    }
}

/// Reads the body of a request: `{"filter": {…}, "expect": N}`, or `{"ids": […]}`.
///
/// # Errors
/// [`Error::Invalid`] with every fault.
pub fn body<F: Filter>(mut body: Object) -> Result<Selection<F>> {
    let (filter, ids) = (body.take_value("filter"), body.take_value("ids"));
    let expect = body.take_value("expect");
    body.finish()?;
    match (filter, ids) {
        (Some(Value::Object(fields)), None) => {
            let filter = self::filter(&pairs(fields)?).map_err(|error| match error {
                Error::Invalid(faults) => Error::Invalid(faults.into_iter().map(inside_filter).collect()),
                error => error,
            })?;
            let expect = expect.ok_or_else(|| {
                Error::invalid("expect", "required", "must be the number of matching rows, as the count returns it")
            })?;
            let expect = expect.as_i64().filter(|number| *number >= 0);
            let expect =
                expect.ok_or_else(|| Error::invalid("expect", "invalid", "must be a whole number from 0 on"))?;
            Ok(Selection::Matching { filter, expect: Some(expect) })
        }
        (None, Some(ids)) => {
            if expect.is_some() {
                return Err(Error::invalid("expect", "not_allowed", "is allowed only with `filter`"));
            }
            self::ids(ids).map(Selection::Ids)
        }
        (Some(_), None) => Err(Error::invalid("filter", "invalid", "must be a JSON object")),
        (Some(_), Some(_)) => Err(Error::invalid("ids", "not_allowed", "must not be combined with `filter`")),
        (None, None) => Err(Error::invalid("filter", "required", "is required, unless `ids` are given")),
    }
}

fn inside_filter(fault: FieldError) -> FieldError {
    if fault.field == "filter" { fault } else { fault.inside("filter") }
}

/// The fields of a filter, as the parameters of a query string.
fn pairs(fields: Map<String, Value>) -> Result<Vec<(String, String)>> {
    let mut pairs = Vec::new();
    for (name, value) in fields {
        match texts(value) {
            Some(values) => pairs.extend(values.into_iter().map(|value| (name.clone(), value))),
            None => {
                let message = "must be a string, a number, true or false";
                return Err(Error::Invalid(vec![FieldError::new(name, "invalid", message).inside("filter")]));
            }
        }
    }
    Ok(pairs)
}

fn ids(value: Value) -> Result<Vec<Uuid>> {
    let message = format!("must be an array of 1 to {MAX_IDS} ids");
    let invalid = || Error::invalid("ids", "invalid", message.clone());
    let Value::Array(values) = value else { return Err(invalid()) };
    if values.is_empty() || values.len() > MAX_IDS {
        return Err(invalid());
    }
    let mut ids = Vec::with_capacity(values.len());
    for (i, value) in values.into_iter().enumerate() {
        let id = Uuid::from_json(value).map_err(|fault| Error::Invalid(vec![fault.of(format!("ids.{i}"))]))?;
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    Ok(ids)
}
