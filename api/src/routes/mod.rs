//! The routes, one file for each noun.

mod customers;
pub(crate) mod health;
mod imports;
mod jobs;
mod leads;
mod orders;
mod records;

use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use tower_http::timeout::RequestBodyTimeoutLayer;

use crate::AppState;
use crate::respond::{Problem, Result};

/// Everything under `/dev/crm`: one line for each noun.
///
/// Uploads take as long as they take; all else must be answered in time.
pub(crate) fn crm(state: &AppState) -> Router<AppState> {
    let quick =
        Router::new().merge(customers::router()).merge(jobs::router()).merge(leads::router()).merge(orders::router());
    let uploads = Router::new().merge(imports::router());
    quick
        .layer(from_fn_with_state(state.clone(), in_time))
        .merge(uploads.layer(DefaultBodyLimit::disable()))
        .layer(RequestBodyTimeoutLayer::new(Duration::from_secs(state.settings.api.upload_idle_timeout_s)))
}

async fn in_time(State(state): State<AppState>, request: Request, next: Next) -> Result<Response> {
    let limit = Duration::from_secs(state.settings.api.request_timeout_s);
    let answer = tokio::time::timeout(limit, next.run(request)).await;
    answer.map_err(|_| Problem::unavailable("Request took too long"))
}
