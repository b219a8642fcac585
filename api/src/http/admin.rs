//! The admin port for operators: metrics, liveness, readiness with its reason, and the operator API.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderValue, Request};
use axum::middleware::{Next, from_fn_with_state, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Map, Value, json};
use shared::platform::db::CLOCK;
use shared::platform::listen::AdminPort;
use shared::platform::metrics;
use tokio::sync::Semaphore;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::AppState;
use crate::console::operations;
use crate::http::observe::observe;
use crate::http::peer::Client;
use crate::http::server::connection::{self, Terms};
use crate::operator;
use crate::respond::{self, Problem, Result};
use crate::routes::health::{self, Readiness};

/// Concurrent connections; further ones wait.
const MAX_CONNECTIONS: usize = 64;
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// Serves the admin port until the process stops.
pub(crate) async fn serve(state: AppState, port: AdminPort, tasks: TaskTracker) {
    let Some(listener) = state.stopping.run_until_cancelled(port.listener()).await else { return };
    if let Ok(address) = listener.local_addr() {
        tracing::info!(%address, "serving metrics and readiness");
    }
    let app = router(state.clone(), tasks.clone());
    let seats = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let accepting = async {
        loop {
            let Ok(seat) = seats.clone().acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, peer)) => {
                    let (app, state, stopping) = (app.clone(), state.clone(), state.stopping.clone());
                    tasks.spawn(async move {
                        let terms = Terms { head: HEADER_TIMEOUT, write: WRITE_TIMEOUT, keep_alive: true };
                        let answer = |mut request: Request<_>| {
                            let trusted = &state.settings.api.trusted_proxies;
                            let client = Client::of(peer.ip(), request.headers(), trusted);
                            request.extensions_mut().insert(client);
                            connection::call(&app, request)
                        };
                        connection::serve(stream, terms, &stopping, &CancellationToken::new(), answer).await;
                        drop(seat);
                    });
                }
                // Most likely out of file descriptors.
                Err(_) => sleep(Duration::from_millis(100)).await,
            }
        }
    };
    state.stopping.run_until_cancelled(accepting).await;
}

fn router(state: AppState, tasks: TaskTracker) -> Router {
    Router::new()
        .route("/healthz", get(health::alive))
        .route("/readyz", get(readiness))
        .route("/metrics", get(metrics))
        .route("/metrics/cluster", get(cluster))
        .fallback(respond::not_found)
        .with_state(state.clone())
        .merge(steering(state, tasks))
        .layer(map_response(guard))
}

/// What operators see and do: the console and the API.
fn steering(state: AppState, tasks: TaskTracker) -> Router {
    let observed = state.clone();
    operations::routes(&state, tasks.clone()).merge(operator::router(state, tasks)).layer(from_fn_with_state(
        observed,
        async |State(state): State<AppState>, request: Request<Body>, next: Next| {
            observe(&state.metrics, request, |request| next.run(request)).await
        },
    ))
}

async fn guard(mut response: Response) -> Response {
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response.headers_mut().entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Readiness with its reason.
async fn readiness(State(state): State<AppState>) -> Result {
    match health::readiness(&state).await? {
        Readiness::Ready => {
            // A wrong clock does not make the process unready, but operators should see it.
            let clock = CLOCK.trouble().map(|trouble| ("clock".to_owned(), json!(trouble)));
            let hold = health::hold(&state).await.map(|hold| ("email".to_owned(), json!(hold.to_string())));
            let answer = [("message".to_owned(), json!("ready"))].into_iter().chain(clock).chain(hold);
            Ok(Json(answer.collect::<Map<String, Value>>()).into_response())
        }
        Readiness::Not(reason) => Err(Problem::unavailable(reason)),
    }
}

async fn metrics(State(state): State<AppState>) -> impl IntoResponse {
    ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], state.metrics.render())
}

async fn cluster(State(state): State<AppState>) -> impl IntoResponse {
    ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], state.gauges.page().await)
}
