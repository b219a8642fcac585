//! The pages of reports, and their charts and tables as files.

mod cohorts;
mod customers;
mod leads;
mod segments;

use axum::Router;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;
use maud::{Markup, html};
use shared::accounts::scopes::Scope;

use super::feedback;
use crate::AppState;
use crate::console::charts::{Chart, Files};
use crate::console::layout::{page, page_with};
use crate::console::links::link;
use crate::console::lists::Filter;
use crate::console::parts;
use crate::console::periods::Span;
use crate::console::refusal::{Refusal, Result};
use crate::console::session::Visit;

pub(super) use customers::Customers;
pub(super) use leads::Leads;
pub(super) use segments::band_name;

/// The folder of the files of reports.
pub(super) const REPORTS: &str = "/console/reports";

/// The reports: their name, what people call them, and what they are about.
const ALL: [(&str, &str, &str); 5] = [
    ("/console/reports/leads", "Leads", "Leads created, the funnel, conversions by source and owner, outcomes."),
    ("/console/reports/customers", "Customers", "New customers, orders, how many come back, interactions."),
    ("/console/reports/cohorts", "Cohorts", "Who ordered again, by the month of the first order."),
    ("/console/reports/segments", "Segments", "Customers by recency, frequency and quantity of orders, and by health."),
    ("/console/feedback", "Feedback", "Ratings, CSAT, NPS and the themes of comments."),
];

/// The routes of these pages, under `/console`.
pub(super) fn routes() -> Router<AppState> {
    Router::new()
        .route("/reports", get(index))
        .route("/reports/leads", get(leads::show))
        .route("/reports/customers", get(customers::show))
        .route("/reports/cohorts", get(cohorts::show))
        .route("/reports/segments", get(segments::show))
        .route("/reports/{report}/{file}", get(file))
}

async fn index(visit: Visit) -> Result<Response> {
    let content = html! {
        (parts::head("Reports", &html! {}))
        @if visit.may(Scope::RecordsRead) {
            dl.reports { @for (path, name, about) in ALL { dt { a href=(path) { (name) } } dd { (about) } } }
        } @else {
            (parts::empty("Nothing to see with this key", &html! { "Reports need the scope " code { "records:read" } "." }))
        }
    };
    Ok(page(&visit, "Reports", &content))
}

/// The page of a report: its period, and what it shows, or why the API refuses the period.
pub(super) fn report(
    visit: &Visit,
    (title, about): (&str, &str),
    form: &Markup,
    content: Result<Markup>,
) -> Result<Response> {
    let (status, content) = match content {
        Ok(content) => (StatusCode::OK, content),
        Err(refusal) if refusal.status == StatusCode::BAD_REQUEST => (refusal.status, problems(&refusal)),
        Err(refusal) => return Err(refusal),
    };
    let content = html! {
        (parts::head(title, &html! {}))
        (parts::tabs("Reports", &visit.path, ALL.iter().map(|(path, name, _)| (*path, *name))))
        p.quiet { (about) }
        (form)
        (content)
    };
    Ok(page_with(status, visit, title, &content))
}

/// Why a period or a filter was refused.
pub(super) fn problems(refusal: &Refusal) -> Markup {
    html! {
        div.problems role="alert" {
            p { (refusal.message) }
            ul { @for fault in &refusal.errors { li { code { (fault.field) } " " (fault.message) } } }
        }
    }
}

/// Charts side by side.
pub(super) fn charts(folder: &str, query: &str, charts: &[Chart]) -> Markup {
    html! { div.charts { @for chart in charts { (chart.render(Files { folder, query })) } } }
}

/// What a star after the name of an interval means.
pub(super) fn about_stars() -> Markup {
    html! { p.hint { "* The interval is not over, or the period begins or ends within it." } }
}

/// A chart as SVG, or its table as the API returns it.
async fn file(visit: Visit, Path((report, file)): Path<(String, String)>) -> Result<Response> {
    let missing = || Refusal::of(StatusCode::NOT_FOUND, "There is no such file.");
    let (name, extension) = file.rsplit_once('.').ok_or_else(missing)?;
    match extension {
        "csv" => {
            let path = csv_path(&visit, &report).ok_or_else(missing)?;
            visit.crm.file(&link(&path, [("table", name)]), "text/csv").await
        }
        "svg" => {
            let charts = charts_of(&visit, &report).await?.ok_or_else(missing)?;
            let chart = charts.into_iter().find(|chart| chart.name == name).ok_or_else(missing)?;
            Ok(chart.file())
        }
        _ => Err(missing()),
    }
}

/// The path of a report, with the intervals of its charts.
fn csv_path(visit: &Visit, report: &str) -> Option<String> {
    let with_intervals = |path: &str, filters: &[Filter]| {
        let span = Span::of(visit, filters);
        link(&span.report(path), [("interval", span.interval())])
    };
    Some(match report {
        "leads" => with_intervals("/reports/leads", &leads::filters()),
        "customers" => with_intervals("/reports/customers", &customers::filters()),
        "cohorts" => Span::of(visit, &customers::filters()).or_a_year().report("/reports/customers"),
        "segments" => Span::filtered(visit, &segments::filters()).report("/customers/segments"),
        "feedback" => with_intervals("/feedback/analytics", &feedback::filters()),
        "themes" => Span::of(visit, &feedback::filters()).report("/feedback/themes"),
        _ => return None,
    })
}

async fn charts_of(visit: &Visit, report: &str) -> Result<Option<Vec<Chart>>> {
    Ok(Some(match report {
        "leads" => Leads::read(visit, &Span::of(visit, &leads::filters()).alone()).await?.charts(),
        "customers" => Customers::read(visit, &Span::of(visit, &customers::filters()).alone()).await?.charts(),
        "cohorts" => cohorts::charts(visit).await?,
        "segments" => segments::charts(visit).await?,
        "feedback" => feedback::charts(visit).await?,
        _ => return Ok(None),
    }))
}

/// A choice of words of the API.
pub(super) fn choice(name: &'static str, label: &'static str, words: &[&str]) -> Filter {
    Filter::choice(name, label, words.iter().map(|word| (*word, parts::words(word))))
}
