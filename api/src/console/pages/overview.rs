//! The overview.

use axum::Router;
use axum::response::Response;
use axum::routing::get;
use maud::html;

use crate::AppState;
use crate::console::layout::page;
use crate::console::parts;
use crate::console::refusal::Result;
use crate::console::session::Visit;

/// The routes of these pages, under `/console`.
pub(super) fn routes() -> Router<AppState> {
    Router::new().route("/", get(show))
}

async fn show(visit: Visit) -> Result<Response> {
    let content = html! {
        (parts::head("Overview", &html! {}))
    };
    Ok(page(&visit, "Overview", &content))
}
