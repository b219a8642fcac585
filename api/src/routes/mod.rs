//! The routes, one file for each noun.

mod audit;
mod bulk;
mod customers;
mod emails;
mod events;
mod feedback;
mod followups;
pub(crate) mod health;
mod imports;
mod jobs;
mod keys;
mod leads;
mod me;
mod nurture;
mod orders;
mod preview;
mod ratings;
mod records;
mod reports;
mod schedules;
mod sessions;
mod settings;
mod suppressions;
mod themes;
mod unsubscribe;
mod uploads;
mod users;
mod webhooks;

use std::convert::Infallible;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::future::RouteFuture;
use shared::platform::db::{self, Finished};
use tower::util::MapFutureLayer;

use crate::http::rate_limit::limit_open;
use crate::openapi::operations::{Operation, routes, routes_with_key};
use crate::respond::Problem;
use crate::{AppState, openapi, pages};

/// Routes without a time limit.
fn uploads() -> Vec<Operation> {
    imports::operations().into_iter().chain(uploads::operations()).collect()
}

/// Routes with a time limit, one line for each noun.
fn quick() -> Vec<Operation> {
    let nouns = [
        leads::operations(),
        nurture::operations(),
        customers::operations(),
        orders::operations(),
        bulk::operations(),
        feedback::operations(),
        followups::operations(),
        me::operations(),
        users::operations(),
        settings::operations(),
        suppressions::operations(),
        preview::operations(),
        reports::operations(),
        emails::operations(),
        events::operations(),
        ratings::operations(),
        themes::operations(),
        webhooks::operations(),
        jobs::operations(),
        schedules::operations(),
        keys::operations(),
        sessions::operations(),
        audit::operations(),
    ];
    nouns.into_iter().flatten().collect()
}

/// The operations under `/dev/crm`, which need a key.
pub(crate) fn with_key() -> Vec<Operation> {
    quick().into_iter().chain(uploads()).collect()
}

/// The other operations, which need no key.
pub(crate) fn open() -> Vec<Operation> {
    health::operations().into_iter().chain(openapi::operations()).collect()
}

/// Pages for people.
pub(crate) fn pages() -> Vec<Operation> {
    [unsubscribe::operations(), feedback::pages()].into_iter().flatten().collect()
}

/// The routes that need no key and are no pages for people.
pub(crate) fn without_key(state: &AppState) -> Router<AppState> {
    routes(&open()).merge(openapi::docs()).layer(from_fn_with_state(state.clone(), limit_open))
}

/// The routes of pages, whose errors are pages, too.
pub(crate) fn for_people(state: &AppState) -> Router<AppState> {
    in_time(state, routes(&pages()))
        .layer(from_fn_with_state(state.clone(), limit_open))
        .layer(from_fn(pages::ensure_page))
}

/// The routes under `/dev/crm`, with their limits.
pub(crate) fn crm(state: &AppState) -> Router<AppState> {
    in_time(state, routes_with_key(&quick(), state))
        .merge(routes_with_key(&uploads(), state).layer(DefaultBodyLimit::disable()))
}

/// Limits the time of requests of these routes.
pub(crate) fn in_time(state: &AppState, routes: Router<AppState>) -> Router<AppState> {
    let limit = Duration::from_secs(state.settings.api.request_timeout_s);
    routes.layer(MapFutureLayer::new(move |answer| within(limit, answer)))
}

/// Returns 503 when the request exceeds the limit and its work was rolled back.
async fn within(limit: Duration, answer: RouteFuture<Infallible>) -> Result<Response, Infallible> {
    match db::within(limit, answer).await {
        Finished::InTime(answer) => answer,
        // A statement or COMMIT completed after the limit.
        Finished::Late(Some(Ok(answer))) if answer.status() != StatusCode::SERVICE_UNAVAILABLE => Ok(answer),
        Finished::Late(_) => Ok(Problem::unavailable("Request took too long").into_response()),
    }
}
