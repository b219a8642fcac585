//! The admin port for operators: metrics, liveness, and readiness with its reason.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderValue, Request};
use axum::middleware::map_response;
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
use crate::http::server::connection::{self, Terms};
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
    let app = router(state.clone());
    let seats = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let accepting = async {
        loop {
            let Ok(seat) = seats.clone().acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let (app, stopping) = (app.clone(), state.stopping.clone());
                    tasks.spawn(async move {
                        let terms = Terms { head: HEADER_TIMEOUT, write: WRITE_TIMEOUT, keep_alive: true };
                        let answer = |request: Request<_>| connection::call(&app, request);
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

fn router(state: AppState) -> Router {
    Router::new()
        .route("/healthz", get(health::alive))
        .route("/readyz", get(readiness))
        .route("/metrics", get(metrics))
        .route("/metrics/cluster", get(cluster))
        .fallback(respond::not_found)
        .layer(map_response(guard))
        .with_state(state)
}

async fn guard(mut response: Response) -> Response {
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
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
