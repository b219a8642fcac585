//! One connection, request after request.

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

/// For how long the rest of a refused upload is read and dropped.
const LINGER: Duration = Duration::from_secs(5);
/// What hyper buffers of a request's head and of a response. Heads of this size are refused by hyper; ours
/// are refused earlier, see [`crate::http::observe`].
const BUFFER: usize = 64 * 1024;
/// What the kernel holds of a response beyond what is on its way: more would only fill the memory, and
/// hide for long that a client takes nothing.
#[cfg(any(target_os = "android", target_os = "linux"))]
const UNSENT: u32 = 128 * 1024;

/// How long the other side may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    /// To send the head of a request.
    pub head: Duration,
    /// To take anything of a response.
    pub write: Duration,
    /// Whether it may send another request.
    pub keep_alive: bool,
}

/// Answers one request of a router.
pub(crate) fn call(app: &Router, request: Request<Body>) -> impl Future<Output = Response<Body>> + Send + use<> {
    let called = app.clone().call(request);
    async move {
        let Ok(response) = called.await;
        response
    }
}

/// Serves a connection until it ends, its last request is answered after `stopping`, or it is `cut`.
pub(crate) async fn serve<Answer: Future<Output = Response<Body>> + Send>(
    stream: TcpStream,
    terms: Terms,
    stopping: &CancellationToken,
    cut: &CancellationToken,
    answer: impl Fn(Request<Body>) -> Answer,
) {
    prepare(&stream);
    // Until it says something, a connection costs no more than its socket.
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
            tracing::debug!(%error, "a connection broke");
            let status = socket.refused_with().or(error.is_parse().then_some(StatusCode::BAD_REQUEST));
            match status.filter(|_| exchange.is_idle()) {
                Some(status) => refuse(socket.into_stream(), status).await,
                None => socket.abandon(),
            }
        }
    }
}

fn prepare(stream: &TcpStream) {
    // Without it, small answers wait for the other side's delayed acknowledgement.
    let _ = stream.set_nodelay(true);
    #[cfg(any(target_os = "android", target_os = "linux"))]
    let _ = SockRef::from(stream).set_tcp_notsent_lowat(UNSENT);
}

/// Answers what is no request, as all errors are answered.
async fn refuse(mut stream: TcpStream, status: StatusCode) {
    let message = match status {
        StatusCode::URI_TOO_LONG => "URL too long",
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => "Request headers too large",
        _ => "Request is not valid HTTP/1.1",
    };
    let (body, id) = (format!("{{\"message\":\"{message}\"}}"), Uuid::now_v7());
    tracing::info!(request_id = %id, status = status.as_u16(), "a request could not be read");
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\
         Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nX-Request-Id: {id}\r\n\r\n",
        body.len()
    );
    if let Ok(Ok(())) = timeout(LINGER, stream.write_all((head + &body).as_bytes())).await {
        linger(stream).await;
    }
}

/// Ends a connection without losing the answer: closing it while the caller still sends would make
/// its system throw away what it has not read yet.
async fn linger(mut stream: TcpStream) {
    let rest = async {
        stream.shutdown().await?;
        let mut dropped = [0; 8192];
        while stream.read(&mut dropped).await? > 0 {}
        std::io::Result::Ok(())
    };
    let _ = timeout(LINGER, rest).await;
}
