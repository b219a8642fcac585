//! `/dev/crm/feedback/themes`: the themes of customers' comments.

use axum::extract::State;
use axum::http::HeaderMap;
use shared::accounts::scopes::Scope;
use shared::insight::themes::ThemesReport;

use super::reports::answer;
use crate::AppState;
use crate::extract::Query;
use crate::http::auth::Caller;
use crate::openapi::operations::{Operation, tagged};
use crate::respond::Result;

pub(crate) fn operations() -> Vec<Operation> {
    let themes = [Operation::get("/feedback/themes", read)
        .needs(Scope::RecordsRead)
        .named("themes", "Get feedback themes")
        .about(
            "Phrases that many comments share, discovered in the comments themselves, most significant first. \
             Themes are rediscovered each night and after many new comments; an answer is counted within seconds. \
             `GET /dev/crm/feedback?theme=` lists the comments of a theme.",
        )
        .reports::<ThemesReport>()];
    tagged("Feedback", themes)
}

async fn read(State(state): State<AppState>, caller: Caller, headers: HeaderMap, query: Query) -> Result {
    answer(&state, &caller, &headers, &query, ThemesReport).await
}
