//! For operators: whether the process is alive, whether it can serve, and what it has done.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use serde::Serialize;
use shared::db::{self, Pool};
use tokio::time::timeout;
use utoipa::ToSchema;

use crate::AppState;
use crate::observe;
use crate::operations::{Operation, tagged};
use crate::respond::{Problem, Result};

/// A probe wants its answer soon, also while the database is away.
const PATIENCE: Duration = Duration::from_secs(2);

pub(crate) fn operations() -> Vec<Operation> {
    let health = [
        Operation::get("/healthz", alive)
            .named("getHealth", "Whether the process lives")
            .returns::<Message>(200, "It does."),
        Operation::get("/readyz", ready)
            .named("getReadiness", "Whether the process can do its work")
            .about("503 while the database is away, migrations are pending, or the process is stopping.")
            .returns::<Message>(200, "It can."),
        Operation::get("/metrics", metrics)
            .named("getMetrics", "What the process has done, for Prometheus")
            .returns_text("Counters and histograms.", "text/plain; version=0.0.4; charset=utf-8"),
    ];
    tagged("Operations", health)
}

/// An answer that is one sentence.
#[derive(Serialize, ToSchema)]
struct Message {
    /// The sentence, for people.
    message: &'static str,
}

async fn alive() -> impl IntoResponse {
    Json(Message { message: "alive" })
}

async fn ready(State(state): State<AppState>) -> Result<impl IntoResponse> {
    if state.stopping.is_cancelled() {
        return Err(Problem::unavailable("The process is stopping"));
    }
    let pending = timeout(PATIENCE, pending_migrations(&state.pool)).await;
    match pending {
        Ok(Ok(pending)) if pending.is_empty() => Ok(Json(Message { message: "ready" })),
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
