//! The server: connections, their limits, and a clean end.

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
use futures_util::future::{BoxFuture, Either};
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
use crate::http::observe;
use crate::http::peer::Client;
use crate::respond::{self, Problem};
use crate::{AppState, router};
use connection::Terms;
use seats::Seats;

/// How often what gathers in memory is written or tidied.
const HOUSEKEEPING: Duration = Duration::from_secs(30);
/// How often it is looked whether the keys of open streams are still valid: a stream ends within 2 s.
const CHECK_KEYS: Duration = Duration::from_secs(1);
/// What a connection without a seat gets to ask.
const SPARE_TIME: Duration = Duration::from_secs(1);
/// How long cancelling what was cut off, and writing what is left, may take.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Serves until `shutdown` is ready and the requests under way have ended or had their time.
///
/// # Errors
/// Only when metrics cannot be started.
pub async fn serve(
    state: AppState,
    listener: TcpListener,
    admin: AdminPort,
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    observe::metrics()?;
    let tasks = TaskTracker::new();
    tasks.spawn(keep_house(state.clone()));
    tasks.spawn(clock::watch(state.clone()));
    tasks.spawn(check_keys(state.clone()));
    tasks.spawn(admin::serve(state.clone(), admin, tasks.clone()));
    let seats = Arc::new(Seats::new(&state.settings, descriptors()));
    if let Ok(address) = listener.local_addr() {
        tracing::info!(%address, "serving");
    }
    let accepting = async {
        let app = router(state.clone());
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    let guest = Guest { state: state.clone(), app: app.clone(), peer: peer.ip() };
                    match seats.take(guest.peer) {
                        Some(seat) => drop(tasks.spawn(async move {
                            guest.serve(stream).await;
                            drop(seat);
                        })),
                        None => drop(tasks.spawn(guest.turn_away(stream, seats.spare()))),
                    }
                }
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
        state.cut_off.cancel();
    }
    let last_words = async {
        tasks.wait().await;
        state.keys.flush(&state.pool).await;
        // What was cut off is cancelled and rolled back.
        state.pool.close().await;
    };
    let _ = timeout(LAST_WORDS, last_words).await;
    Ok(())
}

/// How many descriptors the process may have open.
fn descriptors() -> u64 {
    rlimit::getrlimit(Resource::NOFILE).map_or(u64::MAX, |(soft, _)| soft)
}

/// Whoever has connected.
struct Guest {
    state: AppState,
    app: Router,
    peer: IpAddr,
}

impl Guest {
    /// Serves a connection. It has ended when its last write has, also if its caller left before: what is
    /// under way is never more than there are seats.
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

    /// Answers a request. When its caller leaves, a read is dropped, which cancels its statement, and a
    /// write runs to its end.
    fn attend<'a>(
        &self,
        request: Request<Body>,
        cut: &CancellationToken,
        left: &'a Background,
    ) -> Either<BoxFuture<'static, Response>, Finishing<'a, Response>> {
        let reads = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
        let answer = self.answer(request, cut);
        if reads { Either::Left(answer.boxed()) } else { Either::Right(Finishing::new(answer, left)) }
    }

    fn answer(
        &self,
        mut request: Request<Body>,
        cut: &CancellationToken,
    ) -> impl Future<Output = Response> + Send + use<> {
        let client = Client::of(self.peer, request.headers(), &self.state.settings.api.trusted_proxies);
        request.extensions_mut().insert(client);
        request.extensions_mut().insert(Cut(cut.clone()));
        connection::call(&self.app, request)
    }

    /// Answers a connection for which there is no seat: only those who look after the process are heard.
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

/// Ends the streams of keys that were revoked meanwhile.
async fn check_keys(state: AppState) {
    let mut ticks = interval(CHECK_KEYS);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while state.stopping.run_until_cancelled(ticks.tick()).await.is_some() {
        state.keys.cut_revoked(&state.pool).await;
    }
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
