//! Headers that decide what a request does. A repeated or unreadable one is rejected, never
//! ignored.

use axum::http::HeaderMap;
use axum::http::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HOST, HeaderName, IF_MATCH, IF_NONE_MATCH,
};
use shared::error::FieldError;

use crate::respond::{Problem, Result};

/// The header that makes repeated requests safe.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The headers with a single value, with their conventional spelling.
const ONCE: [(HeaderName, &str); 5] = [
    (AUTHORIZATION, "Authorization"),
    (HOST, "Host"),
    (IDEMPOTENCY_KEY, "Idempotency-Key"),
    (IF_MATCH, "If-Match"),
    (CONTENT_TYPE, "Content-Type"),
];
/// The headers that are lists and may be split over several lines.
const LISTS: [(HeaderName, &str); 4] = [
    (IF_NONE_MATCH, "If-None-Match"),
    (CONTENT_ENCODING, "Content-Encoding"),
    (ACCEPT, "Accept"),
    (ACCEPT_ENCODING, "Accept-Encoding"),
];

/// Rejects a request with two `Authorization` headers, or an unreadable one.
///
/// # Errors
/// 400.
pub fn check_authorization(headers: &HeaderMap) -> Result<()> {
    let [authorization, ..] = ONCE;
    fault(headers, &authorization, true).map_or(Ok(()), |fault| Err(Problem::invalid(vec![fault])))
}

/// Rejects a request in which one of these headers is repeated or unreadable.
///
/// # Errors
/// 400 with every such header.
pub fn check(headers: &HeaderMap) -> Result<()> {
    let once = ONCE.into_iter().filter_map(|header| fault(headers, &header, true));
    let lists = LISTS.into_iter().filter_map(|header| fault(headers, &header, false));
    let faults: Vec<FieldError> = once.chain(lists).collect();
    if faults.is_empty() { Ok(()) } else { Err(Problem::invalid(faults)) }
}

fn fault(headers: &HeaderMap, (header, name): &(HeaderName, &str), once: bool) -> Option<FieldError> {
    if once && headers.get_all(header).iter().nth(1).is_some() {
        return Some(FieldError::new(*name, "duplicate", "must be given only once"));
    }
    let is_unreadable = headers.get_all(header).iter().any(|value| value.to_str().is_err());
    is_unreadable.then(|| FieldError::new(*name, "invalid", "must have visible ASCII characters only"))
}
