//! Schemas of request and response bodies.

use serde_json::Value;
use shared::records::schema::DELETED_AT;
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::request_body::{RequestBody, RequestBodyBuilder};
use utoipa::openapi::schema::{AllOfBuilder, ArrayBuilder, KnownFormat, ObjectBuilder, Schema, SchemaFormat, Type};
use utoipa::openapi::{Content, Object, Ref, RefOr, Required};
use utoipa::{PartialSchema, ToSchema};

use super::jobs;

/// The schemas of a response type and of all types it refers to, by name.
///
/// Responses contain every field, `null` when unset, so all fields are required.
pub(crate) fn of<T: ToSchema>() -> Vec<(String, RefOr<Schema>)> {
    if T::name() == jobs::ANY {
        // The queue does not know which kinds of jobs exist.
        return jobs::schemas();
    }
    let mut schemas = vec![(T::name().into_owned(), <T as PartialSchema>::schema())];
    T::schemas(&mut schemas);
    complete(schemas)
}

/// Makes all fields required that responses always contain.
pub(crate) fn complete(mut schemas: Vec<(String, RefOr<Schema>)>) -> Vec<(String, RefOr<Schema>)> {
    for (name, schema) in &mut schemas {
        if let RefOr::T(Schema::Object(object)) = schema {
            let always = object.properties.keys().filter(|field| !is_optional(name, field));
            object.required = always.cloned().collect();
            // Defaults are for writers; a response has the value itself.
            for property in object.properties.values_mut() {
                match property {
                    RefOr::T(Schema::Object(property)) => property.default = None,
                    RefOr::T(Schema::Array(property)) => property.default = None,
                    _ => {}
                }
            }
        }
    }
    schemas
}

fn is_optional(schema: &str, field: &str) -> bool {
    field == DELETED_AT || OPTIONAL.contains(&(schema, field))
}

/// The fields that responses leave out if they have no value, each with its schema.
const OPTIONAL: &[(&str, &str)] = &[
    ("FeedbackRemindersResult", "preview"),
    ("FeedbackRequestResult", "skipped"),
    ("FieldError", "id"),
    ("FollowupsResult", "preview"),
    ("NurtureResult", "preview"),
    ("ThemesResult", "dry_run"),
    ("ThemesResult", "preview"),
];

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
    // Generators recognize a file by this format, although OpenAPI 3.1 no longer defines it.
    let part = ObjectBuilder::new()
        .schema_type(Type::String)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Binary)))
        .description(Some("The file: CSV, JSON Lines, an Excel workbook (.xlsx), or one of them compressed with gzip."))
        .examples(["First Name,Last Name,E-mail\nAda,Lovelace,ada@example.com\n"]);
    ObjectBuilder::new().description(Some("A form with a file.")).property("file", part).required("file").into()
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

/// The bytes of a file; perhaps in a form, or nothing.
pub(crate) fn bytes(may_be_form: bool) -> RequestBody {
    let bytes = ObjectBuilder::new()
        .schema_type(Type::String)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Binary)))
        .description(Some("The bytes of the file."));
    let body = RequestBodyBuilder::new().content("application/octet-stream", content(bytes.into()));
    match may_be_form {
        true => body.content("multipart/form-data", content(reference("FileUpload"))).required(Some(Required::False)),
        false => body.required(Some(Required::True)),
    }
    .build()
}

/// A form in the encodings of browsers and of email programs.
pub(crate) fn forms(schema: RefOr<Schema>) -> RequestBody {
    RequestBodyBuilder::new()
        .content("application/x-www-form-urlencoded", content(schema.clone()))
        .content("multipart/form-data", content(schema))
        .build()
}
