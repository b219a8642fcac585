//! The stream under an SMTP connection, which records whether a command was passed to the network.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};

use lettre::transport::smtp::client::AsyncTokioStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// Whether the whole command was passed to the operating system.
///
/// A connection writes a command to its last byte before it reads the answer. So once it reads, the
/// whole command was passed on; before, at least its end was not. This also holds with TLS, where
/// an incomplete record is discarded.
#[derive(Debug, Clone, Default)]
pub(super) struct HandedOver(Arc<AtomicBool>);

impl HandedOver {
    /// Called before a command is written.
    pub fn reset(&self) {
        self.0.store(false, Relaxed);
    }

    pub fn is_whole(&self) -> bool {
        self.0.load(Relaxed)
    }
}

/// A stream that records when it is read.
#[derive(Debug)]
pub(super) struct Watched<S> {
    stream: S,
    peer: SocketAddr,
    handed_over: HandedOver,
}

impl<S> Watched<S> {
    pub fn new(stream: S, peer: SocketAddr, handed_over: HandedOver) -> Self {
        Self { stream, peer, handed_over }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.handed_over.0.store(true, Relaxed);
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl AsyncTokioStream for Watched<TcpStream> {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.peer)
    }
}

impl AsyncTokioStream for Watched<Box<TlsStream<TcpStream>>> {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.peer)
    }
}
