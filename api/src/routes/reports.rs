//! `/dev/crm/reports` and `/dev/crm/analytics`

use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE, VARY};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use shared::accounts::scopes::Scope;
use shared::insight::reports::{self, CustomerReport, DashboardReport, LeadReport, Report};
use shared::insight::request::{self, Request};
use shared::insight::table::{self, Format, Table};
use shared::platform::db;

use crate::AppState;
use crate::extract::Query;
use crate::http::auth::Caller;
use crate::openapi::operations::{Operation, tagged};
use crate::respond::Result;
use crate::respond::accept::wants_csv;

pub(crate) fn operations() -> Vec<Operation> {
    let reports = [
        Operation::get("/reports/leads", leads)
            .needs(Scope::RecordsRead)
            .named("leads", "Get lead metrics")
            .about(
                "The leads created in the period and their outcomes to date; what was won and lost in the period; and \
                 totals of all leads.",
            )
            .reports::<LeadReport>(),
        Operation::get("/reports/customers", customers)
            .needs(Scope::RecordsRead)
            .named("customers", "Get customer metrics")
            .about("The orders in the period and how many customers return; `totals` covers all customers.")
            .reports::<CustomerReport>(),
        Operation::get("/analytics/dashboard", dashboard)
            .needs(Scope::RecordsRead)
            .named("dashboard", "Get the dashboard")
            .about(
                "The headline of each report, and current activity. Headlines are compared with the period before; \
                 segments with the last daily snapshot, and health with the oldest snapshot of the period.",
            )
            .reports::<DashboardReport>(),
    ];
    tagged("Reports", reports)
}

async fn leads(State(state): State<AppState>, caller: Caller, headers: HeaderMap, query: Query) -> Result {
    answer(&state, &caller, &headers, &query, LeadReport).await
}

async fn customers(State(state): State<AppState>, caller: Caller, headers: HeaderMap, query: Query) -> Result {
    answer(&state, &caller, &headers, &query, CustomerReport).await
}

async fn dashboard(State(state): State<AppState>, caller: Caller, headers: HeaderMap, query: Query) -> Result {
    answer(&state, &caller, &headers, &query, DashboardReport).await
}

/// Responds with a report, which may be cached, or with one of its tables.
pub(super) async fn answer<R: Report>(
    state: &AppState,
    caller: &Caller,
    headers: &HeaderMap,
    Query(parameters): &Query,
    report: R,
) -> Result {
    let workspace_id = caller.workspace_id;
    let zone = request::zone(&mut *state.connection().await?, workspace_id).await?;
    let request = Request::parse(&R::OFFERS, format(headers, R::TABLES), parameters, zone, db::now())?;
    if R::SHOWS_SCORES || request.needs_scores() {
        super::customers::refresh_if_cheap(state, workspace_id).await?;
    }
    let table = request.table;
    let figures = reports::cached(&state.pool, workspace_id, report, request).await?;
    Ok(match table {
        Some(table) => file(R::NAME, table, &serde_json::from_str(figures.get()).map_err(shared::Error::from)?)?,
        None => json(Box::<str>::from(figures).into_string()),
    })
}

/// The format that a client prefers.
pub(super) fn format(headers: &HeaderMap, tables: &'static [Table]) -> Format {
    if wants_csv(headers) { Format::Csv(tables) } else { Format::Json }
}

/// A response in JSON that could have been CSV.
pub(super) fn json(body: String) -> Response {
    ([(CONTENT_TYPE, "application/json"), (VARY, "accept")], body).into_response()
}

/// A response with a table of a report as a file.
pub(super) fn file(report: &str, table: &Table, figures: &Value) -> Result {
    let name = format!("attachment; filename=\"{}-{}.csv\"", report.replace('/', "-"), table.name);
    let heads = [(CONTENT_TYPE, "text/csv; charset=utf-8; header=present"), (VARY, "accept")];
    Ok((heads, [(CONTENT_DISPOSITION, name)], table::csv(table, figures)?).into_response())
}
