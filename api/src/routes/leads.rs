//! `/dev/crm/leads`

use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::IntoResponse;
use axum::routing::get;
use shared::leads::{self, Lead};

use crate::auth::Caller;
use crate::extract::{JsonObject, NoQuery, Path, Query};
use crate::respond::{Result, created};
use crate::{AppState, lists};

pub(crate) fn router() -> Router<AppState> {
    Router::new()
        .route("/leads", get(list).post(create))
        .route("/leads/export", get(export))
        .route("/leads/{leadId}", get(read).put(update).delete(delete))
}

async fn list(State(state): State<AppState>, caller: Caller, uri: Uri, query: Query) -> Result {
    lists::answer::<Lead>(&state.pool, caller.workspace_id, (&leads::LIST, leads::COLUMNS), &uri, query).await
}

async fn export(State(state): State<AppState>, caller: Caller, query: Query) -> Result {
    lists::export::<Lead>(&state.pool, caller.workspace_id, (&leads::LIST, leads::COLUMNS), query).await
}

async fn create(State(state): State<AppState>, caller: Caller, _: NoQuery, JsonObject(body): JsonObject) -> Result {
    let lead = leads::create(&mut *state.connection().await?, caller.workspace_id, body).await?;
    created(&format!("/dev/crm/leads/{}", lead.id), &lead)
}

async fn read(State(state): State<AppState>, caller: Caller, Path([id]): Path, _: NoQuery) -> Result {
    let lead = leads::get(&mut *state.connection().await?, caller.workspace_id, id).await?;
    Ok(Json(lead).into_response())
}

async fn update(
    State(state): State<AppState>,
    caller: Caller,
    Path([id]): Path,
    _: NoQuery,
    JsonObject(body): JsonObject,
) -> Result {
    let mut transaction = state.begin().await?;
    let lead = leads::update(&mut transaction, caller.workspace_id, id, body).await?;
    transaction.commit().await.map_err(shared::Error::from)?;
    Ok(Json(lead).into_response())
}

async fn delete(State(state): State<AppState>, caller: Caller, Path([id]): Path, _: NoQuery) -> Result {
    leads::delete(&mut *state.connection().await?, caller.workspace_id, id).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
