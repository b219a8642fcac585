//! The socket under hyper. A client that stops reading is disconnected, and hyper's own error
//! responses are withheld, so that ours can be sent instead.

use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::http::StatusCode;
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

/// No request is in progress, and the last response was written to the socket completely.
const IDLE: u8 = 0;
/// A request has begun, and hyper has not taken its whole response yet.
const IN_PROGRESS: u8 = 1;
/// Hyper has taken the whole response, but may still buffer some of it.
const ENDED: u8 = 2;

/// The state of a connection's current request.
#[derive(Debug, Default)]
pub(super) struct Exchange(AtomicU8);

impl Exchange {
    pub fn begin(&self) {
        self.0.store(IN_PROGRESS, Relaxed);
    }

    /// Without a request in progress, whatever hyper writes is a response of its own.
    pub fn is_idle(&self) -> bool {
        self.0.load(Relaxed) == IDLE
    }

    fn end(&self) {
        let _ = self.0.compare_exchange(IN_PROGRESS, ENDED, Relaxed, Relaxed);
    }

    fn flushed(&self) {
        let _ = self.0.compare_exchange(ENDED, IDLE, Relaxed, Relaxed);
    }
}

/// The body of a response; the exchange ends when it is dropped.
#[derive(Debug)]
pub(super) struct Sending {
    body: Body,
    exchange: Arc<Exchange>,
}

impl Sending {
    pub fn new(body: Body, exchange: Arc<Exchange>) -> Self {
        Self { body, exchange }
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.exchange.end();
    }
}

impl HttpBody for Sending {
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

/// The socket of a connection.
#[derive(Debug)]
pub(super) struct Socket {
    stream: TcpStream,
    write_timeout: Duration,
    /// Runs while the client reads nothing.
    blocked: Option<Pin<Box<Sleep>>>,
    exchange: Arc<Exchange>,
    refused_with: Option<StatusCode>,
}

impl Socket {
    pub fn new(stream: TcpStream, write_timeout: Duration, exchange: Arc<Exchange>) -> Self {
        Self { stream, write_timeout, blocked: None, exchange, refused_with: None }
    }

    /// The status of hyper's own response to a malformed request.
    pub fn refused_with(&self) -> Option<StatusCode> {
        self.refused_with
    }

    pub fn into_stream(self) -> TcpStream {
        self.stream
    }

    /// Closes the connection and discards bytes that the client does not read, which the kernel
    /// would otherwise buffer for many minutes.
    pub fn abandon(self) {
        if self.blocked.is_some() {
            let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
        }
    }

    /// Withholds a response of hyper's own, which consists of one complete head.
    fn withhold(&mut self, head: &[u8]) -> bool {
        if !self.exchange.is_idle() {
            return false;
        }
        let status = head.get(9..12).and_then(|digits| StatusCode::from_bytes(digits).ok());
        self.refused_with.get_or_insert(status.unwrap_or(StatusCode::BAD_REQUEST));
        true
    }

    /// Returns the result of a write, or a timeout if the client has read nothing for too long.
    fn in_time(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.blocked = None;
            return written;
        }
        let (blocked, limit) = (&mut self.blocked, self.write_timeout);
        let blocked = blocked.get_or_insert_with(|| Box::pin(sleep(limit)));
        match blocked.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::Error::new(ErrorKind::TimedOut, "the client reads nothing"))),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.withhold(bytes) {
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.in_time(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.withhold(parts.first().map_or(&[], |part| part)) {
            return Poll::Ready(Ok(parts.iter().map(|part| part.len()).sum()));
        }
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.in_time(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        if matches!(flushed, Poll::Ready(Ok(()))) {
            self.exchange.flushed();
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
