//! Headers of answers, each described once.

use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::schema::{Object, Type};
use utoipa::openapi::{Header, Ref};

/// Every answer has it.
pub(crate) const ALWAYS: &[&str] = &["X-Request-Id"];
/// Every answer to a key has them, if keys are limited.
pub(crate) const LIMITED: &[&str] = &["RateLimit", "RateLimit-Policy"];

const ALL: &[(&str, &str, &str)] = &[
    (
        "X-Request-Id",
        "The id of the request: the caller's own, or one made for it.",
        "019ab3f2-6b1e-7c3a-9f52-3d8c1e0a7b44",
    ),
    (
        "Location",
        "Where the record, or the job, is found from now on.",
        "/dev/crm/jobs/019ab3f2-6b1e-7c3a-9f52-3d8c1e0a7b44",
    ),
    ("ETag", "The version of what is answered, for `If-Match` and `If-None-Match`.", "\"5f2c9a01\""),
    ("Link", "The next page, while there is one.", "</dev/crm/leads?limit=10&cursor=eyJrZXk>; rel=\"next\""),
    ("X-Total-Count", "How many records there are on all pages, if `count=true` asked for it.", "1234"),
    ("Idempotent-Replayed", "`true` if this is the answer that was given before for the `Idempotency-Key`.", "true"),
    ("Content-Disposition", "The name under which to save the file.", "attachment; filename=\"leads.csv\""),
    ("WWW-Authenticate", "How to authenticate.", "Bearer"),
    ("Retry-After", "After how many seconds to try again.", "1"),
    (
        "RateLimit",
        "How many requests of the key are left, and in how many seconds all are again; if keys are limited.",
        "\"default\";r=99;t=1",
    ),
    (
        "RateLimit-Policy",
        "How many requests a key has, and for how many seconds; if keys are limited.",
        "\"default\";q=100;w=60",
    ),
];

/// All of them, by their names.
pub(crate) fn all() -> impl Iterator<Item = (&'static str, Header)> {
    ALL.iter().map(|&(name, about, example)| {
        let schema = Object::with_type(if example.parse::<u64>().is_ok() { Type::Integer } else { Type::String });
        let example = example.parse::<u64>().map_or_else(|_| example.into(), Into::into);
        (name, HeaderBuilder::new().description(Some(about)).schema(Some(schema)).example(Some(example)).build())
    })
}

/// One of them.
pub(crate) fn reference(name: &str) -> Ref {
    Ref::new(format!("#/components/headers/{name}"))
}
