//! Cross-origin requests from browsers, for the origins in `api.cors_origins`.

use axum::body::Body;
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use axum::http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use axum::response::{IntoResponse, Response};
use shared::platform::config::Origin;

use crate::pages::Page;

const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
/// The headers that requests may have; the API reads no others.
const HEADERS: &str =
    "Accept, Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, Prefer, X-Request-Id";
/// The headers of responses that scripts may read.
const EXPOSED: &str = "ETag, Link, Location, X-Next-Cursor, X-Total-Count, X-Request-Id, Idempotent-Replayed, \
                       Preference-Applied, Retry-After, RateLimit, RateLimit-Policy";
/// How long browsers may remember a preflight, in seconds.
const MAX_AGE: &str = "600";

/// What a browser is told about a request from another origin.
#[derive(Debug, Clone)]
pub(crate) struct Cors {
    is_enabled: bool,
    /// The origin of the request, if it is allowed.
    allowed: Option<HeaderValue>,
}

impl Cors {
    /// Checks the origin of a request.
    pub fn of(origins: &[Origin], headers: &HeaderMap) -> Self {
        let origin = headers.get(ORIGIN).filter(|_| !origins.is_empty());
        let is_allowed = |origin: &&HeaderValue| origins.iter().any(|allowed| allowed.allows(origin.as_bytes()));
        Self { is_enabled: !origins.is_empty(), allowed: origin.filter(is_allowed).cloned() }
    }

    /// The response to the preflight of an allowed origin. Browsers send it without a key.
    pub fn preflight(&self, request: &Request<Body>) -> Option<Response> {
        let is_preflight = request.method() == Method::OPTIONS
            && self.allowed.is_some()
            && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD);
        let headers = [
            (ACCESS_CONTROL_ALLOW_METHODS, METHODS),
            (ACCESS_CONTROL_ALLOW_HEADERS, HEADERS),
            (ACCESS_CONTROL_MAX_AGE, MAX_AGE),
        ];
        is_preflight.then(|| (StatusCode::NO_CONTENT, headers).into_response())
    }

    /// Lets scripts of an allowed origin read a response. Pages are for people only.
    pub fn expose(self, mut response: Response) -> Response {
        if !self.is_enabled || response.extensions().get::<Page>().is_some() {
            return response;
        }
        let headers = response.headers_mut();
        headers.append(VARY, HeaderValue::from_static("origin"));
        if let Some(origin) = self.allowed {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
        }
        response
    }
}
