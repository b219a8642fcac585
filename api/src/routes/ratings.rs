//! `/dev/crm/feedback/analytics` and `/dev/crm/feedback/dashboard`: reports about feedback.

use axum::extract::State;
use axum::http::HeaderMap;
use shared::accounts::scopes::Scope;
use shared::insight::feedback::{FeedbackDashboardReport, FeedbackReport};

use super::reports::answer;
use crate::AppState;
use crate::extract::Query;
use crate::http::auth::Caller;
use crate::openapi::operations::{Operation, tagged};
use crate::respond::Result;

pub(crate) fn operations() -> Vec<Operation> {
    let figures = [
        Operation::get("/feedback/analytics", analytics)
            .needs(Scope::RecordsRead)
            .named("analytics", "Get feedback analytics")
            .about(
                "Response rates and satisfaction. Requests count in the period in which they were made, ratings in the \
                 period in which they were given.",
            )
            .reports::<FeedbackReport>(),
        Operation::get("/feedback/dashboard", dashboard)
            .needs(Scope::RecordsRead)
            .named("dashboard", "Get the feedback dashboard")
            .about("The figures of the period, and the current open requests, due reminders and latest answers.")
            .reports::<FeedbackDashboardReport>(),
    ];
    tagged("Feedback", figures)
}

async fn analytics(State(state): State<AppState>, caller: Caller, headers: HeaderMap, query: Query) -> Result {
    answer(&state, &caller, &headers, &query, FeedbackReport).await
}

async fn dashboard(State(state): State<AppState>, caller: Caller, headers: HeaderMap, query: Query) -> Result {
    answer(&state, &caller, &headers, &query, FeedbackDashboardReport).await
}
