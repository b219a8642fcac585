//! The JSON Schemas of records, and of the bodies that create and update them.

use serde_json::Value;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema};
use uuid::Uuid;

use super::model::Record;
use crate::values::json_body::Object as Body;
use crate::values::json_schema::{Mode, Property, Shape, closed};
use crate::values::{Field, Time};

/// The field that records have only in lists of deleted records.
pub const DELETED_AT: &str = "deleted_at";

const EXAMPLE_ID: &str = "019ab3f2-6b1e-7c3a-9f52-3d8c1e0a7b44";
const EXAMPLE_TIME: &str = "2026-01-15T10:00:00Z";

/// The schema of a record in a response. All fields are present; unset fields are `null`. Only lists of
/// deleted records have [`DELETED_AT`].
pub fn answer<R: Record>(about: &str) -> RefOr<Schema> {
    let object = ObjectBuilder::new().description(Some(about.trim())).examples(example::<R>());
    let properties = R::properties().into_iter();
    let object = properties
        .fold(object, |object, property| object.property(property.name, property.answered()).required(property.name));
    if R::DELETED.is_none() {
        return object.into();
    }
    let mut deleted_at = Time::shape();
    deleted_at.description = Some("When the record was deleted; only in lists of deleted records.".to_owned());
    object.property(DELETED_AT, deleted_at).into()
}

fn example<R: Record>() -> Option<Value> {
    serde_json::to_value(example_record::<R>()?).ok()
}

/// Returns the record that the kind's example creates; `None` if the example is invalid.
pub fn example_record<R: Record>() -> Option<R> {
    let Value::Object(body) = R::example() else { return None };
    let mut changes = R::read(Body::new(body), None).ok()?;
    if let Some(parent) = R::PARENT {
        R::set(&mut changes, parent.column, EXAMPLE_ID).ok()?;
    }
    let mut record = R::new(Uuid::from_text(EXAMPLE_ID).ok()?, Time::from_text(EXAMPLE_TIME).ok()?, changes)?;
    record.derive_fields(None);
    Some(record)
}

/// The schema of a body that creates a record.
pub fn create<R: Record>() -> RefOr<Schema> {
    let object = ObjectBuilder::new().description(Some("The fields of a new record.")).examples([R::example()]);
    let object = writable::<R>().fold(object, |object, property| {
        let object = object.property(property.name, property.written(property.default()));
        if property.mode == Mode::Required { object.required(property.name) } else { object }
    });
    closed(object)
}

/// The schema of a body that updates a record.
pub fn update<R: Record>() -> RefOr<Schema> {
    let object =
        ObjectBuilder::new().description(Some("The fields to change. Fields that are left out keep their values."));
    let object =
        writable::<R>().fold(object, |object, property| object.property(property.name, property.written(None)));
    closed(object)
}

fn writable<R: Record>() -> impl Iterator<Item = Property> {
    R::properties().into_iter().filter(|property| property.mode != Mode::Fixed)
}
