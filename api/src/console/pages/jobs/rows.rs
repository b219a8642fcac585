//! What a job wrote, and what it rejected.

use axum::response::Response;
use chrono::{DateTime, Utc};
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::job::{Job, page_of, shortened, title};
use crate::console::layout::page;
use crate::console::lists::{self, Column, Filter};
use crate::console::parts::{self, badge, words};
use crate::console::refusal::Result;
use crate::console::session::{Id, Visit};
use crate::console::times;

/// The most rejected rows that a page shows.
const MOST: usize = 20;
/// The most cells of a row, and the most letters of a cell.
const CELLS: usize = 6;
const LETTERS: usize = 60;

/// A row that a job rejected.
#[derive(Debug, Deserialize)]
struct Rejected {
    line: i64,
    outcome: String,
    faults: Vec<RowFault>,
    row: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
struct RowFault {
    field: String,
    message: String,
}

/// The first rows that a job rejected, or wrote with warnings, and the file with all of them.
pub(crate) async fn rejected(visit: &Visit, job: &Job) -> Result<Markup> {
    let path = format!("/jobs/{}/errors?outcome=failed,warned", job.id);
    let rows: Vec<Rejected> = visit.crm.first(&path, MOST + 1).await?;
    if rows.is_empty() {
        return Ok(html! {});
    }
    let shown: Vec<Vec<Markup>> = rows.iter().take(MOST).map(row).collect();
    let what = if job.is_import() { "Rows with faults" } else { "Records left as they are" };
    let file = format!("/console/jobs/{}/rejected.csv", job.id);
    Ok(html! {
        section {
            h2 { (what) }
            (parts::table(what, &["Line", "Outcome", "Fault", "Content"], &shown))
            @if rows.len() > MOST { p.quiet { "The first " (MOST) "; the file has all." } }
            p {
                a.button href=(file) { "Rejected rows as CSV" }
                @if job.is_import() { " " span.quiet { "Correct them in the file, and import it as it is." } }
            }
        }
    })
}

fn row(Rejected { line, outcome, faults, row }: &Rejected) -> Vec<Markup> {
    let cells =
        row.iter().filter_map(|(name, value)| Some((name, value.as_str()?))).filter(|(_, text)| !text.is_empty());
    let cells = cells.take(CELLS);
    vec![
        html! { @if *line > 0 { (line) } @else { "–" } },
        badge(outcome),
        html! { @for fault in faults { div { code { (fault.field) } " " (fault.message) } } },
        html! {
            @for (at, (name, text)) in cells.enumerate() {
                @if at > 0 { ", " }
                span.quiet { (shortened(name, LETTERS)) ": " } (shortened(text, LETTERS))
            }
        },
    ]
}

/// The rejected rows as a file.
pub(super) async fn file(visit: Visit, Id(id): Id) -> Result<Response> {
    visit.crm.file(&format!("/jobs/{id}/errors"), "text/csv").await
}

/// Something that a job did.
#[derive(Debug, Deserialize)]
struct Written {
    outcome: String,
    #[serde(rename = "type")]
    kind: String,
    id: Uuid,
    email: Option<String>,
    line: Option<i64>,
    at: DateTime<Utc>,
}

const COLUMNS: &[Column<Written>] = &[
    Column::new("Record", |_: &Visit, written: &Written| {
        let text = written.email.clone().unwrap_or_else(|| written.id.to_string());
        match page_of(&written.kind, &written.id.to_string()) {
            Some(page) if written.outcome != "deleted" => html! { a href=(page) { (text) } },
            _ => html! { (text) },
        }
    }),
    Column::new("Kind", |_: &Visit, written: &Written| html! { (words(&written.kind)) }),
    Column::new("Outcome", |_: &Visit, written: &Written| badge(&written.outcome)),
    Column::new("Line", |_: &Visit, written: &Written| match written.line {
        Some(line) => html! { (line) },
        None => parts::text_or_dash(None),
    })
    .number(),
    Column::new("At", |visit: &Visit, written: &Written| times::time(visit.zone, written.at)),
];

/// What a job wrote, record by record.
pub(super) async fn records(visit: Visit, Id(id): Id) -> Result<Response> {
    let outcomes = ["created", "updated", "deleted", "restored", "suppressed"].map(|word| (word, words(word)));
    let filters = [Filter::choice("outcome", "Outcome", outcomes)];
    // This list is neither sorted nor counted.
    let asked = visit.query.iter().filter(|(name, _)| matches!(name.as_str(), "outcome" | "cursor"));
    let asked = asked.map(|(name, value)| (name.as_str(), value.as_str()));
    let path = crate::console::links::link(&format!("/jobs/{id}/records"), asked.chain([("limit", "50")]));
    let job_path = format!("/jobs/{id}");
    let (job, written) = tokio::try_join!(visit.crm.get::<Job>(&job_path), visit.crm.list::<Written>(&path))?;
    let empty = parts::empty("Nothing was written", &html! { "The job has changed no record that still exists." });
    let heading = format!("What {} wrote", title(&job.kind));
    let content = html! {
        (parts::head(&heading, &html! { a.button href=(job.page()) { "Back to the job" } }))
        (lists::filters(&visit, &filters, COLUMNS))
        (lists::table(&visit, "Written records", COLUMNS, &written, &empty))
    };
    Ok(page(&visit, &heading, &content))
}
