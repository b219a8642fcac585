//! A socket as hyper sees it: a client that takes nothing is given up, and hyper's own answers to what is
//! no request are held back, so that ours is sent instead.

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

/// No request is under way, and all of the last response was handed to the socket.
const IDLE: u8 = 0;
/// A request has begun, and its response has not been taken whole by hyper.
const UNDER_WAY: u8 = 1;
/// The response was taken whole, but some of it may be in hyper's buffer.
const ENDED: u8 = 2;

/// How far a connection is with its request.
#[derive(Debug, Default)]
pub(super) struct Exchange(AtomicU8);

impl Exchange {
    /// A request has begun.
    pub fn begin(&self) {
        self.0.store(UNDER_WAY, Relaxed);
    }

    /// Whether what hyper writes now is an answer of its own.
    pub fn is_idle(&self) -> bool {
        self.0.load(Relaxed) == IDLE
    }

    fn end(&self) {
        let _ = self.0.compare_exchange(UNDER_WAY, ENDED, Relaxed, Relaxed);
    }

    fn flushed(&self) {
        let _ = self.0.compare_exchange(ENDED, IDLE, Relaxed, Relaxed);
    }
}

/// The body of a response on its way; the exchange ends with it.
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
    /// Until when the other side must take something, while it takes nothing.
    blocked: Option<Pin<Box<Sleep>>>,
    exchange: Arc<Exchange>,
    refused_with: Option<StatusCode>,
}

impl Socket {
    pub fn new(stream: TcpStream, write_timeout: Duration, exchange: Arc<Exchange>) -> Self {
        Self { stream, write_timeout, blocked: None, exchange, refused_with: None }
    }

    /// The status with which hyper wanted to answer what is no request.
    pub fn refused_with(&self) -> Option<StatusCode> {
        self.refused_with
    }

    pub fn into_stream(self) -> TcpStream {
        self.stream
    }

    /// Ends the connection. What a client does not take is thrown away: the kernel would hold it for many
    /// minutes.
    pub fn abandon(self) {
        if self.blocked.is_some() {
            let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
        }
    }

    /// Takes an answer of hyper's own, which is the whole of a head.
    fn hold_back(&mut self, head: &[u8]) -> bool {
        if !self.exchange.is_idle() {
            return false;
        }
        let status = head.get(9..12).and_then(|digits| StatusCode::from_bytes(digits).ok());
        self.refused_with.get_or_insert(status.unwrap_or(StatusCode::BAD_REQUEST));
        true
    }

    /// Passes on what a write came to, unless it has waited for too long.
    fn in_time(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.blocked = None;
            return written;
        }
        let (blocked, patience) = (&mut self.blocked, self.write_timeout);
        let blocked = blocked.get_or_insert_with(|| Box::pin(sleep(patience)));
        match blocked.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::Error::new(ErrorKind::TimedOut, "the client takes nothing"))),
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
        if self.hold_back(bytes) {
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
        if self.hold_back(parts.first().map_or(&[], |part| part)) {
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
