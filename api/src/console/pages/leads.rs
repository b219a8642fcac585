//! The pages of leads: the list, one lead, and what can be done with it.

use axum::Router;

use crate::AppState;

/// The routes of these pages, under `/console`.
pub(super) fn routes() -> Router<AppState> {
    Router::new()
}
