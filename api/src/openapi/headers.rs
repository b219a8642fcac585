//! Descriptions of response headers.

use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::schema::{Object, Type};
use utoipa::openapi::{Header, Ref};

/// The headers of every response.
pub(crate) const ALWAYS: &[&str] = &["X-Request-Id"];
/// The headers of every response to a request with a key, if keys are rate limited.
pub(crate) const LIMITED: &[&str] = &["RateLimit", "RateLimit-Policy"];

const ALL: &[(&str, &str, &str)] = &[
    (
        "X-Request-Id",
        "The id of the request: the client's own, or a generated one.",
        "019ab3f2-6b1e-7c3a-9f52-3d8c1e0a7b44",
    ),
    ("Location", "The path of the record or the job.", "/dev/crm/jobs/019ab3f2-6b1e-7c3a-9f52-3d8c1e0a7b44"),
    ("ETag", "The version of the resource, for `If-Match` and `If-None-Match`.", "\"5f2c9a01\""),
    (
        "Link",
        "The next page, if there is one; absolute if the server has a public URL.",
        "</dev/crm/leads?limit=10&cursor=eyJrZXk>; rel=\"next\"",
    ),
    ("X-Next-Cursor", "The `cursor` of the next page, if there is one.", "eyJrZXk"),
    ("X-Total-Count", "The number of records on all pages, with `count=true`.", "1234"),
    (
        "Idempotent-Replayed",
        "`true` if this is the stored response to an earlier request with the same `Idempotency-Key`.",
        "true",
    ),
    ("Preference-Applied", "`wait=N` if the request has waited for the job.", "wait=10"),
    ("Upload-Offset", "The number of bytes of the upload that have arrived.", "1048576"),
    ("Content-Disposition", "The suggested file name.", "attachment; filename=\"leads.csv\""),
    ("WWW-Authenticate", "The authentication scheme.", "Bearer"),
    ("Retry-After", "The seconds to wait before retrying.", "1"),
    (
        "RateLimit",
        "The requests left for the key (`r`), and the seconds until all are available again (`t`); present if keys are rate limited.",
        "\"default\";r=99;t=1",
    ),
    (
        "RateLimit-Policy",
        "The requests of a key (`q`) per window in seconds (`w`); present if keys are rate limited.",
        "\"default\";q=100;w=60",
    ),
];

/// All headers by name.
pub(crate) fn all() -> impl Iterator<Item = (&'static str, Header)> {
    ALL.iter().map(|&(name, about, example)| {
        let schema = Object::with_type(if example.parse::<u64>().is_ok() { Type::Integer } else { Type::String });
        let example = example.parse::<u64>().map_or_else(|_| example.into(), Into::into);
        (name, HeaderBuilder::new().description(Some(about)).schema(Some(schema)).example(Some(example)).build())
    })
}

/// A reference to a header's component.
pub(crate) fn reference(name: &str) -> Ref {
    Ref::new(format!("#/components/headers/{name}"))
}
