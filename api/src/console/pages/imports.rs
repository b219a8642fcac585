//! The pages of imports: a file is uploaded, looked at, tried, and then imported.

mod check;
mod file;
mod kinds;
mod mapping;
mod options;

use axum::Router;
use axum::http::Method;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use chrono::{DateTime, Utc};
use maud::{Markup, html};
use serde::Deserialize;
use uuid::Uuid;

use super::jobs::job::Job;
use super::jobs::{EVERY, STATUSES};
use crate::AppState;
use crate::console::crm::Change;
use crate::console::forms::{confirmed, done};
use crate::console::layout::page_with;
use crate::console::links::link;
use crate::console::lists::{self, Column, Filter};
use crate::console::live;
use crate::console::notice::Notice;
use crate::console::parts;
use crate::console::refusal::{Refusal, Result};
use crate::console::session::{Id, Sent, SentBody, TOKEN, Visit};
use crate::console::times;

use kinds::{KINDS, Kind, kind_of, name_of_job};

/// The path of these pages.
const IMPORTS: &str = "/console/imports";
const UPLOADS: &str = "/console/imports/uploads";
/// The filter by kind: `kind` is that of the next file.
const IMPORTED: &str = "imported";

/// The routes of these pages, under `/console`.
pub(super) fn routes() -> Router<AppState> {
    Router::new()
        .route("/imports", get(list))
        .route("/imports/live", get(list_live))
        .route("/imports/uploads/{id}", get(file::show).post(file::import))
        .route("/imports/uploads/{id}/live", get(file::live))
        .route("/imports/uploads/{id}/delete", post(delete))
}

/// The route that takes a file.
pub(super) fn uploads() -> Router<AppState> {
    Router::new().route("/imports/uploads", post(upload))
}

/// A file that waits.
#[derive(Debug, Deserialize)]
struct Waiting {
    id: Uuid,
    size: u64,
    created_at: DateTime<Utc>,
    expires_at: DateTime<Utc>,
}

async fn list(visit: Visit) -> Result<Response> {
    render(&visit, None).await
}

async fn render(visit: &Visit, refusal: Option<&Refusal>) -> Result<Response> {
    let (waiting, former) = tokio::try_join!(visit.crm.get::<Vec<Waiting>>("/uploads"), former(visit))?;
    let live = link("/console/imports/live", visit.query.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let kind = kind_of(visit.parameter("kind"));
    let content = html! {
        (parts::head("Imports", &html! {}))
        @if let Some(refusal) = refusal { div.problems role="alert" { p { (refusal.message) } (faults(refusal)) } }
        (choice(visit, kind))
        @if !waiting.is_empty() { (parts::section("Files that wait", &files(visit, kind, &waiting))) }
        section {
            h2 { "Imports so far" }
            (lists::filters(visit, &filters(), COLUMNS))
            (live::region(&live, &former))
        }
    };
    Ok(page_with(refusal.map_or_else(Default::default, |refusal| refusal.status), visit, "Imports", &content))
}

fn faults(refusal: &Refusal) -> Markup {
    html! {
        @if !refusal.errors.is_empty() {
            ul { @for fault in &refusal.errors { li { code { (fault.field) } " " (fault.message) } } }
        }
    }
}

/// What to import, and the file.
fn choice(visit: &Visit, kind: &Kind) -> Markup {
    let action = link(UPLOADS, [("kind", kind.name), (TOKEN, &visit.token)]);
    html! {
        section {
            h2 { "Import a file" }
            nav.tabs aria-label="What to import" {
                @for other in &KINDS {
                    a href=(link(IMPORTS, [("kind", other.name)])) aria-current=[(other.name == kind.name).then_some("page")] {
                        (other.title)
                    }
                }
            }
            form method="post" enctype="multipart/form-data" action=(action) {
                div.field.drop {
                    label for="f-file" { "File with " (kind.title.to_lowercase()) }
                    input #f-file type="file" name="file" required aria-describedby="h-file"
                        accept=".csv,.tsv,.txt,.jsonl,.ndjson,.xlsx,.xlsm,.gz";
                    p.hint #h-file {
                        "Choose a file or drop it here: CSV, JSON Lines or an Excel workbook, also compressed with gzip. "
                        (kind.about)
                    }
                }
                button.primary type="submit" { "Upload" }
                p.hint { "Nothing is imported yet: you first see how the file is read, and try it." }
            }
        }
    }
}

fn files(visit: &Visit, kind: &Kind, waiting: &[Waiting]) -> Markup {
    let row = |file: &Waiting| {
        let page = link(&format!("{UPLOADS}/{}", file.id), [("kind", kind.name)]);
        let forget = html! { "Deletes the file. What was imported from it stays. To undo this, upload it again." };
        vec![
            html! { a href=(page) { "File of " (times::time(visit.zone, file.created_at)) } },
            html! { (size(file.size)) },
            times::time(visit.zone, file.expires_at),
            confirmed(visit, &format!("{UPLOADS}/{}/delete", file.id), "Delete", &forget),
        ]
    };
    let rows: Vec<Vec<Markup>> = waiting.iter().map(row).collect();
    parts::table("Files that wait", &["Uploaded", "Size", "Kept until", "Delete"], &rows)
}

/// A number of bytes for people.
fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} bytes"),
        1024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}

/// The imports so far.
async fn former(visit: &Visit) -> Result<Markup> {
    let all: Vec<&str> = KINDS.iter().map(|kind| kind.job).collect();
    let asked = visit.parameter(IMPORTED).filter(|job| all.contains(job));
    let kinds = asked.map_or_else(|| all.join(","), str::to_owned);
    let path = lists::api_path(visit, "/jobs", &[by_status()]);
    let jobs = visit.crm.list::<Job>(&link(&path, [("kind", kinds.as_str())])).await?;
    Ok(lists::table(visit, "Imports", COLUMNS, &jobs, &nothing(visit)))
}

async fn list_live(visit: Visit) -> Response {
    // Links of the table lead to the list.
    let visit = Visit { path: IMPORTS.to_owned(), ..visit };
    live::stream(visit, EVERY * 2, |visit| async move { former(&visit).await })
}

fn filters() -> Vec<Filter> {
    vec![Filter::choice(IMPORTED, "Imported", KINDS.iter().map(|kind| (kind.job, kind.title))), by_status()]
}

fn by_status() -> Filter {
    Filter::choice("status", "Status", STATUSES.map(|status| (status, parts::words(status))))
}

fn nothing(visit: &Visit) -> Markup {
    if visit.parameter(IMPORTED).or(visit.parameter("status")).is_some() {
        return parts::empty("No import matches", &html! { a href=(IMPORTS) { "Show all imports" } });
    }
    parts::empty(
        "Nothing was imported yet",
        &html! { "Upload a file above, as another system exported it. Import leads and customers first: the others belong to them." },
    )
}

const COLUMNS: &[Column<Job>] = &[
    Column::new("Import", |_: &Visit, job: &Job| html! { a href=(job.page()) { (name_of_job(&job.kind)) } }),
    Column::new("Status", |_: &Visit, job: &Job| job.badge()),
    Column::new("Rows", |_: &Visit, job: &Job| {
        if job.is_active() {
            job.progress()
        } else {
            html! { (parts::count(job.count("rows"))) }
        }
    })
    .number(),
    Column::new("Created", |_: &Visit, job: &Job| html! { (parts::count(job.count("created"))) }).number(),
    Column::new("Updated", |_: &Visit, job: &Job| html! { (parts::count(job.count("updated"))) }).number(),
    Column::new("Skipped", |_: &Visit, job: &Job| html! { (parts::count(job.count("skipped"))) }).number(),
    Column::new("Rejected", |_: &Visit, job: &Job| html! { (parts::count(job.count("failed"))) }).number(),
    Column::new("Started", |visit: &Visit, job: &Job| times::time(visit.zone, job.created_at)),
];

async fn upload(SentBody { visit, request }: SentBody) -> Result<Response> {
    let kind = kind_of(visit.parameter("kind"));
    match visit.crm.pass_on("/uploads", request).await {
        Ok(upload) => {
            let id = upload["id"].as_str().unwrap_or_default();
            Ok(Redirect::to(&link(&format!("{UPLOADS}/{id}"), [("kind", kind.name)])).into_response())
        }
        Err(refusal) if refusal.is_about_input() => {
            let visit = Visit { path: IMPORTS.to_owned(), ..visit };
            render(&visit, Some(&refusal)).await
        }
        Err(refusal) => Err(refusal),
    }
}

async fn delete(Id(id): Id, Sent { visit, .. }: Sent) -> Result<Response> {
    visit.crm.send(Method::DELETE, &format!("/uploads/{id}"), Change::default()).await?;
    Ok(done(&visit, IMPORTS, &Notice::of("The file is deleted.")))
}
