//! `/dev/crm/feedback/themes`: the themes of customers' comments.

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
        .named("themes", "Get feedback themes")
        .about(
            "Phrases that many comments share, discovered in the comments themselves, most significant first. \
             Themes are rediscovered each night and after many new comments; an answer is counted within seconds. \
             The figures cover the whole period: `interval` and `tz` have no effect.",
        )
        .with([parameters::of_limit(LIMIT, MAX_LIMIT)])
        .reports::<Themes>()];
    tagged("Feedback", themes)
}

async fn read(State(state): State<AppState>, caller: Caller, Query(parameters): Query) -> Result {
    let report = ThemesReport::parse(&parameters, db::now())?;
    answer(&state, caller.workspace_id, report).await
}
