//! `/dev/crm/feedback/themes`: what people talk about.

use axum::extract::State;
use shared::insight::themes::{LIMIT, MAX_LIMIT, Themes, ThemesReport};
use shared::platform::db;

use super::reports::answer;
use crate::AppState;
use crate::extract::Query;
use crate::http::auth::Caller;
use crate::openapi::operations::{Operation, tagged};
use crate::openapi::parameters;
use crate::respond::Result;

pub(crate) fn operations() -> Vec<Operation> {
    let themes = [Operation::get("/feedback/themes", read)
        .named("getFeedbackThemes", "What people talk about in their comments")
        .about(
            "Phrases that many comments share, found in the comments themselves, the most telling first. \
             They are found anew each night, and when much was said since; an answer is counted within seconds. \
             A theme is told for the period as a whole: `interval` and `tz` change nothing.",
        )
        .with([parameters::of_limit(LIMIT, MAX_LIMIT)])
        .reports::<Themes>()];
    tagged("Feedback", themes)
}

async fn read(State(state): State<AppState>, caller: Caller, Query(parameters): Query) -> Result {
    let report = ThemesReport::parse(&parameters, db::now())?;
    answer(&state, caller.workspace_id, report).await
}
