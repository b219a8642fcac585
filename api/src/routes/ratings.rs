//! `/dev/crm/feedback/analytics` and `/dev/crm/feedback/dashboard`: reports about feedback.

use axum::extract::State;
use shared::insight::feedback::{FeedbackDashboard, FeedbackDashboardReport, FeedbackFigures, FeedbackReport};
use shared::insight::period::Period;
use shared::platform::db;

use super::reports;
use crate::AppState;
use crate::extract::Query;
use crate::http::auth::Caller;
use crate::openapi::operations::{Operation, tagged};
use crate::respond::Result;

pub(crate) fn operations() -> Vec<Operation> {
    let figures = [
        Operation::get("/feedback/analytics", analytics)
            .named("analytics", "Get feedback analytics")
            .about(
                "Response rates and satisfaction. Requests count in the period in which they were made, ratings in the \
                 period in which they were given.",
            )
            .reports::<FeedbackFigures>(),
        Operation::get("/feedback/dashboard", dashboard)
            .named("dashboard", "Get the feedback dashboard")
            .about("The figures of the period, and the current open requests, due reminders and latest answers.")
            .reports::<FeedbackDashboard>(),
    ];
    tagged("Feedback", figures)
}

async fn analytics(State(state): State<AppState>, caller: Caller, Query(parameters): Query) -> Result {
    let period = Period::parse(&parameters, db::now())?;
    reports::answer(&state, caller.workspace_id, FeedbackReport { period }).await
}

async fn dashboard(State(state): State<AppState>, caller: Caller, Query(parameters): Query) -> Result {
    let period = Period::parse(&parameters, db::now())?;
    reports::answer(&state, caller.workspace_id, FeedbackDashboardReport { period }).await
}
