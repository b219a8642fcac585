//! The stream under a connection, which tells what has been handed to the network.

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

/// Whether all that was written is on its way.
///
/// A connection writes a command to its last byte, and only then reads the answer. So from the
/// moment it reads, the whole command was handed to the operating system; before, its end was not,
/// whatever had been. With TLS in between this holds as well: a record without its end is none.
#[derive(Debug, Clone, Default)]
pub(super) struct HandedOver(Arc<AtomicBool>);

impl HandedOver {
    /// A command is about to be written.
    pub fn reset(&self) {
        self.0.store(false, Relaxed);
    }

    /// Whether it was handed over to its end.
    pub fn is_whole(&self) -> bool {
        self.0.load(Relaxed)
    }
}

/// A stream that notes when it is read from.
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
