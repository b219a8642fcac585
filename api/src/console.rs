//! The console: pages for people, under `/console`.
//!
//! It is a client of the API in this process: a page asks the routes under `/dev/crm` what it shows, and a form sends
//! them what it changes, as the key of the session ([`crm`]). So scopes, validation, conflicts, idempotency and the
//! audit log are the API's own, and the console can do nothing that the API cannot do. Pages never read the database.
//!
//! A request passes [`session`], which finds who is signed in, and its page in [`pages`], which is made of [`parts`]
//! inside the [`layout`]. An error becomes a page in [`refusal`].

mod assets;
mod charts;
mod crm;
mod figures;
mod forms;
mod layout;
mod links;
mod lists;
mod live;
mod notice;
pub(crate) mod operations;
mod pages;
mod parts;
mod periods;
mod refusal;
mod session;
mod sign_in;
mod times;

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::get;

use crate::http::rate_limit::limit_open;
use crate::{AppState, CRM, routes};

use crm::Crm;
/// The path of the console.
pub(crate) const CONSOLE: &str = "/console";

/// The routes of the console. They answer 404 if a setting turns it off.
pub(crate) fn routes(state: &AppState) -> Router<AppState> {
    if !state.settings.console.enabled {
        return Router::new();
    }
    let crm = Crm::new(Router::new().nest(CRM, routes::crm(state)).with_state(state.clone()));
    // Each request to the API has its own time limit there.
    let signed_in = pages::routes()
        .merge(pages::uploads())
        .fallback(refusal::not_found)
        .layer(from_fn_with_state((state.clone(), crm), session::require))
        .layer(from_fn(refusal::ensure_page));
    let open = routes::in_time(state, sign_in::routes())
        .layer(from_fn(refusal::ensure_page))
        .merge(assets::routes())
        .layer(from_fn_with_state(state.clone(), limit_open));
    Router::new().nest(CONSOLE, signed_in.merge(open)).route("/console/", get(pages::to_overview))
}
