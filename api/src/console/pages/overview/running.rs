//! The jobs that wait or run.

use std::time::Duration;

use axum::response::Response;
use maud::{Markup, html};
use serde::Deserialize;
use uuid::Uuid;

use crate::console::crm::Listing;
use crate::console::refusal::Result;
use crate::console::session::Visit;
use crate::console::{live, parts};

const EVERY: Duration = Duration::from_secs(2);
const JOBS: &str = "/jobs?status=running,queued&limit=5&count=true";

#[derive(Deserialize)]
pub(super) struct Job {
    id: Uuid,
    kind: String,
    status: String,
    progress: Progress,
    error: Option<String>,
}

#[derive(Deserialize)]
struct Progress {
    done: u64,
    total: Option<u64>,
}

/// Reads the jobs, if the key may see them.
pub(super) async fn read(visit: &Visit) -> Result<Option<Listing<Job>>> {
    if visit.may_see_jobs() { visit.crm.list(JOBS).await.map(Some) } else { Ok(None) }
}

/// The jobs, which follow what happens.
pub(super) fn render(jobs: Option<&Listing<Job>>) -> Markup {
    let Some(jobs) = jobs else { return html! {} };
    parts::section("Running jobs", &live::region("/console/overview/running", &list(jobs)))
}

/// Sends the jobs whenever they have changed.
pub(super) async fn follow(visit: Visit) -> Response {
    live::stream(visit, EVERY, |visit| async move { Ok(read(&visit).await?.as_ref().map_or_else(|| html! {}, list)) })
}

fn list(jobs: &Listing<Job>) -> Markup {
    let others = jobs.total.unwrap_or_default().saturating_sub(jobs.items.len() as u64);
    html! {
        @if jobs.items.is_empty() { p.quiet { "No job is queued or running." } }
        @else {
            ul.attention {
                @for job in &jobs.items {
                    li {
                        a href=(format!("/console/jobs/{}", job.id)) { (parts::words(&job.kind)) }
                        " " (parts::badge(&job.status))
                        @if job.status == "running" { (parts::progress("Progress", job.progress.done, job.progress.total)) }
                        @if let Some(error) = &job.error { span.hint { (error) } }
                    }
                }
            }
            @if others > 0 { p { a href="/console/jobs?status=queued" { (parts::count(others)) " more" } } }
        }
    }
}
