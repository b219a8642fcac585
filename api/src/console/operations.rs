//! The console of operators, on the admin port alone: what happens in all workspaces, and what steers it.
//!
//! Like the pages of a workspace, these are a client in this process: of the operator API, as the operator who signed
//! in. So each action has its refusals, its audit and its effect from there.

mod jobs;
mod overview;
mod session;
mod shown;
mod steer;

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::Redirect;
use axum::routing::{get, post};
use tokio_util::task::TaskTracker;

use super::{CONSOLE, assets, refusal};
use crate::operator;
use crate::{AppState, routes};

use session::OperatorApi;

/// The routes of the console of operators. They are 404 if a setting turns the console off.
pub(crate) fn routes(state: &AppState, tasks: TaskTracker) -> Router {
    if !state.settings.console.enabled {
        return Router::new();
    }
    let api = OperatorApi::new(operator::routes(state.clone(), tasks));
    let signed_in = Router::new()
        .route("/", get(overview::show))
        .route("/live", get(overview::live))
        .route("/jobs", get(jobs::show))
        .route("/jobs/{decision}", post(jobs::decide))
        .route("/steer/{group}/{name}/{verb}", post(steer::steer))
        .route("/sign-out", post(session::sign_out))
        .fallback(refusal::not_found)
        .layer(from_fn_with_state((state.clone(), api), session::require));
    let open = routes::in_time(state, Router::new().route("/sign-in", get(session::ask).post(session::sign_in)));
    let pages = signed_in.merge(open).layer(from_fn(refusal::ensure_page)).merge(assets::routes());
    Router::new()
        .nest(CONSOLE, pages)
        .route("/", get(async || Redirect::to(CONSOLE)))
        .route("/console/", get(async || Redirect::to(CONSOLE)))
        .with_state(state.clone())
}
