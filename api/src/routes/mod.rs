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

use std::convert::Infallible;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::middleware::from_fn;
use axum::response::{IntoResponse, Response};
use axum::routing::future::RouteFuture;
use shared::platform::db::{self, Finished};
use tower::util::MapFutureLayer;

use crate::openapi::operations::{Operation, routes};
use crate::respond::Problem;
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
    let limit = Duration::from_secs(state.settings.api.request_timeout_s);
    routes(&pages()).layer(MapFutureLayer::new(move |answer| in_time(limit, answer))).layer(from_fn(pages::dress))
}

/// The routes under `/dev/crm`, with the limits of their kind.
pub(crate) fn crm(state: &AppState) -> Router<AppState> {
    let limit = Duration::from_secs(state.settings.api.request_timeout_s);
    routes(&quick())
        .layer(MapFutureLayer::new(move |answer| in_time(limit, answer)))
        .merge(routes(&uploads()).layer(DefaultBodyLimit::disable()))
}

/// Answers in time, or with 503 after everything that the request has under way was rolled back.
async fn in_time(limit: Duration, answer: RouteFuture<Infallible>) -> Result<Response, Infallible> {
    match db::within(limit, answer).await {
        Finished::InTime(answer) => answer,
        // A statement or a COMMIT ended after all.
        Finished::Late(Some(Ok(answer))) if answer.status() != StatusCode::SERVICE_UNAVAILABLE => Ok(answer),
        Finished::Late(_) => Ok(Problem::unavailable("Request took too long").into_response()),
    }
}
