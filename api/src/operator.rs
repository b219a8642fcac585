//! The operator API on the admin port, under `/operator`.
//!
//! [`routes`] answers for an operator that is known already, which the console uses in the same process; [`router`]
//! authenticates operators by their keys before.

mod auth;
mod list;
mod steer;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, extract::Request};
use serde::Serialize;
use serde_json::json;
use tokio_util::task::TaskTracker;

use crate::AppState;
use crate::respond::{self, Problem, Result};

pub(crate) use steer::Steering;

/// The largest body of a request.
const MAX_BODY: usize = 64 * 1024;

/// All routes, for requests with the key of an operator. Actions that take long continue as `tasks`.
pub(crate) fn router(state: AppState, tasks: TaskTracker) -> Router {
    routes(state.clone(), tasks).layer(from_fn_with_state(state, authenticate))
}

async fn authenticate(State(state): State<AppState>, request: Request, next: Next) -> Response {
    match auth::authenticate(&state, request).await {
        Ok(request) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

/// All routes, for requests whose operator is known: their extensions have a [`By`](shared::operations::actions::By).
pub(crate) fn routes(state: AppState, tasks: TaskTracker) -> Router {
    let lists = Router::new()
        .route("/jobs", get(list::jobs))
        .route("/jobs/count", get(list::count_jobs))
        .route("/jobs/{jobId}", get(list::job))
        .route("/emails", get(list::emails))
        .route("/emails/count", get(list::count_emails))
        .route("/emails/{emailId}", get(list::email))
        .route("/database", get(list::database))
        .route("/queues", get(list::queues))
        .route("/kinds", get(list::kinds))
        .route("/pauses", get(list::pauses))
        .route("/workers", get(list::workers))
        .route("/workers/{workerId}", get(list::worker))
        .route("/workspaces", get(list::workspaces))
        .route("/workspaces/{workspace}", get(list::workspace))
        .route("/schedules", get(list::schedules))
        .route("/schedules/{scheduleId}", get(list::schedule))
        .route("/actions", get(list::actions))
        .route("/actions/{actionId}", get(list::action))
        .with_state(state.clone());
    let steering = Router::new()
        .route("/jobs/retry", post(steer::retry_jobs))
        .route("/jobs/cancel", post(steer::cancel_jobs))
        .route("/emails/resend", post(steer::resend_emails))
        .route("/emails/mark-sent", post(steer::mark_emails_sent))
        .route("/emails/cancel", post(steer::cancel_emails))
        .route("/queues/{queue}/pause", post(steer::pause_queue))
        .route("/queues/{queue}/resume", post(steer::resume_queue))
        .route("/kinds/{kind}/pause", post(steer::pause_kind))
        .route("/kinds/{kind}/resume", post(steer::resume_kind))
        .route("/workspaces/{workspace}/pause", post(steer::pause_workspace))
        .route("/workspaces/{workspace}/resume", post(steer::resume_workspace))
        .route("/workspaces/{workspace}/suspend", post(steer::suspend))
        .route("/workspaces/{workspace}/unsuspend", post(steer::unsuspend))
        .route("/workers/{workerId}/drain", post(steer::drain))
        .route("/workers/{workerId}/undrain", post(steer::undrain))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(Steering { state, tasks });
    Router::new().nest("/operator", lists.merge(steering).fallback(respond::not_found))
}

/// `200` with `{"data": …}`.
fn data(data: impl Serialize) -> Result {
    let data = serde_json::to_value(data).map_err(|error| Problem::internal(error.to_string()))?;
    Ok(Json(json!({ "data": data })).into_response())
}
