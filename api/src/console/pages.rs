//! The pages, one file for each noun.

mod customers;
mod emails;
mod feedback;
mod imports;
mod jobs;
mod leads;
mod orders;
mod overview;
mod records;
mod reports;
mod settings;

use axum::Router;
use axum::response::Redirect;
use axum::routing::post;

use super::session;
use crate::AppState;

/// The routes of all pages, for who is signed in.
pub(super) fn routes() -> Router<AppState> {
    Router::new()
        .merge(overview::routes())
        .merge(leads::routes())
        .merge(customers::routes())
        .merge(orders::routes())
        .merge(imports::routes())
        .merge(jobs::routes())
        .merge(emails::routes())
        .merge(feedback::routes())
        .merge(reports::routes())
        .merge(settings::routes())
        .route("/sign-out", post(session::sign_out))
}

/// The routes that take a file, without a limit of their time.
pub(super) fn uploads() -> Router<AppState> {
    imports::uploads()
}

/// The overview has no slash at its end.
pub(super) async fn to_overview() -> Redirect {
    Redirect::permanent(super::CONSOLE)
}
