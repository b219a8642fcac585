//! The overview: how the period went, what runs, and what needs attention.

mod attention;
mod running;
mod summary;

use axum::Router;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;
use maud::{Markup, html};
use shared::accounts::scopes::Scope;

use super::reports::problems;
use crate::AppState;
use crate::console::layout::page_with;
use crate::console::parts;
use crate::console::periods::Span;
use crate::console::refusal::Result;
use crate::console::session::Visit;

/// The routes of these pages, under `/console`.
pub(super) fn routes() -> Router<AppState> {
    Router::new().route("/", get(show)).route("/overview/running", get(running::follow))
}

async fn show(visit: Visit) -> Result<Response> {
    let span = Span::of(&visit, &[]);
    let (status, content) = match content(&visit, &span).await {
        Ok(content) => (StatusCode::OK, content),
        Err(refusal) if refusal.status == StatusCode::BAD_REQUEST => (refusal.status, problems(&refusal)),
        Err(refusal) => return Err(refusal),
    };
    let content = html! {
        (parts::head("Overview", &html! {}))
        @if visit.may(Scope::RecordsRead) { (span.form(&visit, &[], false)) }
        (content)
    };
    Ok(page_with(status, &visit, "Overview", &content))
}

/// What the key may see, read side by side.
async fn content(visit: &Visit, span: &Span) -> Result<Markup> {
    let (summary, attention, running) =
        tokio::try_join!(summary::read(visit, span), attention::read(visit), running::read(visit))?;
    let beside = html! {
        div.grid {
            (attention.render(visit, summary.as_ref()))
            (running::render(running.as_ref()))
        }
    };
    Ok(match summary {
        Some(summary) => summary.render(visit, span, &beside),
        None => beside,
    })
}
