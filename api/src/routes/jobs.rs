//! `/dev/crm/jobs`: long work, what it does and what it refused.

mod errors;
mod events;

use axum::extract::State;
use axum::http::Uri;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Json, Router};
use shared::jobs::{self, Job};

use crate::auth::Caller;
use crate::extract::{NoBody, NoQuery, Path, Query};
use crate::respond::{Result, accepted};
use crate::{AppState, lists};

pub(crate) fn router() -> Router<AppState> {
    Router::new()
        .route("/jobs", get(list))
        .route("/jobs/{jobId}", get(read))
        .route("/jobs/{jobId}/cancel", post(cancel))
        .route("/jobs/{jobId}/retry", post(retry))
        .route("/jobs/{jobId}/errors", get(errors::errors))
        .route("/jobs/{jobId}/events", get(events::events))
}

async fn list(State(state): State<AppState>, caller: Caller, uri: Uri, query: Query) -> Result {
    lists::answer::<Job>(&state.pool, caller.workspace_id, (&jobs::LIST, jobs::COLUMNS), &uri, query).await
}

async fn read(State(state): State<AppState>, caller: Caller, Path([id]): Path, _: NoQuery) -> Result {
    let job = jobs::get(&mut *state.connection().await?, caller.workspace_id, id).await?;
    Ok(Json(job).into_response())
}

async fn cancel(State(state): State<AppState>, caller: Caller, Path([id]): Path, _: NoQuery, _: NoBody) -> Result {
    let job = jobs::cancel(&mut *state.connection().await?, caller.workspace_id, id).await?;
    Ok(Json(job).into_response())
}

async fn retry(State(state): State<AppState>, caller: Caller, Path([id]): Path, _: NoQuery, _: NoBody) -> Result {
    let (job, queue) = jobs::retry(&mut *state.connection().await?, caller.workspace_id, id).await?;
    state.doorbell.ring(queue);
    accepted(&job)
}
