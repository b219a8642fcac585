//! Schemas of request and response bodies.

use serde_json::Value;
use shared::error::FieldError;
use shared::jobs;
use shared::queue::Job;
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::request_body::{RequestBody, RequestBodyBuilder};
use utoipa::openapi::schema::{AllOfBuilder, ArrayBuilder, ObjectBuilder, Schema, Type};
use utoipa::openapi::{Content, Object, Ref, RefOr, Required};
use utoipa::{PartialSchema, ToSchema};

/// The schemas of a response type and of all types it refers to, by name.
///
/// Responses contain every field, `null` when unset, so all fields are required.
pub(crate) fn of<T: ToSchema>() -> Vec<(String, RefOr<Schema>)> {
    let mut schemas = vec![(T::name().into_owned(), <T as PartialSchema>::schema())];
    T::schemas(&mut schemas);
    for (name, schema) in &mut schemas {
        if let RefOr::T(Schema::Object(object)) = schema {
            object.required = object.properties.keys().cloned().collect();
            // The queue does not know which kinds of jobs exist.
            if *name == Job::name()
                && let Some(RefOr::T(Schema::Object(kind))) = object.properties.get_mut("kind")
            {
                kind.enum_values = Some(jobs::NAMES.map(Value::from).to_vec());
            }
            // Only some faults name a conflicting record.
            if *name == FieldError::name() {
                object.required.retain(|field| field != "id");
            }
        }
    }
    schemas
}

pub(crate) fn reference(name: &str) -> RefOr<Schema> {
    Ref::from_schema_name(name).into()
}

pub(crate) fn array(of: &str) -> RefOr<Schema> {
    ArrayBuilder::new().items(reference(of)).into()
}

/// A report, and with `compare` its figures of another period.
pub(crate) fn with_comparison(name: &str) -> RefOr<Schema> {
    let comparison = ObjectBuilder::new().property("comparison", reference(name));
    AllOfBuilder::new().item(reference(name)).item(comparison).into()
}

pub(crate) fn text() -> RefOr<Schema> {
    Object::with_type(Type::String).into()
}

/// A form whose only part is a file.
pub(crate) fn file() -> RefOr<Schema> {
    let part = ObjectBuilder::new()
        .schema_type(Type::String)
        .content_media_type("text/csv")
        .description(Some("The CSV file. Its delimiter, encoding and headers are detected."))
        .examples(["First Name,Last Name,E-mail\nAda,Lovelace,ada@example.com\n"]);
    ObjectBuilder::new().property("file", part).required("file").into()
}

pub(crate) fn content(schema: RefOr<Schema>) -> Content {
    Content::new(Some(schema))
}

pub(crate) fn content_like(schema: RefOr<Schema>, example: Value) -> Content {
    ContentBuilder::new().schema(Some(schema)).example(Some(example)).build()
}

pub(crate) fn body(kind: &str, schema: RefOr<Schema>) -> RequestBody {
    RequestBodyBuilder::new().content(kind, content(schema)).required(Some(Required::True)).build()
}

/// A form in the encodings of browsers and of email programs.
pub(crate) fn forms(schema: RefOr<Schema>) -> RequestBody {
    RequestBodyBuilder::new()
        .content("application/x-www-form-urlencoded", content(schema.clone()))
        .content("multipart/form-data", content(schema))
        .build()
}
