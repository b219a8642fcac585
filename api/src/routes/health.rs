//! For operators: whether the process is alive, whether it can serve, and what it has done.

use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use serde_json::json;
use shared::db::{self, Pool};
use tokio::time::timeout;

use crate::AppState;
use crate::observe;
use crate::respond::{Problem, Result};

/// A probe wants its answer soon, also while the database is away.
const PATIENCE: Duration = Duration::from_secs(2);

pub(crate) fn router() -> Router<AppState> {
    Router::new().route("/healthz", get(alive)).route("/readyz", get(ready)).route("/metrics", get(metrics))
}

async fn alive() -> impl IntoResponse {
    Json(json!({ "message": "alive" }))
}

async fn ready(State(state): State<AppState>) -> Result<impl IntoResponse> {
    if state.stopping.is_cancelled() {
        return Err(Problem::unavailable("The process is stopping"));
    }
    let pending = timeout(PATIENCE, pending_migrations(&state.pool)).await;
    match pending {
        Ok(Ok(pending)) if pending.is_empty() => Ok(Json(json!({ "message": "ready" }))),
        Ok(Ok(pending)) => {
            let pending: Vec<String> = pending.iter().map(ToString::to_string).collect();
            Err(Problem::unavailable(format!("Migrations are pending: {}; run crm-api migrate", pending.join(", "))))
        }
        Ok(Err(shared::Error::Unavailable(_))) | Err(_) => Err(Problem::unavailable("The database cannot be reached")),
        Ok(Err(error)) => Err(error.into()),
    }
}

async fn pending_migrations(pool: &Pool) -> shared::Result<Vec<i64>> {
    db::pending_migrations(&mut *pool.acquire().await?).await
}

async fn metrics() -> Result<impl IntoResponse> {
    let metrics = observe::metrics().map_err(|error| Problem::internal(error.to_string()))?;
    Ok(([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics.render()))
}
