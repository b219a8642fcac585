//! Descriptions of error responses.

use axum::http::StatusCode;
use serde_json::json;
use shared::accounts::scopes::{Scope, Scopes};
use shared::error::{Error, FieldError, NOT_FOUND, Reason};
use shared::values::json_schema::Shape;
use utoipa::openapi::schema::{ArrayBuilder, KnownFormat, ObjectBuilder, Schema, SchemaFormat, Type};
use utoipa::openapi::{RefOr, Response, ResponseBuilder};
use uuid::Uuid;

use super::{examples, headers, schemas};
use crate::openapi::operations::HTML;
use crate::respond::Problem;

/// The name of the schema of every error's body.
pub(crate) const NAME: &str = "Problem";

/// The errors of every operation, and the additional ones of operations that need a key.
pub(crate) const ANY: &[u16] = &[414, 500, 503];
pub(crate) const WITH_KEY: &[u16] = &[400, 401, 429];
/// The additional errors of operations that need no key.
pub(crate) const OPEN: &[u16] = &[429];

/// The schemas of errors.
pub(crate) fn schemas() -> Vec<(String, RefOr<Schema>)> {
    let string = |about: &str| ObjectBuilder::new().schema_type(Type::String).description(Some(about)).build();
    let faults = ArrayBuilder::new().items(schemas::reference("FieldError"));
    let problem = ObjectBuilder::new()
        .description(Some("Why a request failed."))
        .property("message", string("The reason, for humans."))
        .property(
            "errors",
            faults.description(Some("Every fault of the input, not only the first; for a conflict, its reason.")),
        )
        .property("request_id", string("The request's id, for finding an internal error in the log."))
        .property(
            "oldest_cursor",
            ObjectBuilder::new()
                .schema_type(Type::Integer)
                .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
                .description(Some("For a cursor of the feed that is too old: the oldest one that can be read.")),
        )
        .required("message");
    let mut all = schemas::of::<FieldError>();
    all.push((NAME.to_owned(), problem.into()));
    all
}

/// The component of a status, with its name.
pub(crate) fn component(status: u16) -> (String, Response) {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let name = status.canonical_reason().unwrap_or_default().replace([' ', '-'], "");
    (name, response(status, schemas::reference(NAME), &example(status)))
}

/// The component of a 403, with its name.
pub(crate) fn forbidden() -> (String, Response) {
    let string = |about: &str| ObjectBuilder::new().schema_type(Type::String).description(Some(about));
    let scope = ObjectBuilder::new()
        .property("code", string("Always `scope`.").enum_values(Some(["scope"])))
        .property("field", Scope::shape())
        .required("code")
        .required("field");
    let scopes = ArrayBuilder::new()
        .items(scope)
        .description(Some("The scopes that the key lacks; absent if the workspace is suspended."));
    let body = ObjectBuilder::new()
        .property("message", string("What the key does not allow, or that its workspace is suspended, for humans."))
        .property("errors", scopes)
        .required("message");
    let example = Problem::forbidden(Scopes::of(&[Scope::RecordsWrite]));
    ("Forbidden".to_owned(), response(StatusCode::FORBIDDEN, body.into(), &example))
}

/// The component of a status whose `errors`, if present, have one of these codes.
pub(crate) fn component_with(status: u16, codes: &[&'static str]) -> (String, Response) {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let words = codes.iter().flat_map(|code| code.split('_'));
    let words = words.map(|word| word[..1].to_ascii_uppercase() + &word[1..]);
    let prefix = if status == StatusCode::CONFLICT { "Conflict" } else { "Reference" };
    let name = prefix.to_owned() + &words.collect::<String>();
    let string = |about: &str| ObjectBuilder::new().schema_type(Type::String).description(Some(about));
    let reason = ObjectBuilder::new()
        .property("field", string("The field concerned."))
        .property("code", string("The reason, for programs.").enum_values(Some(codes.iter().copied())))
        .property("message", string("The reason, for humans."))
        .property("id", string("The id of what is in the way.").format(Some(UUID)))
        .required("field")
        .required("code")
        .required("message");
    let reasons = ArrayBuilder::new().items(reason).description(Some("The reason."));
    let body = ObjectBuilder::new()
        .property("message", string("What happened, for humans."))
        .property("errors", reasons)
        .required("message");
    let example = match codes {
        ["taken", ..] => {
            let id = Uuid::try_parse(examples::ID).unwrap_or_default();
            Error::conflict_with(id, Reason::Taken, "email", "another lead has this email").into()
        }
        [NOT_FOUND, ..] => Error::missing("customer_id").into(),
        _ => example(status),
    };
    (name, response(status, body.into(), &example))
}

const UUID: SchemaFormat = SchemaFormat::KnownFormat(KnownFormat::Uuid);

fn response(status: StatusCode, schema: RefOr<Schema>, example: &Problem) -> Response {
    let content = schemas::content_like(schema, json!(example.body()));
    let response = ResponseBuilder::new().description(about(status)).content("application/json", content);
    let response = own_headers(status)
        .iter()
        .chain(headers::ALWAYS)
        .fold(response, |response, header| response.header_ref(*header, headers::reference(header)));
    response.build()
}

/// The description of an error that is an HTML page.
pub(crate) fn page(status: u16) -> Response {
    let about = match status {
        404 => "The link is invalid, or its record no longer exists.",
        status => about(StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)),
    };
    let response = ResponseBuilder::new()
        .description(about)
        .content(HTML, schemas::content_like(schemas::text(), examples::PAGE.into()));
    let response = headers::ALWAYS
        .iter()
        .fold(response, |response, header| response.header_ref(*header, headers::reference(header)));
    response.build()
}

fn example(status: StatusCode) -> Problem {
    match status {
        StatusCode::BAD_REQUEST => {
            Problem::invalid(vec![FieldError::new("score", "out_of_range", "must be between 0 and 100")])
        }
        StatusCode::UNAUTHORIZED => Problem::unauthorized(),
        StatusCode::NOT_FOUND => Problem::not_found(),
        StatusCode::REQUEST_TIMEOUT => Problem::stalled(),
        StatusCode::CONFLICT => Problem::running(),
        StatusCode::GONE => Problem::gone(1_795_940_000_000_000),
        StatusCode::PRECONDITION_FAILED => Error::Changed.into(),
        StatusCode::UNPROCESSABLE_ENTITY => Problem::other_request(),
        StatusCode::PAYLOAD_TOO_LARGE => Problem::too_large(),
        StatusCode::URI_TOO_LONG => Problem::url_too_long(),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => Problem::unsupported("application/json"),
        StatusCode::TOO_MANY_REQUESTS => Problem::too_many(1),
        StatusCode::SERVICE_UNAVAILABLE => Problem::unavailable("Service temporarily unavailable"),
        StatusCode::INTERNAL_SERVER_ERROR => Problem::internal(""),
        _ => Problem::new(status, status.canonical_reason().unwrap_or_default()),
    }
}

fn about(status: StatusCode) -> &'static str {
    match status {
        StatusCode::BAD_REQUEST => "The request is invalid; every fault is listed.",
        StatusCode::UNAUTHORIZED => "The key is missing, unknown, expired or revoked.",
        StatusCode::FORBIDDEN => "The key lacks a scope that the operation needs.",
        StatusCode::NOT_FOUND => "The record, or one that the body refers to, does not exist in the key's workspace.",
        StatusCode::REQUEST_TIMEOUT => "The body did not arrive in time.",
        StatusCode::CONFLICT => "The record already exists, or another condition prevents the operation.",
        StatusCode::GONE => "The cursor is older than the oldest event that is kept.",
        StatusCode::PRECONDITION_FAILED => "The record has changed since the version in `If-Match`.",
        StatusCode::PAYLOAD_TOO_LARGE => "The body exceeds the size limit.",
        StatusCode::URI_TOO_LONG => {
            "The URL is longer than 16 KiB, or leaves less than 512 bytes of that for a cursor."
        }
        StatusCode::UNSUPPORTED_MEDIA_TYPE => "The operation does not accept this media type or encoding.",
        StatusCode::UNPROCESSABLE_ENTITY => "The `Idempotency-Key` was used with a different request.",
        StatusCode::TOO_MANY_REQUESTS => {
            "The key has exceeded its rate limit, or the address has sent too many requests."
        }
        StatusCode::SERVICE_UNAVAILABLE => "The database is unavailable, or the request took too long. Retry later.",
        _ => "An internal error; the log has the details under the request's id.",
    }
}

fn own_headers(status: StatusCode) -> &'static [&'static str] {
    match status {
        StatusCode::UNAUTHORIZED => &["WWW-Authenticate"],
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => &["Retry-After"],
        _ => &[],
    }
}
