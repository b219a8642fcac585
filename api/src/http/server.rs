//! The server: connections, their limits, and a graceful shutdown.

pub(crate) mod connection;
mod seats;
mod socket;

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, Method, Request};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use futures_util::future::Either;
use rlimit::Resource;
use shared::platform::finishing::{Background, Finishing};
use shared::platform::listen::AdminPort;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::http::admin;
use crate::http::auth::Cut;
use crate::http::clock;
use crate::http::peer::Client;
use crate::http::rate_limit;
use crate::http::waits::{self, Disconnected};
use crate::respond::{self, Problem};
use crate::{AppState, router};
use connection::Terms;
use seats::Seats;

/// How often state in memory is flushed and tidied.
const HOUSEKEEPING: Duration = Duration::from_secs(30);
/// How often the keys of open streams are checked; a stream ends within 2 s of its key's
/// revocation.
const CHECK_KEYS: Duration = Duration::from_secs(1);
/// How long a connection without a seat may take to send its request, and to read the response.
const SPARE_TIME: Duration = Duration::from_secs(1);
/// How long the last flush and closing the pool may take at shutdown.
const FINAL_FLUSH: Duration = Duration::from_secs(2);

/// Serves until `shutdown` completes and running requests have ended or timed out.
///
/// # Errors
/// When the metrics recorder cannot be installed.
pub async fn serve(
    state: AppState,
    listener: TcpListener,
    admin: AdminPort,
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let tasks = TaskTracker::new();
    tasks.spawn(housekeeping(state.clone()));
    tasks.spawn(clock::watch(state.clone()));
    tasks.spawn(check_keys(state.clone()));
    tasks.spawn(waits::watch(state.clone()));
    tasks.spawn(rate_limit::keep(state.clone()));
    tasks.spawn(read_gauges(state.clone()));
    tasks.spawn(admin::serve(state.clone(), admin, tasks.clone()));
    let seats = Arc::new(Seats::new(&state.settings, descriptors(), &state.metrics));
    if let Ok(address) = listener.local_addr() {
        tracing::info!(%address, "serving");
    }
    let accepting = async {
        let app = router(state.clone());
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    let client = Peer { state: state.clone(), app: app.clone(), address: peer.ip() };
                    match seats.take(client.address) {
                        Some(seat) => drop(tasks.spawn(async move {
                            client.serve(stream).await;
                            drop(seat);
                        })),
                        None => drop(tasks.spawn(client.turn_away(stream, seats.spare()))),
                    }
                }
                // Most likely out of file descriptors until another connection ends.
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    };
    tokio::select! {
        () = accepting => {}
        () = shutdown => {}
    }
    // New connections are refused from here on, so load balancers use other processes.
    drop(listener);
    tracing::info!("stopping");
    state.stopping.cancel();
    tasks.close();
    let grace = Duration::from_secs(state.settings.api.shutdown_s);
    if timeout(grace, tasks.wait()).await.is_err() {
        tracing::warn!("aborting requests that exceeded the shutdown timeout");
        state.cut_off.cancel();
    }
    let final_flush = async {
        tasks.wait().await;
        state.keys.flush(&state.pool).await;
        // Statements of aborted requests are cancelled and rolled back.
        state.pool.close().await;
    };
    let _ = timeout(FINAL_FLUSH, final_flush).await;
    Ok(())
}

/// The process's limit of file descriptors.
fn descriptors() -> u64 {
    rlimit::getrlimit(Resource::NOFILE).map_or(u64::MAX, |(soft, _)| soft)
}

/// A connected client.
struct Peer {
    state: AppState,
    app: Router,
    address: IpAddr,
}

impl Peer {
    /// Serves a connection until its last write has ended, even if the client disconnects earlier.
    /// The seat stays taken, so the number of running requests never exceeds the number of seats.
    async fn serve(self, stream: TcpStream) {
        let api = &self.state.settings.api;
        let head = Duration::from_secs(api.header_timeout_s);
        let terms = Terms { head, write: Duration::from_secs(api.write_timeout_s), keep_alive: true };
        let (cut, cut_off) = (CancellationToken::new(), &self.state.cut_off);
        let left = Background { tasks: TaskTracker::new(), cut_off: cut_off.clone() };
        let answer = |request: Request<Body>| self.attend(request, &cut, &left);
        cut_off.run_until_cancelled(connection::serve(stream, terms, &self.state.stopping, &cut, answer)).await;
        left.tasks.close();
        left.tasks.wait().await;
    }

    /// Answers a request. If the client disconnects, a read is dropped, which cancels its
    /// statement, while a write runs to its end, without waiting for a job.
    fn attend<'a>(
        &self,
        mut request: Request<Body>,
        cut: &CancellationToken,
        left: &'a Background,
    ) -> impl Future<Output = Response> + Send + use<'a> {
        let reads = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
        let connected = Disconnected::watch(&mut request);
        let answer = self.answer(request, cut);
        let answer = if reads { Either::Left(answer.boxed()) } else { Either::Right(Finishing::new(answer, left)) };
        answer.map(move |answer| {
            drop(connected);
            answer
        })
    }

    fn answer(
        &self,
        mut request: Request<Body>,
        cut: &CancellationToken,
    ) -> impl Future<Output = Response> + Send + use<> {
        let client = Client::of(self.address, request.headers(), &self.state.settings.api.trusted_proxies);
        request.extensions_mut().insert(client);
        request.extensions_mut().insert(Cut(cut.clone()));
        connection::call(&self.app, request)
    }

    /// Serves a connection without a seat: health checks are answered, everything else gets a 503.
    async fn turn_away(self, stream: TcpStream, place: CancellationToken) {
        let terms = Terms { head: SPARE_TIME, write: SPARE_TIME, keep_alive: false };
        let answer = async |request: Request<Body>| match request.uri().path() {
            "/healthz" | "/readyz" => self.answer(request, &place).await,
            _ => {
                let refused = Problem::unavailable("Too many open connections").into_response();
                let mut refused = respond::finish(refused, "");
                refused.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                refused
            }
        };
        connection::serve(stream, terms, &self.state.stopping, &place, answer).await;
    }
}

/// Ends the streams of revoked keys.
async fn check_keys(state: AppState) {
    let mut ticks = interval(CHECK_KEYS);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while state.stopping.run_until_cancelled(ticks.tick()).await.is_some() {
        state.keys.cut_revoked(&state.pool).await;
    }
}

/// Reads the gauges of the cluster for as long as somebody asks for them.
async fn read_gauges(state: AppState) {
    state.stopping.run_until_cancelled(state.gauges.keep()).await;
}

async fn housekeeping(state: AppState) {
    while state.stopping.run_until_cancelled(sleep(HOUSEKEEPING)).await.is_some() {
        state.keys.flush(&state.pool).await;
        state.limits.tidy();
    }
}
