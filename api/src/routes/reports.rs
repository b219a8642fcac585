//! `/dev/crm/reports` and `/dev/crm/analytics`

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use shared::insight::period::Period;
use shared::insight::reports::{
    self, CustomerMetrics, CustomerReport, Dashboard, DashboardReport, LeadMetrics, LeadReport, Report,
};
use shared::platform::db;
use uuid::Uuid;

use crate::AppState;
use crate::extract::Query;
use crate::http::auth::Caller;
use crate::openapi::operations::{Operation, tagged};
use crate::respond::Result;

pub(crate) fn operations() -> Vec<Operation> {
    let reports = [
        Operation::get("/reports/leads", leads)
            .named("leads", "Get lead metrics")
            .about("The leads created in the period and their outcomes to date; `totals` covers all leads.")
            .reports::<LeadMetrics>(),
        Operation::get("/reports/customers", customers)
            .named("customers", "Get customer metrics")
            .about("The orders in the period and how many customers return; `totals` covers all customers.")
            .reports::<CustomerMetrics>(),
        Operation::get("/analytics/dashboard", dashboard)
            .named("dashboard", "Get the dashboard")
            .about(
                "The headline of each report, and current activity. Headlines are compared with the preceding period of \
                 equal length; segments with the last daily snapshot, and health with the oldest snapshot of the period.",
            )
            .reports::<Dashboard>(),
    ];
    tagged("Reports", reports)
}

async fn leads(State(state): State<AppState>, caller: Caller, query: Query) -> Result {
    report(&state, &caller, &query, |period| LeadReport { period }).await
}

async fn customers(State(state): State<AppState>, caller: Caller, query: Query) -> Result {
    report(&state, &caller, &query, |period| CustomerReport { period }).await
}

async fn dashboard(State(state): State<AppState>, caller: Caller, query: Query) -> Result {
    let period = Period::parse(&query.0, db::now())?;
    super::customers::refresh_if_cheap(&state, caller.workspace_id).await?;
    answer(&state, caller.workspace_id, DashboardReport { period }).await
}

/// Responds with a report about the period in the query.
async fn report<R: Report>(
    state: &AppState,
    caller: &Caller,
    Query(parameters): &Query,
    report: impl FnOnce(Period) -> R,
) -> Result {
    let period = Period::parse(parameters, db::now())?;
    answer(state, caller.workspace_id, report(period)).await
}

/// Responds with a report, which may be cached.
pub(super) async fn answer<R: Report>(state: &AppState, workspace_id: Uuid, report: R) -> Result {
    let figures = reports::cached(&state.pool, workspace_id, report).await?;
    Ok(([(CONTENT_TYPE, "application/json")], Box::<str>::from(figures).into_string()).into_response())
}
