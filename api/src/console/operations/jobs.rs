//! Jobs of all workspaces by a filter, and what is done to all that match.

use axum::extract::{Path, Request};
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use shared::jobs::NAMES;
use shared::queue::QUEUES;
use uuid::Uuid;

use super::session::{OperatorVisit, done, form, page};
use super::shown::{Action, number};
use crate::console::forms::{Draft, Fields, form as form_to};
use crate::console::links::{link, query_of};
use crate::console::notice::Notice;
use crate::console::refusal::{Refusal, Result};
use crate::console::{parts, times};
use crate::respond::Problem;

const JOBS: &str = "/console/jobs";
/// The filters of the operator API that the page has inputs for.
const FILTERS: [&str; 7] = ["workspace", "queue", "kind", "status", "worker", "error", "older_than"];
const STATUSES: [&str; 8] = ["queued", "due", "future", "waiting", "running", "failed", "cancelled", "succeeded"];
/// What can be done to jobs that match, and what it does.
const DECISIONS: [(&str, &str, &str); 2] = [
    ("retry", "Retry", "They become due now. Jobs that succeeded or run already are left alone."),
    ("cancel", "Cancel", "They end at once. “Retry” brings them back."),
];
const EXPECT: &str = "expect";

#[derive(Debug, Deserialize)]
struct Job {
    id: Uuid,
    workspace: Option<String>,
    kind: String,
    status: String,
    attempt: Option<i64>,
    error: Option<String>,
    created_at: DateTime<Utc>,
}

#[derive(Deserialize)]
struct Count {
    count: i64,
}

pub(super) async fn show(visit: OperatorVisit, uri: Uri) -> Result<Response> {
    let query = query_of(&uri);
    let given = query.iter().filter(|(name, value)| FILTERS.contains(&name.as_str()) && !value.is_empty());
    let fields: Fields = given.map(|(name, value)| (name.as_str(), value.clone())).collect();
    let pairs: Vec<(&str, &str)> = fields.iter().collect();
    let found = async {
        let Count { count } = visit.api.get(&link("/jobs/count", pairs.iter().copied())).await?;
        let jobs: Vec<Job> = visit.api.get(&link("/jobs?limit=50", pairs.iter().copied())).await?;
        Ok::<_, Refusal>((count, jobs))
    };
    let (draft, count, jobs) = match found.await {
        Ok((count, jobs)) => (Draft::of(fields.clone()), count, jobs),
        Err(refusal) => (Draft::refused(fields.clone(), refusal)?, 0, Vec::new()),
    };
    let content = html! {
        (parts::head("Jobs", &html! {}))
        (draft.problems())
        (inputs(&draft))
        p { strong { (number(count)) } @if count == 1 { " job matches." } @else { " jobs match." }
            @if jobs.len() as i64 != count { " The latest " (jobs.len()) " are listed." } }
        @if count > 0 { (decisions(&visit, &fields, count)) }
        (table(&jobs))
    };
    Ok(page(draft.status(), &visit, "Jobs", &content))
}

fn inputs(draft: &Draft) -> Markup {
    let any = |name: &str| (String::new(), name.to_owned());
    let named = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), (*name).to_owned())).collect::<Vec<_>>();
    html! {
        form.filters method="get" action=(JOBS) {
            (draft.input("status", "Status").choice([any("any")].into_iter().chain(named(&STATUSES))))
            (draft.input("queue", "Queue").choice([any("any")].into_iter().chain(named(QUEUES))))
            (draft.input("kind", "Kind").choice([any("any")].into_iter().chain(named(&NAMES))))
            (draft.input("workspace", "Workspace"))
            (draft.input("worker", "Worker"))
            (draft.input("error", "Error has"))
            (draft.input("older_than", "Older than").hint("such as 15m, 2h or 7d"))
            button.primary type="submit" { "Show" }
        }
    }
}

fn decisions(visit: &OperatorVisit, fields: &Fields, count: i64) -> Markup {
    html! {
        div.actions {
            @for (decision, label, what) in DECISIONS {
                details.confirm {
                    summary.button { (label) " " (number(count)) "…" }
                    div.popover {
                        p { (what) " If another number matches by then, nothing is changed." }
                        (form_to(visit, &format!("{JOBS}/{decision}"), &html! {
                            @for (name, value) in fields.iter() { input type="hidden" name=(name) value=(value); }
                            input type="hidden" name=(EXPECT) value=(count);
                            button.danger type="submit" { (label) " " (number(count)) }
                        }))
                    }
                }
            }
        }
    }
}

fn table(jobs: &[Job]) -> Markup {
    let rows = jobs.iter().map(|job| {
        vec![
            html! { code { (job.id) } },
            parts::text_or_dash(job.workspace.as_deref()),
            html! { (job.kind) },
            parts::badge(&job.status),
            html! { @if let Some(attempt) = job.attempt { (number(attempt)) } },
            html! { (parts::clipped(job.error.as_deref().unwrap_or_default(), 120)) },
            times::time(Tz::UTC, job.created_at),
        ]
    });
    let head = ["Job", "Workspace", "Kind", "Status", "Attempt", "Error", "Accepted"];
    parts::table("Jobs", &head, &rows.collect::<Vec<_>>())
}

pub(super) async fn decide(visit: OperatorVisit, Path(decision): Path<String>, request: Request) -> Result<Response> {
    let mut fields = form(&visit, request).await?;
    let known = DECISIONS.iter().find(|(known, ..)| *known == decision);
    let Some((decision, ..)) = known else { return Err(Problem::not_found().into()) };
    let expect = fields.number(EXPECT);
    fields.take(EXPECT);
    let mut filter: Map<String, Value> = fields.iter().map(|(name, value)| (name.to_owned(), json!(value))).collect();
    if filter.is_empty() {
        filter.insert("all".to_owned(), json!(true));
    }
    let back = link(JOBS, fields.iter());
    let body = json!({ "filter": filter, "expect": expect });
    let notice = match visit.api.act::<Action>(&format!("/jobs/{decision}"), body).await {
        Ok(action) if action.finished_at.is_none() => {
            "The action continues; its end is among what operators did.".to_owned()
        }
        Ok(action) => match (action.matched, action.done) {
            (Some(matched), Some(done)) => format!("{} of {} jobs were changed.", number(done), number(matched)),
            _ => "Done.".to_owned(),
        },
        Err(refusal) if refusal.status == StatusCode::CONFLICT => refusal.message,
        Err(refusal) => return Err(refusal),
    };
    Ok(done(&back, &Notice::of(notice)))
}
