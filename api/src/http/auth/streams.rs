//! Streamed responses and waits end when their key is revoked: lists, exports and events are sent after
//! the key was checked.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use axum::body::{Body, HttpBody};
use axum::response::Response;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use shared::accounts::api_keys::authentication::{self, Opened};
use shared::accounts::scopes::Scopes;
use shared::platform::db::Pool;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::lock;

/// Cuts the connection of a request; an extension of the request.
#[derive(Debug, Clone)]
pub(crate) struct Cut(pub CancellationToken);

/// The open streams, each with its key.
#[derive(Debug, Default)]
pub(super) struct OpenStreams(Arc<Mutex<Open>>);

#[derive(Debug, Default)]
struct Open {
    last: u64,
    streams: HashMap<u64, (Uuid, Scopes, CancellationToken)>,
}

impl OpenStreams {
    /// Tracks a response that is a stream until it has been sent.
    pub fn hold(&self, key: &Opened, cut: Option<Cut>, response: Response) -> Response {
        // A body of known length is complete already.
        let is_stream = response.body().size_hint().exact().is_none();
        let Some(Cut(cut)) = cut.filter(|_| is_stream) else { return response };
        let tracked = self.track(key, cut);
        response.map(|body| Body::new(Held { body, _tracked: tracked }))
    }

    /// Cancels the token when the key becomes invalid, until what this returns is dropped.
    pub fn track(&self, key: &Opened, cut: CancellationToken) -> Tracked {
        let mut open = lock(&self.0);
        open.last += 1;
        let number = open.last;
        open.streams.insert(number, (key.key_id, key.scopes, cut));
        Tracked { number, streams: self.0.clone() }
    }

    /// Cuts the connections whose key is no longer valid, or may do something else than when they began.
    /// While the database is unavailable, streams continue: the keys cannot be checked.
    pub async fn cut_revoked(&self, pool: &Pool) {
        let keys: Vec<Uuid> = lock(&self.0).streams.values().map(|(key_id, ..)| *key_id).collect();
        if keys.is_empty() {
            return;
        }
        let valid = async { authentication::valid(&mut *pool.acquire().await?, &keys).await };
        match valid.await {
            Ok(valid) => {
                // Streams opened after the query have a key that was just verified.
                for (key_id, scopes, cut) in lock(&self.0).streams.values() {
                    if keys.contains(key_id) && !valid.contains(&(*key_id, *scopes)) {
                        tracing::info!(%key_id, "stream closed: its key is no longer valid");
                        cut.cancel();
                    }
                }
            }
            Err(error) => tracing::debug!(%error, "the keys of open streams could not be checked"),
        }
    }
}

/// The body of a tracked stream, which is open until the body is dropped.
struct Held {
    body: Body,
    _tracked: Tracked,
}

/// Something that ends with its key.
#[derive(Debug)]
pub(crate) struct Tracked {
    number: u64,
    streams: Arc<Mutex<Open>>,
}

impl Drop for Tracked {
    fn drop(&mut self) {
        lock(&self.streams).streams.remove(&self.number);
    }
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
