//! Responses. Errors become responses only here.

pub mod accept;
pub mod export;
pub mod lists;
pub mod reply;
pub mod streams;
pub mod write;

use std::borrow::Cow;
use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, ETAG, RETRY_AFTER, WWW_AUTHENTICATE,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use shared::accounts::scopes::{Scope, Scopes};
use shared::error::{Error, FieldError, Reason};
use shared::platform::telemetry::LogLimit;

use crate::http::arrival::Stalled;
use crate::pages::Page;

/// The result of handlers.
pub type Result<T = Response, E = Problem> = std::result::Result<T, E>;

/// An error response.
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    message: Cow<'static, str>,
    errors: Vec<FieldError>,
    /// The scopes that the key lacks.
    lacked: Scopes,
    /// Seconds after which a retry may succeed.
    retry_after: Option<u64>,
    /// The oldest cursor of the feed that can be read.
    oldest_cursor: Option<i64>,
    /// For the log only.
    detail: Option<Arc<str>>,
}

#[derive(Serialize)]
struct Body<'a> {
    message: &'a str,
    #[serde(skip_serializing_if = "Errors::is_empty")]
    errors: Errors<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest_cursor: Option<i64>,
}

/// What is wrong with a request.
#[derive(Serialize)]
#[serde(untagged)]
enum Errors<'a> {
    Fields(&'a [FieldError]),
    Scopes(Vec<LackedScope>),
}

impl Errors<'_> {
    fn is_empty(&self) -> bool {
        matches!(self, Self::Fields([]))
    }
}

/// A scope that the key lacks.
#[derive(Serialize)]
struct LackedScope {
    code: &'static str,
    field: Scope,
}

/// The detail of a 500 for the log; an extension of the response.
#[derive(Debug, Clone)]
pub(crate) struct Detail(Arc<str>);

impl Problem {
    /// An error with a status and a message.
    pub fn new(status: StatusCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            message: message.into(),
            errors: Vec::new(),
            lacked: Scopes::NONE,
            retry_after: None,
            oldest_cursor: None,
            detail: None,
        }
    }

    /// 400 with the faults of the input.
    pub fn invalid(errors: Vec<FieldError>) -> Self {
        Self { errors, ..Self::new(StatusCode::BAD_REQUEST, "Invalid request parameters") }
    }

    /// 401.
    pub fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "Invalid or missing API key")
    }

    /// 403 for a key that lacks these scopes.
    pub fn forbidden(lacked: Scopes) -> Self {
        let words: Vec<&str> = lacked.iter().map(Scope::as_str).collect();
        let message = format!("This API key does not allow {}", words.join(" and "));
        Self { lacked, ..Self::new(StatusCode::FORBIDDEN, message) }
    }

    /// 403 for the keys of a suspended workspace.
    pub fn suspended() -> Self {
        Self::new(StatusCode::FORBIDDEN, "Workspace is suspended")
    }

    /// 404.
    pub fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "Resource not found")
    }

    /// 408 for a body that did not arrive in time.
    pub fn stalled() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "Request body did not arrive in time")
    }

    /// 410 for a cursor that is older than the oldest event that is kept.
    pub fn gone(oldest: i64) -> Self {
        let message = "Events after this cursor have been deleted; read from oldest_cursor";
        Self { oldest_cursor: Some(oldest), ..Self::new(StatusCode::GONE, message) }
    }

    /// 413.
    pub fn too_large() -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "Request body too large")
    }

    /// 409 for an idempotency key whose request is still running.
    pub fn running() -> Self {
        let message = "A request with this idempotency key is still running";
        let reason = FieldError::new("Idempotency-Key", Reason::RequestRunning.code(), "is used by a running request");
        Self { errors: vec![reason], ..Self::new(StatusCode::CONFLICT, message) }
    }

    /// Whether it is a conflict.
    pub fn is_conflict(&self) -> bool {
        self.status == StatusCode::CONFLICT
    }

    /// 409; callers add the reason.
    fn conflict() -> Self {
        Self::new(StatusCode::CONFLICT, "Resource already exists")
    }

    /// 414.
    pub fn url_too_long() -> Self {
        Self::new(
            StatusCode::URI_TOO_LONG,
            "URL too long: the limit is 16 KiB, of which 512 bytes are reserved for a cursor",
        )
    }

    /// 415.
    pub fn unsupported(expected: &str) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, format!("Content-Type must be {expected}"))
    }

    /// 415 for a body with a `Content-Encoding`.
    pub fn encoded() -> Self {
        let message = "Content-Encoding is not supported; send the body uncompressed";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message)
    }

    /// 422 for an idempotency key that was used with a different request.
    pub fn other_request() -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Idempotency key was used with a different request")
    }

    /// 429 with the seconds to wait.
    pub fn too_many(seconds: u64) -> Self {
        let problem = Self::new(StatusCode::TOO_MANY_REQUESTS, "Too many requests");
        Self { retry_after: Some(seconds), ..problem }
    }

    /// 500. The detail is logged, and never sent to the client.
    pub fn internal(detail: impl Into<Arc<str>>) -> Self {
        let problem = Self::new(StatusCode::INTERNAL_SERVER_ERROR, "Internal server error");
        Self { detail: Some(detail.into()), ..problem }
    }

    /// What is wrong, for the log only.
    pub(crate) fn detail(&self) -> Option<Detail> {
        self.detail.clone().map(Detail)
    }

    /// The response's status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The response's body.
    pub fn body(&self) -> impl Serialize + use<'_> {
        let errors = match self.lacked.is_empty() {
            true => Errors::Fields(&self.errors),
            false => Errors::Scopes(self.lacked.iter().map(|field| LackedScope { code: "scope", field }).collect()),
        };
        Body { message: &self.message, errors, request_id: None, oldest_cursor: self.oldest_cursor }
    }

    /// 503.
    pub fn unavailable(message: impl Into<Cow<'static, str>>) -> Self {
        Self { retry_after: Some(1), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, message) }
    }
}

static UNAVAILABLE: LogLimit = LogLimit::new(Duration::from_secs(10));

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::NotFound => Self::not_found(),
            Error::Missing(reason) => Self { errors: vec![*reason], ..Self::not_found() },
            Error::Conflict(conflict) => Self { errors: vec![conflict.error], ..Self::conflict() },
            Error::Forbidden(lacked) => Self::forbidden(lacked.into_iter().filter_map(Scope::from_word).collect()),
            Error::Changed => Self::new(StatusCode::PRECONDITION_FAILED, "Resource has changed since it was read"),
            Error::Invalid(errors) => Self::invalid(errors),
            Error::TooLarge => Self::too_large(),
            Error::TooOld { oldest } => Self::gone(oldest),
            Error::Unavailable(_) | Error::Repeat(_) => {
                // Every request gets here while the database is unavailable, so the log is rate
                // limited.
                match UNAVAILABLE.allows() {
                    Some(left_out) => tracing::warn!(%error, left_out, "answered with 503"),
                    None => tracing::debug!(%error, "answered with 503"),
                }
                Self::unavailable("Service temporarily unavailable")
            }
            Error::Superseded | Error::Internal(_) => Self::internal(error.to_string()),
        }
    }
}

/// Whether a body could not be read because it did not arrive in time.
pub(crate) fn is_stalled(error: &(dyn StdError + 'static)) -> bool {
    error.is::<Stalled>() || error.source().is_some_and(is_stalled)
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body())).into_response();
        if let Some((name, value)) = match self.status {
            StatusCode::UNAUTHORIZED => Some((WWW_AUTHENTICATE, "Bearer")),
            // The rest of the body is not read.
            StatusCode::REQUEST_TIMEOUT | StatusCode::PAYLOAD_TOO_LARGE => Some((CONNECTION, "close")),
            _ => None,
        } {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(detail) = self.detail {
            response.extensions_mut().insert(Detail(detail));
        }
        response
    }
}

/// The fallback for unknown paths.
pub async fn not_found() -> Problem {
    Problem::not_found()
}

/// Completes every response: headers for browsers and caches, and errors as JSON.
pub(crate) fn finish(response: Response, request_id: &str) -> Response {
    let mut response = finish_error(response, request_id);
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if !headers.contains_key(CACHE_CONTROL) {
        // With an `ETag`, clients may cache the response but must revalidate it.
        let caching = if headers.contains_key(ETAG) { "no-cache" } else { "no-store" };
        headers.insert(CACHE_CONTROL, HeaderValue::from_static(caching));
    }
    response
}

/// Turns errors into JSON, including the framework's, unless they are HTML pages. A 500 is logged
/// with its detail and shows the client only the request's id.
fn finish_error(response: Response, request_id: &str) -> Response {
    let status = response.status();
    let is_json = response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
    let is_page = response.extensions().get::<Page>().is_some();
    if status == StatusCode::INTERNAL_SERVER_ERROR {
        let detail = response.extensions().get::<Detail>().map_or("", |Detail(detail)| detail);
        tracing::error!(detail, "answered with 500");
        if is_page { response } else { replace_body(response, "Internal server error", Some(request_id)) }
    } else if (status.is_client_error() || status.is_server_error()) && !is_json && !is_page {
        replace_body(response, status.canonical_reason().unwrap_or("Error"), None)
    } else {
        response
    }
}

/// Keeps the headers, such as `Allow` of a 405.
fn replace_body(response: Response, message: &str, request_id: Option<&str>) -> Response {
    let (mut head, _) = response.into_parts();
    head.headers.remove(CONTENT_LENGTH);
    head.headers.remove(CONTENT_TYPE);
    let body = Json(Body { message, errors: Errors::Fields(&[]), request_id, oldest_cursor: None }).into_response();
    (head.status, head.headers, body).into_response()
}
