//! Liveness and readiness for load balancers. The [admin](crate::http::admin) port reports the
//! reasons.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse;
use serde::Serialize;
use shared::mail::place::{self, Hold};
use shared::platform::db::{self, Pool};
use tokio::time::timeout;
use utoipa::ToSchema;

use crate::AppState;
use crate::openapi::operations::{Operation, tagged};
use crate::respond::{Problem, Result};

/// Probes expect a response within 2 s, even while the database is unavailable.
const TIMEOUT: Duration = Duration::from_millis(1500);
/// How long a ready process looks for a hold of email.
const HOLD_TIMEOUT: Duration = Duration::from_millis(300);

pub(crate) fn operations() -> Vec<Operation> {
    let health = [
        Operation::get("/healthz", alive)
            .named("health", "Check liveness")
            .about("Answers while the process runs, also while the database is unavailable.")
            .returns::<Message>(200, "The process is alive."),
        Operation::get("/readyz", ready)
            .named("readiness", "Check readiness")
            .about(
                "Returns 503 while the database is unavailable, migrations are pending, or the process is stopping. The \
                 admin port reports the reason.",
            )
            .returns::<Message>(200, "The process can serve requests."),
    ];
    tagged("Operations", health)
}

/// A response with a single message.
#[derive(Serialize, ToSchema)]
struct Message {
    /// The message, for humans.
    message: &'static str,
}

pub(crate) async fn alive() -> impl IntoResponse {
    Json(Message { message: "alive" })
}

/// The reason is not public: it would reveal the state of the system.
async fn ready(State(state): State<AppState>) -> Result<impl IntoResponse> {
    match readiness(&state).await {
        Ok(Readiness::Ready) => Ok(Json(Message { message: "ready" })),
        Ok(Readiness::Not(_)) => Err(Problem::unavailable("unavailable")),
        Err(error) => {
            tracing::error!(%error, "readiness check failed");
            Err(Problem::unavailable("unavailable"))
        }
    }
}

/// Whether the process can serve requests, and if not, why.
pub(crate) enum Readiness {
    Ready,
    Not(String),
}

/// # Errors
/// When the database reports an error while it is available.
pub(crate) async fn readiness(state: &AppState) -> shared::Result<Readiness> {
    if state.stopping.is_cancelled() {
        return Ok(Readiness::Not("The process is stopping".to_owned()));
    }
    match timeout(TIMEOUT, pending_migrations(&state.pool)).await {
        Ok(Ok(pending)) if pending.is_empty() => Ok(Readiness::Ready),
        Ok(Ok(pending)) => {
            Ok(Readiness::Not(format!("Migrations are pending: {}; run crm-api migrate", pending.join(", "))))
        }
        Ok(Err(shared::Error::Unavailable(_))) | Err(_) => {
            Ok(Readiness::Not("The database cannot be reached".to_owned()))
        }
        Ok(Err(error)) => Err(error),
    }
}

/// Why email is on hold; `None` if it is not, or if the database does not answer in time.
pub(crate) async fn hold(state: &AppState) -> Option<Hold> {
    let status = async { place::status(&mut *state.pool.acquire().await?, state.settings.own_url()).await };
    timeout(HOLD_TIMEOUT, status).await.ok()?.ok()?.hold()
}

async fn pending_migrations(pool: &Pool) -> shared::Result<Vec<String>> {
    db::pending_migrations(&mut *pool.acquire().await?).await
}
