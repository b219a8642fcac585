//! The pages of emails and suppressions.

use axum::Router;

use crate::AppState;

/// The routes of these pages, under `/console`.
pub(super) fn routes() -> Router<AppState> {
    Router::new()
}
