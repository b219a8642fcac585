//! `/dev/crm/jobs`: long work, what it does and what it refused.

mod errors;
mod events;

use axum::Router;
use axum::extract::State;
use axum::http::Uri;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use shared::imports;
use shared::jobs::{self, Job};

use crate::auth::Caller;
use crate::extract::{NoBody, NoQuery, Path, Query};
use crate::respond::{Reply, Result};
use crate::write::Write;
use crate::{AppState, lists};

pub(crate) fn router() -> Router<AppState> {
    Router::new()
        .route("/jobs", get(list))
        .route("/jobs/{jobId}", get(read))
        .route("/jobs/{jobId}/cancel", post(cancel))
        .route("/jobs/{jobId}/retry", post(retry))
        .route("/jobs/{jobId}/undo", post(undo))
        .route("/jobs/{jobId}/errors", get(errors::errors))
        .route("/jobs/{jobId}/events", get(events::events))
}

async fn list(State(state): State<AppState>, caller: Caller, uri: Uri, query: Query) -> Result {
    lists::answer::<Job>(&state, caller.workspace_id, (&jobs::LIST, jobs::COLUMNS), None, &uri, query).await
}

async fn read(State(state): State<AppState>, caller: Caller, Path(id): Path, _: NoQuery) -> Result {
    let job = jobs::get(&mut *state.connection().await?, caller.workspace_id, id).await?;
    Ok(Reply::json(&job)?.into_response())
}

async fn cancel(Path(id): Path, write: Write, _: NoQuery, _: NoBody) -> Result {
    write
        .run(&[], move |connection, actor| {
            Box::pin(async move { Reply::json(&jobs::cancel(connection, actor.workspace_id, id).await?) })
        })
        .await
}

async fn retry(Path(id): Path, write: Write, _: NoQuery, _: NoBody) -> Result {
    write
        .run(&[], move |connection, actor| {
            Box::pin(async move { Reply::accepted(&jobs::retry(connection, actor.workspace_id, id).await?) })
        })
        .await
}

async fn undo(Path(id): Path, write: Write, _: NoQuery, _: NoBody) -> Result {
    write
        .run(&[], move |connection, actor| {
            Box::pin(async move { Reply::accepted(&imports::undo(connection, actor, id).await?) })
        })
        .await
}
