//! Observability of every request: its id, its log line, its metrics, and a response if its handler
//! panics.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request};
use axum::http::header::HOST;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use shared::accounts::api_keys::authentication::Opened;
use shared::error::FieldError;
use shared::platform::trace::{self, Kind, Span as Trace, TraceContext};
use tracing::{Instrument, Span};
use uuid::Uuid;

use crate::http::metrics::HttpMetrics;
use crate::http::peer::Client;
use crate::respond::{self, Problem};

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// The maximum number of headers in a request.
const MAX_HEADERS: usize = 90;
/// Larger heads get a 431, which bounds the memory of connections.
const MAX_HEAD_BYTES: usize = 32 * 1024;

/// The id of a request; an extension of the request.
#[derive(Clone, Debug, Default)]
pub struct RequestId(pub String);

/// The session of the console in which a page was visited; an extension of the response.
#[derive(Clone, Copy, Debug)]
pub struct SessionId(pub Uuid);

/// Gives a request its id and its span, logs and counts it, and turns a panic into a 500.
pub async fn observe<Answer: Future<Output = Response>>(
    metrics: &HttpMetrics,
    mut request: Request,
    answer: impl FnOnce(Request) -> Answer,
) -> Response {
    let (begun, _in_flight) = (Instant::now(), metrics.begin());
    let id = request_id(request.headers());
    let method = known(request.method());
    let matched = request.extensions().get::<MatchedPath>().cloned();
    let route = matched.as_ref().map_or("unmatched", MatchedPath::as_str);
    let trace = trace_of(&request, method, route, &id);
    // At level error, so that every log filter that shows an error also shows its request id.
    let span = tracing::error_span!("request", request_id = id, trace_id = trace.trace_id());
    request.extensions_mut().insert(RequestId(id.clone()));
    let client = request.extensions().get().copied();
    let answer = async {
        if let Some(problem) = fault_of_head(&request) {
            return problem.into_response();
        }
        let answer = AssertUnwindSafe(answer(request)).catch_unwind().await;
        answer.unwrap_or_else(|_| Problem::internal("the handler panicked").into_response())
    };
    let context = trace.context().cloned();
    let mut unanswered = Unanswered { metrics, method, route, span: &span, trace };
    let answer = trace::scope(context, answer).instrument(span.clone()).await;
    let trace = std::mem::replace(&mut unanswered.trace, Trace::none());
    std::mem::forget(unanswered);
    let _in_span = span.enter();
    let mut answer = respond::finish(answer, &id);
    record(method, route, client, &answer, begun.elapsed());
    end(trace, &answer);
    metrics.answered(method, route, answer.status(), begun.elapsed());
    if let Ok(id) = HeaderValue::try_from(id) {
        answer.headers_mut().insert(X_REQUEST_ID, id);
    }
    answer
}

/// Checks the head of every request. The limits are below those of hyper's parser, whose responses
/// are less specific.
fn fault_of_head(request: &Request) -> Option<Problem> {
    let headers = request.headers();
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if headers.len() > MAX_HEADERS || bytes + request.uri().path().len() > MAX_HEAD_BYTES {
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        return Some(Problem::new(status, "Request headers too large"));
    }
    if request.version() == Version::HTTP_11 && !headers.contains_key(HOST) {
        return Some(Problem::invalid(vec![FieldError::new("Host", "required", "must be given")]));
    }
    None
}

/// A request without a response yet. If this is dropped, the client disconnected.
struct Unanswered<'a> {
    metrics: &'a HttpMetrics,
    method: &'static str,
    route: &'a str,
    span: &'a Span,
    trace: Trace,
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        let _in_span = self.span.enter();
        self.trace.fail("client_disconnected");
        tracing::debug!(method = self.method, route = self.route, "client disconnected before the response");
        self.metrics.abandoned(self.method, self.route);
    }
}

/// The client's id if it is short and plain, because it is copied into logs and headers; else a new
/// one.
fn request_id(headers: &HeaderMap) -> String {
    let is_plain = |id: &&str| {
        (1..=128).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    };
    let given = headers.get(X_REQUEST_ID).and_then(|id| id.to_str().ok()).filter(is_plain);
    given.map_or_else(|| Uuid::now_v7().to_string(), str::to_owned)
}

/// Begins the span of a request, in the trace of its sender if it names a valid one. Probes and files belong to no
/// trace.
fn trace_of(request: &Request, method: &'static str, route: &str, id: &str) -> Trace {
    let headers = request.headers();
    let mut parents = headers.get_all(TRACEPARENT).into_iter();
    let parent = match (parents.next(), parents.next()) {
        (Some(parent), None) => {
            let states = headers.get_all(TRACESTATE).into_iter().filter_map(|state| state.to_str().ok());
            parent.to_str().ok().and_then(|parent| TraceContext::from_headers(parent, states))
        }
        _ => None,
    };
    if parent.is_none() && !is_work(route) {
        return Trace::none();
    }
    let mut trace = Trace::begin(Kind::Server, format_args!("{method} {route}"), parent);
    trace.set("http.request.method", method);
    trace.set("http.route", route);
    trace.set("crm.request.id", id);
    trace
}

/// Whether a route does what callers or visitors want.
fn is_work(route: &str) -> bool {
    let is_file = route.starts_with("/console/assets");
    !is_file && ["/dev/crm", "/console", "/feedback", "/unsubscribe"].iter().any(|prefix| route.starts_with(prefix))
}

fn end(mut trace: Trace, answer: &Response) {
    let status = answer.status();
    trace.set("http.response.status_code", status.as_u16());
    if let Some(opened) = answer.extensions().get::<Opened>() {
        trace.set("crm.workspace.id", opened.workspace_id);
        trace.set("crm.key.id", opened.key_id);
    }
    if status.is_server_error() {
        trace.fail(status.as_str());
    }
}

/// Clients can send any word as a method, so unknown ones share one metric label.
fn known(method: &Method) -> &'static str {
    const KNOWN: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    KNOWN.into_iter().find(|known| method == known).unwrap_or("OTHER")
}

/// Logs the route, not the path or the query, which may contain personal data.
fn record(method: &'static str, route: &str, client: Option<Client>, answer: &Response, took: Duration) {
    let status = answer.status().as_u16();
    let ms = took.as_millis() as u64;
    let opened = answer.extensions().get::<Opened>();
    let workspace_id = opened.map(|opened| tracing::field::display(opened.workspace_id));
    let key_id = opened.map(|opened| tracing::field::display(opened.key_id));
    let session_id = answer.extensions().get().map(|SessionId(id)| tracing::field::display(*id));
    let peer = client.map(|Client(address)| tracing::field::display(address));
    if route.starts_with("/dev/crm") || status >= 400 {
        tracing::info!(method, route, status, ms, workspace_id, key_id, session_id, peer, "answered");
    } else {
        tracing::debug!(method, route, status, ms, workspace_id, key_id, session_id, peer, "answered");
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::{Body, to_bytes};
    use axum::middleware::{Next, from_fn};
    use axum::routing::get;
    use tower::ServiceExt;

    use super::*;

    async fn panics() {
        panic!("a defect");
    }

    #[tokio::test]
    async fn a_panic_becomes_an_internal_server_error() {
        let app = Router::new().route("/", get(panics)).layer(from_fn(|request, next: Next| async move {
            observe(&HttpMetrics::default(), request, |request| next.run(request)).await
        }));
        let request =
            Request::builder().header("host", "test").header("x-request-id", "abc").body(Body::empty()).unwrap();
        let answer = app.oneshot(request).await.unwrap();
        assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(answer.headers()["x-request-id"], "abc");
        let body = to_bytes(answer.into_body(), 1000).await.unwrap();
        assert_eq!(body, r#"{"message":"Internal server error","request_id":"abc"}"#);
    }
}
