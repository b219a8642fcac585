//! The API as the console uses it: its routes in this process, as the key of a session.

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::header::{ACCEPT, CONTENT_TYPE, ETAG, HeaderName, IF_MATCH};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::Response;
use futures_util::StreamExt;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tower::ServiceExt;

use super::refusal::{Refusal, Result};
use crate::CRM;
use crate::http::auth::Caller;
use crate::http::headers::IDEMPOTENCY_KEY;
use crate::http::observe::RequestId;
use crate::respond::Problem;
use crate::respond::lists::{X_NEXT_CURSOR, X_TOTAL_COUNT};

/// The most bytes of a response that a page is made of.
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// The API, as a caller or as nobody yet.
#[derive(Clone)]
pub(crate) struct Crm {
    routes: Router,
    caller: Option<Caller>,
}

/// A part of a list.
#[derive(Debug, Clone)]
pub(crate) struct Listing<T> {
    /// The items of this page.
    pub items: Vec<T>,
    /// How many items match in all.
    pub total: Option<u64>,
    /// Where the next page begins.
    pub next: Option<String>,
}

/// A record with its version.
#[derive(Debug, Clone)]
pub(crate) struct Versioned<T> {
    /// The record.
    pub record: T,
    /// Its `ETag`, for `If-Match`.
    pub etag: String,
}

/// A change to send to the API.
#[derive(Debug, Clone, Default)]
pub(crate) struct Change {
    body: Option<Value>,
    headers: HeaderMap,
}

impl Change {
    /// A change with this body.
    pub fn with(body: Value) -> Self {
        Self { body: Some(body), ..Self::default() }
    }

    /// A change that is made once, however often the form is sent.
    pub fn once(self, key: Option<String>) -> Self {
        self.header(IDEMPOTENCY_KEY, key)
    }

    /// A change of this version only.
    pub fn if_match(self, etag: Option<String>) -> Self {
        self.header(IF_MATCH, etag)
    }

    fn header(mut self, name: HeaderName, value: Option<String>) -> Self {
        if let Some(value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
            self.headers.insert(name, value);
        }
        self
    }
}

impl Crm {
    /// The API for nobody yet.
    pub fn new(routes: Router) -> Self {
        Self { routes, caller: None }
    }

    /// The API as a caller.
    pub fn of(&self, caller: Caller) -> Self {
        Self { routes: self.routes.clone(), caller: Some(caller) }
    }

    /// Reads what is at a path under `/dev/crm`.
    ///
    /// # Errors
    /// The API's.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        read(self.ask(Method::GET, path, Change::default()).await?).await.map(|(_, value)| value)
    }

    /// Reads a record and its version.
    ///
    /// # Errors
    /// The API's.
    pub async fn record<T: DeserializeOwned>(&self, path: &str) -> Result<Versioned<T>> {
        let (headers, record) = read(self.ask(Method::GET, path, Change::default()).await?).await?;
        Ok(Versioned { record, etag: text(&headers, ETAG).unwrap_or_default() })
    }

    /// Reads a page of a list; the path has a `limit`.
    ///
    /// # Errors
    /// The API's.
    pub async fn list<T: DeserializeOwned>(&self, path: &str) -> Result<Listing<T>> {
        let (headers, items) = read(self.ask(Method::GET, path, Change::default()).await?).await?;
        let total = text(&headers, X_TOTAL_COUNT).and_then(|count| count.parse().ok());
        Ok(Listing { items, total, next: text(&headers, X_NEXT_CURSOR) })
    }

    /// Reads the first items of a list that has no pages, and leaves the rest.
    ///
    /// # Errors
    /// The API's.
    pub async fn first<T: DeserializeOwned>(&self, path: &str, most: usize) -> Result<Vec<T>> {
        let answer = accepted(self.ask(Method::GET, path, Change::default()).await?).await?;
        let (mut pieces, mut objects) = (answer.into_body().into_data_stream(), Objects::default());
        while objects.whole.len() < most
            && let Some(piece) = pieces.next().await
        {
            objects.read(&piece.map_err(|error| Problem::internal(error.to_string()))?);
        }
        let unexpected = |error| Problem::internal(format!("unexpected JSON: {error}")).into();
        objects.whole.iter().take(most).map(|json| serde_json::from_slice(json).map_err(unexpected)).collect()
    }

    /// Sends a change, and returns what the API answers; `null` without a body.
    ///
    /// # Errors
    /// The API's.
    pub async fn send(&self, method: Method, path: &str, change: Change) -> Result<Value> {
        read(self.ask(method, path, change).await?).await.map(|(_, value)| value)
    }

    /// Asks for a file, and passes it on as it arrives.
    ///
    /// # Errors
    /// The API's.
    pub async fn file(&self, path: &str, accept: &'static str) -> Result<Response> {
        let change = Change::default().header(ACCEPT, Some(accept.to_owned()));
        accepted(self.ask(Method::GET, path, change).await?).await
    }

    /// Passes on a body that is sent, such as a file.
    ///
    /// # Errors
    /// The API's.
    pub async fn pass_on(&self, path: &str, request: Request) -> Result<Value> {
        let (parts, body) = request.into_parts();
        let headers = parts.headers.get(CONTENT_TYPE).map(|kind| (CONTENT_TYPE, kind.clone())).into_iter().collect();
        let answer = self.run(Method::POST, path, headers, body).await?;
        read(answer).await.map(|(_, value)| value)
    }

    async fn ask(&self, method: Method, path: &str, Change { body, mut headers }: Change) -> Result<Response> {
        let body = match body {
            Some(body) => {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                Body::from(body.to_string())
            }
            None => Body::empty(),
        };
        self.run(method, path, headers, body).await
    }

    async fn run(&self, method: Method, path: &str, headers: HeaderMap, body: Body) -> Result<Response> {
        let Some(caller) = self.caller.clone() else { return Err(Problem::unauthorized().into()) };
        let request_id = RequestId(caller.request_id.clone());
        let request = Request::builder().method(method).uri(format!("{CRM}{path}")).extension(request_id);
        let mut request = request.extension(caller).body(body).map_err(|error| Problem::internal(error.to_string()))?;
        request.headers_mut().extend(headers);
        match self.routes.clone().oneshot(request).await {
            Ok(answer) => Ok(answer),
            Err(never) => match never {},
        }
    }
}

/// The objects of a JSON array that arrives in pieces.
#[derive(Default)]
struct Objects {
    /// Those that have arrived.
    whole: Vec<Vec<u8>>,
    /// What has arrived of the next one.
    part: Vec<u8>,
    depth: usize,
    in_text: bool,
    is_escaped: bool,
}

impl Objects {
    fn read(&mut self, piece: &[u8]) {
        for byte in piece {
            let was_inside = self.depth > 1;
            match byte {
                _ if self.is_escaped => self.is_escaped = false,
                b'\\' if self.in_text => self.is_escaped = true,
                b'"' => self.in_text = !self.in_text,
                b'{' | b'[' if !self.in_text => self.depth += 1,
                b'}' | b']' if !self.in_text => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
            let is_inside = self.depth > 1;
            if was_inside || is_inside {
                self.part.push(*byte);
            }
            if was_inside && !is_inside {
                self.whole.push(std::mem::take(&mut self.part));
            }
        }
    }
}

/// Reads a response, and turns an error into a refusal.
pub(super) async fn read<T: DeserializeOwned>(answer: Response) -> Result<(HeaderMap, T)> {
    let (head, body) = accepted(answer).await?.into_parts();
    let bytes = to_bytes(body, MAX_BYTES).await.map_err(|error| Problem::internal(error.to_string()))?;
    let json = if bytes.is_empty() { b"null" } else { bytes.as_ref() };
    let value = serde_json::from_slice(json).map_err(|error| Problem::internal(format!("unexpected JSON: {error}")))?;
    Ok((head.headers, value))
}

/// A successful response; others become refusals.
async fn accepted(answer: Response) -> Result<Response> {
    if answer.status().is_success() || answer.status() == StatusCode::NOT_MODIFIED {
        return Ok(answer);
    }
    Err(Refusal::from_answer(answer).await)
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_found_in_any_pieces() {
        let json = br#"[{"a":"]}\\\"{","b":[{}]},{"a":"\\"}, {"#;
        for size in 1..json.len() {
            let mut objects = Objects::default();
            json.chunks(size).for_each(|piece| objects.read(piece));
            assert_eq!(objects.whole, [br#"{"a":"]}\\\"{","b":[{}]}"#.as_slice(), br#"{"a":"\\"}"#.as_slice()]);
        }
    }
}
