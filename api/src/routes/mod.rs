//! The routes, one file for each noun.

mod customers;
mod emails;
mod feedback;
mod followups;
pub(crate) mod health;
mod imports;
mod jobs;
mod leads;
mod nurture;
mod orders;
mod preview;
mod ratings;
mod records;
mod reports;
mod settings;
mod suppressions;
mod themes;
mod unsubscribe;
mod users;

use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::Response;
use tower_http::timeout::RequestBodyTimeoutLayer;

use crate::operations::{Operation, routes};
use crate::respond::{Problem, Result};
use crate::{AppState, openapi, pages};

/// Uploads take as long as they take.
fn uploads() -> Vec<Operation> {
    imports::operations()
}

/// All else must be answered in time: one line for each noun.
fn quick() -> Vec<Operation> {
    let nouns = [
        leads::operations(),
        nurture::operations(),
        customers::operations(),
        orders::operations(),
        feedback::operations(),
        followups::operations(),
        users::operations(),
        settings::operations(),
        suppressions::operations(),
        preview::operations(),
        reports::operations(),
        emails::operations(),
        ratings::operations(),
        themes::operations(),
        jobs::operations(),
    ];
    nouns.into_iter().flatten().collect()
}

/// Everything under `/dev/crm`, which needs a key.
pub(crate) fn with_key() -> Vec<Operation> {
    quick().into_iter().chain(uploads()).collect()
}

/// Everything beside that, which needs none.
pub(crate) fn open() -> Vec<Operation> {
    health::operations().into_iter().chain(openapi::operations()).collect()
}

/// Pages for people: one line for each noun.
pub(crate) fn pages() -> Vec<Operation> {
    [unsubscribe::operations(), feedback::pages()].into_iter().flatten().collect()
}

/// The routes of pages. Whatever goes wrong with them is a page, too.
pub(crate) fn for_people(state: &AppState) -> Router<AppState> {
    routes(&pages()).layer(from_fn_with_state(state.clone(), in_time)).layer(from_fn(pages::dress))
}

/// The routes under `/dev/crm`, with the limits of their kind.
pub(crate) fn crm(state: &AppState) -> Router<AppState> {
    routes(&quick())
        .layer(from_fn_with_state(state.clone(), in_time))
        .merge(routes(&uploads()).layer(DefaultBodyLimit::disable()))
        .layer(RequestBodyTimeoutLayer::new(Duration::from_secs(state.settings.api.upload_idle_timeout_s)))
}

async fn in_time(State(state): State<AppState>, request: Request, next: Next) -> Result<Response> {
    let limit = Duration::from_secs(state.settings.api.request_timeout_s);
    let answer = tokio::time::timeout(limit, next.run(request)).await;
    answer.map_err(|_| Problem::unavailable("Request took too long"))
}
