//! The pages of jobs: the list, one job, and the start of workflows.

pub(super) mod job;
mod one;
pub(super) mod result;
pub(super) mod rows;
mod schedules;
mod start;
mod workflows;

use std::time::Duration;

use axum::Router;
use axum::response::Response;
use axum::routing::{get, post};
use maud::{Markup, html};
use shared::accounts::scopes::Scope;
use shared::jobs::NAMES;

use crate::AppState;
use crate::console::layout::page;
use crate::console::links::link;
use crate::console::lists::{self, Column, Filter};
use crate::console::live;
use crate::console::parts;
use crate::console::refusal::Result;
use crate::console::session::Visit;
use crate::console::times;

use job::{Job, title};

/// The path of these pages.
pub(super) const JOBS: &str = "/console/jobs";
/// How often a page that lives looks for news.
pub(super) const EVERY: Duration = Duration::from_secs(1);
/// The states of a job.
pub(super) const STATUSES: [&str; 5] = ["queued", "running", "succeeded", "failed", "cancelled"];

/// The routes of these pages, under `/console`.
pub(super) fn routes() -> Router<AppState> {
    Router::new()
        .route("/jobs", get(list))
        .route("/jobs/live", get(list_live))
        .route("/jobs/start", get(start::list))
        .route("/jobs/start/feedback-request", get(start::feedback).post(start::request_feedback))
        .route("/jobs/start/{workflow}", get(start::show).post(start::start))
        .route("/jobs/start/{workflow}/live", get(start::live))
        .route("/jobs/schedules/{id}/run", post(schedules::run))
        .route("/jobs/{id}", get(one::show))
        .route("/jobs/{id}/live", get(one::live))
        .route("/jobs/{id}/records", get(rows::records))
        .route("/jobs/{id}/rejected.csv", get(rows::file))
        .route("/jobs/{id}/cancel", post(one::cancel))
        .route("/jobs/{id}/retry", post(one::retry))
        .route("/jobs/{id}/undo", post(one::undo))
}

async fn list(visit: Visit) -> Result<Response> {
    let filters = filters();
    let table = table(&visit).await?;
    let live = link("/console/jobs/live", visit.query.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let content = html! {
        (parts::head("Jobs", &actions(&visit)))
        (lists::filters(&visit, &filters, COLUMNS))
        (live::region(&live, &table))
    };
    Ok(page(&visit, "Jobs", &content))
}

async fn list_live(visit: Visit) -> Response {
    // Links of the table lead to the list.
    let visit = Visit { path: JOBS.to_owned(), ..visit };
    live::stream(visit, EVERY * 2, |visit| async move { table(&visit).await })
}

async fn table(visit: &Visit) -> Result<Markup> {
    let jobs = lists::read::<Job>(visit, "/jobs", &filters()).await?;
    Ok(lists::table(visit, "Jobs", COLUMNS, &jobs, &nothing(visit)))
}

fn actions(visit: &Visit) -> Markup {
    html! {
        @if visit.may(Scope::Imports) { a.button href="/console/imports" { "Import a file" } }
        @if visit.may(Scope::Workflows) { a.button.primary href="/console/jobs/start" { "Start a workflow" } }
    }
}

fn nothing(visit: &Visit) -> Markup {
    if !visit.query.is_empty() {
        return parts::empty(
            "No job matches",
            &html! { "Change the filters, or " a href=(JOBS) { "show all jobs" } "." },
        );
    }
    parts::empty(
        "No jobs yet",
        &html! {
            "Imports, workflows and the nightly run appear here. Finished jobs are kept for a limited time."
            @if visit.may(Scope::Imports) { " " a href="/console/imports" { "Import a file" } " to begin." }
        },
    )
}

fn filters() -> Vec<Filter> {
    vec![
        Filter::choice("kind", "Kind", NAMES.iter().map(|kind| (*kind, title(kind)))),
        Filter::choice("status", "Status", STATUSES.map(|status| (status, parts::words(status)))),
        Filter::input("created_at[gte]", "Since", "date"),
        Filter::input("created_at[lt]", "Before", "date"),
    ]
}

const COLUMNS: &[Column<Job>] = &[
    Column::new("Job", |_: &Visit, job: &Job| html! { a href=(job.page()) { (title(&job.kind)) } }),
    Column::new("Status", |_: &Visit, job: &Job| job.badge()),
    Column::new("Progress", |_: &Visit, job: &Job| job.progress()),
    Column::new("Outcome", |_: &Visit, job: &Job| job.outcome()),
    Column::new("Accepted", |visit: &Visit, job: &Job| times::time(visit.zone, job.created_at)).sorted("created_at"),
    Column::new("Started", |visit: &Visit, job: &Job| times::time_or_dash(visit.zone, job.started_at)).on_request(),
    Column::new("Ended", |visit: &Visit, job: &Job| times::time_or_dash(visit.zone, job.finished_at)),
    Column::new("Attempt", |_: &Visit, job: &Job| html! { (job.attempt) }).number().on_request(),
];
