//! Compression of responses for clients that accept it.
//!
//! A response that shows a secret is not compressed: if somebody can add text of their own to it and see its
//! length, the length reveals the secret (BREACH).

use std::convert::Infallible;

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, ETAG, VARY};
use axum::http::{Extensions, HeaderMap, HeaderValue, StatusCode, Version};
use axum::response::Response;
use tower::ServiceExt;
use tower_http::compression::{Compression, CompressionLevel};

use crate::pages::Page;

/// Smaller responses gain little.
const MIN_BYTES: u64 = 1024;
/// Higher levels save a little more and take several times as long, so an export would wait for the
/// processor instead of the network.
const LEVEL: CompressionLevel = CompressionLevel::Fastest;

/// Marks a response that shows a secret; an extension of the response.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ShowsSecret;

/// Marks a response that shows a secret.
pub(crate) async fn mark_secret(mut response: Response) -> Response {
    response.extensions_mut().insert(ShowsSecret);
    response
}

/// The encodings that a client accepts.
#[derive(Debug)]
pub(crate) struct Accepted(HeaderMap);

impl Accepted {
    pub fn of(request: &Request) -> Self {
        let encodings = request.headers().get_all(ACCEPT_ENCODING).into_iter();
        Self(encodings.map(|encoding| (ACCEPT_ENCODING, encoding.clone())).collect())
    }

    /// Compresses a response with the best encoding that the client accepts. A stream is flushed
    /// whenever it pauses, so events and records arrive as they are sent.
    pub async fn compress(self, mut response: Response) -> Response {
        if !is_compressible(&response) {
            return response;
        }
        if self.0.is_empty() {
            response.headers_mut().append(VARY, HeaderValue::from_static("accept-encoding"));
            return response;
        }
        let mut head = Request::new(());
        *head.headers_mut() = self.0;
        let mut whole = Some(response);
        let answer = tower::service_fn(|_: Request<()>| {
            let response = whole.take().unwrap_or_default();
            async move { Ok::<_, Infallible>(response) }
        });
        let always = |_: StatusCode, _: Version, _: &HeaderMap, _: &Extensions| true;
        let Ok(response) = Compression::new(answer).compress_when(always).quality(LEVEL).oneshot(head).await;
        weaken(response.map(Body::new))
    }
}

fn is_compressible(response: &Response) -> bool {
    let is_secret =
        response.extensions().get::<ShowsSecret>().is_some() || response.extensions().get::<Page>().is_some();
    let is_long = response.body().size_hint().exact().is_none_or(|bytes| bytes > MIN_BYTES);
    let kind = response.headers().get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let is_compressed = kind.starts_with(b"image/") || response.headers().contains_key(CONTENT_ENCODING);
    is_long && !is_secret && !is_compressed
}

/// Marks the tag of a compressed response as weak: its bytes are not those that the tag stands for.
fn weaken(mut response: Response) -> Response {
    if response.headers().contains_key(CONTENT_ENCODING)
        && let Some(tag) = response.headers().get(ETAG).filter(|tag| !tag.as_bytes().starts_with(b"W/"))
        && let Ok(weak) = HeaderValue::from_bytes(&[b"W/", tag.as_bytes()].concat())
    {
        response.headers_mut().insert(ETAG, weak);
    }
    response
}
