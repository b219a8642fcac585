//! The server: connections, their limits, and a clean end.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use futures_util::FutureExt;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_util::task::TaskTracker;
use tower::Service;

use crate::{AppState, observe, router};

/// How often what gathers in memory is written or tidied.
const HOUSEKEEPING: Duration = Duration::from_secs(30);
/// For how long the rest of a refused upload is read and dropped.
const LINGER: Duration = Duration::from_secs(5);
/// What the database gets to take what is left and to part.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Serves until `shutdown` is ready and the requests under way have ended or had their time.
///
/// # Errors
/// Only when metrics cannot be started.
pub async fn serve(state: AppState, listener: TcpListener, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
    observe::metrics()?;
    let tasks = TaskTracker::new();
    tasks.spawn(keep_house(state.clone()));
    if let Ok(address) = listener.local_addr() {
        tracing::info!(%address, "serving");
    }
    let accepting = async {
        let app = router(state.clone());
        loop {
            match listener.accept().await {
                Ok((stream, _)) => drop(tasks.spawn(connection(state.clone(), app.clone(), stream))),
                // Out of file descriptors, most likely: some connection will end.
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    };
    tokio::select! {
        () = accepting => {}
        () = shutdown => {}
    }
    // From here on new connections are refused, and a load balancer goes elsewhere.
    drop(listener);
    tracing::info!("stopping");
    state.stopping.cancel();
    tasks.close();
    let grace = Duration::from_secs(state.settings.api.shutdown_s);
    if timeout(grace, tasks.wait()).await.is_err() {
        tracing::warn!("requests were still under way and are cut off");
    }
    // A query that was cut off may hold its connection for long.
    let last_words = async {
        state.keys.flush(&state.pool).await;
        state.pool.close();
    };
    let _ = timeout(LAST_WORDS, last_words).await;
    Ok(())
}

/// One connection, request after request.
async fn connection(state: AppState, app: Router, stream: TcpStream) {
    // Without it, small answers wait for the other side's delayed acknowledgement.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request: Request<Incoming>| app.clone().call(request.map(Body::new)).boxed());
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(state.settings.api.header_timeout_s))
        .serve_connection(TokioIo::new(stream), service);
    let ended = tokio::select! {
        ended = poll_fn(|cx| connection.poll_without_shutdown(cx)) => Some(ended),
        () = state.stopping.cancelled() => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            Pin::new(&mut connection).graceful_shutdown();
            poll_fn(|cx| connection.poll_without_shutdown(cx)).await
        }
    };
    match ended {
        Ok(()) => linger(connection.into_parts().io.into_inner()).await,
        Err(error) => tracing::debug!(%error, "a connection broke"),
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

async fn keep_house(state: AppState) {
    while state.stopping.run_until_cancelled(sleep(HOUSEKEEPING)).await.is_some() {
        state.keys.flush(&state.pool).await;
        state.limits.tidy();
        if let Ok(metrics) = observe::metrics() {
            // What histograms gathered is folded, whether anybody scrapes or not.
            metrics.run_upkeep();
        }
    }
}
