//! JSON Schema of fields and records, for the OpenAPI document.
//!
//! Each [`Field`](crate::values::Field) declares here what it accepts. A record declares for each of its
//! fields how callers may write it. The schemas for creating, updating and reading a record all follow
//! from these declarations.

use chrono::{DateTime, Utc};
use serde_json::Value;
use utoipa::openapi::schema::{AdditionalProperties, AnyOfBuilder, ObjectBuilder, SchemaType, Type};
use utoipa::openapi::{KnownFormat, Object, RefOr, Schema, SchemaFormat};
use uuid::Uuid;

use crate::values::{CustomFields, Email, EmailHash, Line, Money, Name, Quantity, Rating, Score, Text};

/// Text on one line that is not blank.
const LINE: &str = r"^[^\u0000-\u001f\u007f-\u009f]*[^\s\u0000-\u001f\u007f-\u009f][^\u0000-\u001f\u007f-\u009f]*$";
/// Text on any number of lines, with tabs, that is not blank.
const LINES: &str = r"^[^\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f]*[^\s\u0000-\u001f\u007f-\u009f][^\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f]*$";

/// Names: one line without misleading characters and with at least one visible character.
const NAME: &str = r"^[^\u0000-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069\ufdd0-\ufdef\ufffe\uffff]*[^\s\u0000-\u001f\u007f-\u00a0\u00ad\u0300-\u036f\u0600-\u0605\u061c\u115f\u1160\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u20d0-\u20ff\u2800\u3164\ufdd0-\ufdef\ufe00-\ufe0f\ufeff\uffa0\ufff0-\uffff][^\u0000-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069\ufdd0-\ufdef\ufffe\uffff]*$";

/// A type of a field with a JSON Schema.
pub trait Shape {
    /// The schema of such a field in a JSON body.
    fn shape() -> Object;
}

fn string() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

fn known(format: KnownFormat) -> Option<SchemaFormat> {
    Some(SchemaFormat::KnownFormat(format))
}

impl<const MAX: usize> Shape for Line<MAX> {
    fn shape() -> Object {
        string().min_length(Some(1)).max_length(Some(MAX)).pattern(Some(LINE)).build()
    }
}

impl Shape for Name {
    fn shape() -> Object {
        string().min_length(Some(1)).max_length(Some(Self::MAX)).pattern(Some(NAME)).build()
    }
}

impl<const MAX: usize> Shape for Text<MAX> {
    fn shape() -> Object {
        string().min_length(Some(1)).max_length(Some(MAX)).pattern(Some(LINES)).build()
    }
}

impl Shape for Email {
    fn shape() -> Object {
        string().format(known(KnownFormat::Email)).max_length(Some(254)).build()
    }
}

impl Shape for Score {
    fn shape() -> Object {
        ObjectBuilder::new().schema_type(Type::Number).minimum(Some(0.0)).maximum(Some(100.0)).build()
    }
}

impl Shape for Money {
    fn shape() -> Object {
        let amount = ObjectBuilder::new().schema_type(Type::Number).minimum(Some(0.0));
        amount.exclusive_maximum(Some(1e11)).multiple_of(Some(0.0001)).build()
    }
}

impl Shape for Quantity {
    fn shape() -> Object {
        ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1)).maximum(Some(i64::from(i32::MAX))).build()
    }
}

impl Shape for Rating {
    fn shape() -> Object {
        ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1)).maximum(Some(5)).build()
    }
}

impl Shape for i16 {
    fn shape() -> Object {
        ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0)).build()
    }
}

impl Shape for i64 {
    fn shape() -> Object {
        ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0)).build()
    }
}

impl Shape for EmailHash {
    fn shape() -> Object {
        string().pattern(Some("^[0-9a-f]{64}$")).build()
    }
}

impl Shape for f64 {
    fn shape() -> Object {
        Object::with_type(Type::Number)
    }
}

impl Shape for bool {
    fn shape() -> Object {
        Object::with_type(Type::Boolean)
    }
}

impl Shape for String {
    fn shape() -> Object {
        string().min_length(Some(1)).pattern(Some(LINE)).build()
    }
}

impl Shape for Uuid {
    fn shape() -> Object {
        string().format(known(KnownFormat::Uuid)).build()
    }
}

impl Shape for DateTime<Utc> {
    fn shape() -> Object {
        string().format(known(KnownFormat::DateTime)).build()
    }
}

impl Shape for CustomFields {
    fn shape() -> Object {
        ObjectBuilder::new()
            .description(Some("At most 100 keys, 16 KiB as JSON, and 5 levels."))
            .max_properties(Some(Self::API_LIMITS.0))
            .additional_properties(Some(AdditionalProperties::FreeForm(true)))
            .build()
    }
}

impl<T: Shape> Shape for Option<T> {
    fn shape() -> Object {
        nullable(T::shape())
    }
}

/// The same schema, also accepting `null`.
pub fn nullable(mut shape: Object) -> Object {
    if let SchemaType::Type(of) = shape.schema_type {
        shape.schema_type = SchemaType::Array(vec![of, Type::Null]);
    }
    if let Some(words) = &mut shape.enum_values {
        words.push(Value::Null);
    }
    shape
}

/// How callers may write a field.
#[derive(Debug, Clone, PartialEq)]
pub enum Mode {
    /// The field is required when the record is created, and cannot be cleared.
    Required,
    /// The field may be absent if it can be made from others, and cannot be cleared.
    Composed,
    /// The field may be absent, and is cleared by `null`.
    Optional,
    /// The field has this value unless a caller sets another; `null` resets it.
    Defaulted(Value),
    /// The field is read-only.
    Fixed,
}

/// A field of a record.
pub struct Property {
    /// The name in JSON.
    pub name: &'static str,
    /// The description.
    pub about: &'static str,
    /// How callers may write the field.
    pub mode: Mode,
    /// The schema of the field's type.
    pub shape: Object,
}

impl Property {
    /// A field of the type `T`, which is an `Option` for an optional field.
    pub fn new<T: Shape>(name: &'static str, about: &'static str, mode: Mode) -> Self {
        Self { name, about: about.trim(), mode, shape: T::shape() }
    }
}

/// An object that accepts no other fields.
pub fn closed(object: ObjectBuilder) -> RefOr<Schema> {
    object.additional_properties(Some(AdditionalProperties::<Schema>::FreeForm(false))).into()
}

impl Property {
    /// The schema with the description of the field, followed by that of its type.
    fn described(&self) -> Object {
        let mut shape = self.shape.clone();
        shape.description = Some(match shape.description {
            Some(of_type) => format!("{}\n\n{of_type}", self.about),
            None => self.about.to_owned(),
        });
        shape
    }

    /// The schema of the field in responses.
    pub(crate) fn answered(&self) -> Object {
        let mut shape = self.described();
        shape.read_only = (self.mode == Mode::Fixed).then_some(true);
        // Imports may store more keys, and readers need not check patterns.
        (shape.max_properties, shape.pattern) = (None, None);
        shape
    }

    /// The schema of the field in requests. All but required fields can be cleared, a string also by an empty
    /// string. The description names the default: generators take a field with a `default` for a required one,
    /// or send the default themselves.
    pub(crate) fn written(&self, default: Option<Value>) -> Schema {
        let mut shape = self.described();
        if let (Some(default), Some(about)) = (default, &mut shape.description) {
            let default = default.as_str().map_or_else(|| default.to_string(), str::to_owned);
            *about += &format!("\n\nDefaults to `{default}`.");
        }
        match self.mode {
            Mode::Required => shape.into(),
            Mode::Defaulted(_) | Mode::Composed => or_empty(nullable(shape)),
            Mode::Optional | Mode::Fixed => or_empty(shape),
        }
    }

    /// The default to document; a default time is the time of the request, and so is left out.
    pub(crate) fn default(&self) -> Option<Value> {
        match &self.mode {
            Mode::Defaulted(default) if self.shape.format.is_none() => Some(default.clone()),
            _ => None,
        }
    }
}

/// The schema of a field that can be cleared: by `null`, or by an empty string if it is a string.
pub fn clearable(shape: Object) -> Schema {
    or_empty(nullable(shape))
}

/// The same schema, also accepting an empty string if it is a string.
fn or_empty(mut shape: Object) -> Schema {
    if let Some(words) = &mut shape.enum_values {
        words.push("".into());
    } else if let Some(pattern) = shape.pattern {
        shape.min_length = None;
        shape.pattern = Some(format!("^(|{})$", pattern.trim_matches(['^', '$'])));
    } else if shape.format.is_some() {
        let (about, empty) = (shape.description.take(), string().max_length(Some(0)));
        return AnyOfBuilder::new().item(shape).item(empty).description(about).build().into();
    }
    shape.into()
}
