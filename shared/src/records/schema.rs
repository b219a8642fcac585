//! Records as JSON Schema: as they are answered, and the bodies that make and change one.

use serde_json::Value;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema};
use uuid::Uuid;

use super::model::Record;
use crate::values::json_body::Object as Body;
use crate::values::json_schema::{Mode, Property, closed};
use crate::values::{Field, Time};

const EXAMPLE_ID: &str = "019ab3f2-6b1e-7c3a-9f52-3d8c1e0a7b44";
const EXAMPLE_TIME: &str = "2026-01-15T10:00:00Z";

/// A record as it is answered. All of its fields are there, `null` when unset.
pub fn answer<R: Record>(about: &str) -> RefOr<Schema> {
    let object = ObjectBuilder::new().description(Some(about.trim())).examples(example::<R>());
    let properties = R::properties().into_iter();
    let object = properties
        .fold(object, |object, property| object.property(property.name, property.answered()).required(property.name));
    object.into()
}

/// The record that the example of a body makes: `None` if it makes none.
fn example<R: Record>() -> Option<Value> {
    let Value::Object(body) = R::example() else { return None };
    let mut changes = R::read(Body::new(body), None).ok()?;
    if let Some(parent) = R::PARENT {
        R::set(&mut changes, parent.column, EXAMPLE_ID).ok()?;
    }
    let mut record = R::new(Uuid::from_text(EXAMPLE_ID).ok()?, Time::from_text(EXAMPLE_TIME).ok()?, changes)?;
    record.derive_fields(None);
    serde_json::to_value(record).ok()
}

/// The body that makes a record.
pub fn create<R: Record>() -> RefOr<Schema> {
    let object = ObjectBuilder::new().description(Some("What a caller says about a new one.")).examples([R::example()]);
    let object = writable::<R>().fold(object, |object, property| {
        let object = object.property(property.name, property.written(property.default()));
        if property.mode == Mode::Required { object.required(property.name) } else { object }
    });
    closed(object)
}

/// The body that changes one: only the fields that it names.
pub fn update<R: Record>() -> RefOr<Schema> {
    let object = ObjectBuilder::new().description(Some("The fields to change; the others stay."));
    let object =
        writable::<R>().fold(object, |object, property| object.property(property.name, property.written(None)));
    closed(object)
}

fn writable<R: Record>() -> impl Iterator<Item = Property> {
    R::properties().into_iter().filter(|property| property.mode != Mode::Fixed)
}
