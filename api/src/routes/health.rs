//! For load balancers: whether the process is alive, and whether it can serve.
//!
//! The reasons are for operators, on the [admin](crate::http::admin) port.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse;
use serde::Serialize;
use shared::platform::db::{self, Pool};
use tokio::time::timeout;
use utoipa::ToSchema;

use crate::AppState;
use crate::openapi::operations::{Operation, tagged};
use crate::respond::{Problem, Result};

/// A probe wants its answer soon, also while the database is unavailable.
const PATIENCE: Duration = Duration::from_secs(2);

pub(crate) fn operations() -> Vec<Operation> {
    let health = [
        Operation::get("/healthz", alive)
            .named("getHealth", "Whether the process lives")
            .returns::<Message>(200, "It does."),
        Operation::get("/readyz", ready)
            .named("getReadiness", "Whether the process can do its work")
            .about(
                "503 while the database is unavailable, migrations are pending, or the process is stopping. The reason \
                 is on the admin port, which is for operators.",
            )
            .returns::<Message>(200, "It can."),
    ];
    tagged("Operations", health)
}

/// An answer that is one sentence.
#[derive(Serialize, ToSchema)]
struct Message {
    /// The sentence, for people.
    message: &'static str,
}

pub(crate) async fn alive() -> impl IntoResponse {
    Json(Message { message: "alive" })
}

/// One word: why a process is not ready is nobody's business but its operators'.
async fn ready(State(state): State<AppState>) -> Result<impl IntoResponse> {
    match readiness(&state).await {
        Ok(Readiness::Ready) => Ok(Json(Message { message: "ready" })),
        Ok(Readiness::Not(_)) => Err(Problem::unavailable("unavailable")),
        Err(error) => {
            tracing::error!(%error, "the readiness cannot be determined");
            Err(Problem::unavailable("unavailable"))
        }
    }
}

/// Whether a process can do its work, and why not.
pub(crate) enum Readiness {
    Ready,
    Not(String),
}

/// # Errors
/// When the database fails in a way that is no outage.
pub(crate) async fn readiness(state: &AppState) -> shared::Result<Readiness> {
    if state.stopping.is_cancelled() {
        return Ok(Readiness::Not("The process is stopping".to_owned()));
    }
    match timeout(PATIENCE, pending_migrations(&state.pool)).await {
        Ok(Ok(pending)) if pending.is_empty() => Ok(Readiness::Ready),
        Ok(Ok(pending)) => {
            let pending: Vec<String> = pending.iter().map(ToString::to_string).collect();
            Ok(Readiness::Not(format!("Migrations are pending: {}; run crm-api migrate", pending.join(", "))))
        }
        Ok(Err(shared::Error::Unavailable(_))) | Err(_) => {
            Ok(Readiness::Not("The database cannot be reached".to_owned()))
        }
        Ok(Err(error)) => Err(error),
    }
}

async fn pending_migrations(pool: &Pool) -> shared::Result<Vec<i64>> {
    db::pending_migrations(&mut *pool.acquire().await?).await
}
