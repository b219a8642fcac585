//! Scheduled work that is started now.

use axum::http::Method;
use axum::response::Response;
use chrono::{DateTime, Utc};
use maud::{Markup, html};
use serde::Deserialize;
use uuid::Uuid;

use super::JOBS;
use super::job::title;
use crate::console::crm::Change;
use crate::console::forms::{confirmed, done};
use crate::console::notice::Notice;
use crate::console::parts::{self, badge};
use crate::console::refusal::Result;
use crate::console::session::{Id, Sent, Visit};
use crate::console::times;

/// The part of a schedule that is shown.
#[derive(Deserialize)]
struct Schedule {
    id: Uuid,
    kind: String,
    status: String,
    next_runs: Vec<DateTime<Utc>>,
}

/// The schedules of the workspace, among them the nightly run.
pub(super) async fn section(visit: &Visit) -> Result<Markup> {
    let schedules = visit.crm.list::<Schedule>("/schedules?limit=50").await?.items;
    if schedules.is_empty() {
        return Ok(html! {});
    }
    let rows: Vec<Vec<Markup>> = schedules.iter().map(|schedule| row(visit, schedule)).collect();
    let table = parts::table("Schedules", &["Run", "State", "Next time", "Now"], &rows);
    Ok(parts::section("Scheduled runs", &table))
}

fn row(visit: &Visit, schedule: &Schedule) -> Vec<Markup> {
    let name = title(&schedule.kind);
    let what = html! {
        @if schedule.kind == "nightly" {
            "Starts the nightly run of today, unless it has run already. It sends the nurture emails, follow-ups and \
             reminders that are due."
        } @else { "Starts it now, beside its times. Emails that have been sent cannot be taken back." }
    };
    let path = format!("/console/jobs/schedules/{}/run", schedule.id);
    vec![
        html! { (name) },
        badge(&schedule.status),
        times::time_or_dash(visit.zone, schedule.next_runs.first().copied()),
        confirmed(visit, &path, "Run now", &what),
    ]
}

pub(super) async fn run(Id(id): Id, Sent { visit, mut fields }: Sent) -> Result<Response> {
    let change = Change::default().once(fields.take_once());
    let job = visit.crm.send(Method::POST, &format!("/schedules/{id}/run"), change).await?;
    let job = job["id"].as_str().unwrap_or_default();
    Ok(done(&visit, &format!("{JOBS}/{job}"), &Notice::of("The run has started, or had taken place.")))
}
