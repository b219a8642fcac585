//! Serves one connection, request after request.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tower::Service;
use uuid::Uuid;

use super::socket::{Exchange, Sending, Socket};

/// How long the rest of a refused upload is read and dropped.
const LINGER: Duration = Duration::from_secs(5);
/// How much hyper buffers of a request's head and of a response. Hyper refuses larger heads;
/// [`crate::http::observe`] refuses smaller ones with a better message.
const BUFFER: usize = 64 * 1024;
/// How much of a response the kernel buffers beyond the bytes in flight. More would fill the
/// memory, and hide for longer that a client does not read.
#[cfg(any(target_os = "android", target_os = "linux"))]
const UNSENT: u32 = 128 * 1024;

/// Timeouts of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    /// How long the client may take to send the head of a request.
    pub head: Duration,
    /// How long the client may go without reading anything of a response.
    pub write: Duration,
    /// Whether the client may send another request.
    pub keep_alive: bool,
}

/// Routes one request.
pub(crate) fn call(app: &Router, request: Request<Body>) -> impl Future<Output = Response<Body>> + Send + use<> {
    let called = app.clone().call(request);
    async move {
        let Ok(response) = called.await;
        response
    }
}

/// Serves a connection until it ends or is `cut`. After `stopping`, it ends with the current
/// response.
pub(crate) async fn serve<Answer: Future<Output = Response<Body>> + Send>(
    stream: TcpStream,
    terms: Terms,
    stopping: &CancellationToken,
    cut: &CancellationToken,
    answer: impl Fn(Request<Body>) -> Answer,
) {
    prepare(&stream);
    // Until the client sends something, a connection costs no more than its socket.
    let spoken = stopping.run_until_cancelled(timeout(terms.head, stream.readable()));
    if !matches!(spoken.await, Some(Ok(Ok(())))) {
        return;
    }
    let exchange = Arc::new(Exchange::default());
    let service = service_fn(|request: Request<Incoming>| {
        exchange.begin();
        let (answered, exchange) = (answer(request.map(Body::new)), exchange.clone());
        Box::pin(async move { Ok::<_, Infallible>(answered.await.map(|body| Sending::new(body, exchange))) })
    });
    let socket = Socket::new(stream, terms.write, exchange.clone());
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(terms.head)
        .keep_alive(terms.keep_alive)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(socket), service);
    let until_end = async {
        tokio::select! {
            ended = poll_fn(|cx| connection.poll_without_shutdown(cx)) => return ended,
            () = stopping.cancelled() => {}
        }
        Pin::new(&mut connection).graceful_shutdown();
        poll_fn(|cx| connection.poll_without_shutdown(cx)).await
    };
    let ended = cut.run_until_cancelled(until_end).await;
    let socket = connection.into_parts().io.into_inner();
    match ended {
        None => socket.abandon(),
        Some(Ok(())) => linger(socket.into_stream()).await,
        Some(Err(error)) => {
            tracing::debug!(%error, "connection failed");
            let status = socket.refused_with().or(error.is_parse().then_some(StatusCode::BAD_REQUEST));
            match status.filter(|_| exchange.is_idle()) {
                Some(status) => refuse(socket.into_stream(), status).await,
                None => socket.abandon(),
            }
        }
    }
}

fn prepare(stream: &TcpStream) {
    // Without TCP_NODELAY, small responses wait for the client's delayed acknowledgement.
    let _ = stream.set_nodelay(true);
    #[cfg(any(target_os = "android", target_os = "linux"))]
    let _ = SockRef::from(stream).set_tcp_notsent_lowat(UNSENT);
}

/// Responds to bytes that hyper could not parse, in the format of all errors.
async fn refuse(mut stream: TcpStream, status: StatusCode) {
    let message = match status {
        StatusCode::URI_TOO_LONG => "URL too long",
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => "Request headers too large",
        _ => "Request is not valid HTTP/1.1",
    };
    let (body, id) = (format!("{{\"message\":\"{message}\"}}"), Uuid::now_v7());
    tracing::info!(request_id = %id, status = status.as_u16(), "malformed request refused");
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\
         Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nX-Request-Id: {id}\r\n\r\n",
        body.len()
    );
    if let Ok(Ok(())) = timeout(LINGER, stream.write_all((head + &body).as_bytes())).await {
        linger(stream).await;
    }
}

/// Closes a connection without losing the response. If the socket were closed while the client
/// still sends, the client's system would discard the unread response.
async fn linger(mut stream: TcpStream) {
    let rest = async {
        stream.shutdown().await?;
        let mut dropped = [0; 8192];
        while stream.read(&mut dropped).await? > 0 {}
        std::io::Result::Ok(())
    };
    let _ = timeout(LINGER, rest).await;
}
