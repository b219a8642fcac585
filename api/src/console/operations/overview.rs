//! The first page: queues, kinds of jobs, workers, workspaces, the database, and what operators did.

use std::time::Duration;

use axum::http::StatusCode;
use axum::response::Response;
use chrono_tz::Tz;
use maud::{Markup, html};

use super::session::{OperatorVisit, page};
use super::shown::{Action, Connections, Load, Worker, Workspace, count, duration, number};
use crate::console::forms::{confirmed_once, explained_steadily, steady_form};
use crate::console::links::link;
use crate::console::refusal::Result;
use crate::console::{live, parts, times};

/// How often the page looks for news.
const EVERY: Duration = Duration::from_secs(2);
/// The most workspaces that are listed: those with most work.
const WORKSPACES: usize = 20;
const ACTIONS: u8 = 10;

pub(super) async fn show(visit: OperatorVisit) -> Result<Response> {
    let content = html! {
        (parts::head("Operations", &html! { a.button href="/console/jobs" { "Find jobs" } }))
        (live::region("/console/live", &everything(&visit).await?))
    };
    Ok(page(StatusCode::OK, &visit, "Operations", &content))
}

pub(super) async fn live(visit: OperatorVisit) -> Response {
    live::stream(visit, EVERY, |visit: OperatorVisit| async move { everything(&visit).await })
}

async fn everything(visit: &OperatorVisit) -> Result<Markup> {
    let queues: Vec<Load> = visit.api.get("/queues").await?;
    let kinds: Vec<Load> = visit.api.get("/kinds").await?;
    let workers: Vec<Worker> = visit.api.get("/workers").await?;
    let workspaces: Vec<Workspace> = visit.api.get("/workspaces").await?;
    let database: Connections = visit.api.get("/database").await?;
    let actions: Vec<Action> = visit.api.get(&format!("/actions?limit={ACTIONS}")).await?;
    Ok(html! {
        (parts::section("Queues", &loads(visit, Group::Queues, &queues, &workers)))
        (parts::section("Workers", &of_workers(visit, &workers)))
        (parts::section("Workspaces by load", &of_workspaces(visit, &workspaces)))
        (parts::section("Kinds of jobs", &loads(visit, Group::Kinds, &kinds, &workers)))
        (parts::section("Database connections", &of_database(&database)))
        (parts::section("What operators did", &of_actions(&actions)))
    })
}

#[derive(Clone, Copy)]
enum Group {
    Queues,
    Kinds,
}

fn loads(visit: &OperatorVisit, group: Group, loads: &[Load], workers: &[Worker]) -> Markup {
    let (caption, path, filter) = match group {
        Group::Queues => ("Queues", "queues", "queue"),
        Group::Kinds => ("Kinds of jobs", "kinds", "kind"),
    };
    let head =
        ["Name", "Due", "Oldest due", "Running", "Later", "Ended in the last minute", "Done in", "State", "Action"];
    let rows = loads.iter().map(|load| {
        let is_jobs = load.per_minute.is_some();
        let jobs = link("/console/jobs", [(filter, load.name.as_str())]);
        vec![
            parts::link_if(is_jobs, &jobs, &load.name),
            html! { (number(load.due)) },
            duration(load.oldest_due_s),
            count(load.running),
            count(load.future),
            count(load.per_minute),
            duration(load.eta_s.filter(|_| load.due > 0)),
            state_of(load, workers),
            pause_or_resume(visit, path, &load.name, &load.name, load.paused_since.is_some()),
        ]
    });
    parts::table(caption, &head, &rows.collect::<Vec<_>>())
}

/// Whether it is paused, or waits because no worker works on its queue.
fn state_of(load: &Load, workers: &[Worker]) -> Markup {
    let queue = load.queue.as_ref().unwrap_or(&load.name);
    let is_worked_on = workers.iter().any(|worker| worker.state == "running" && worker.queues.contains(queue));
    if load.paused_since.is_none() && load.due > 0 && !is_worked_on {
        return parts::badge_in("bad", "No worker");
    }
    state(load.paused_since.is_some(), load.pause_reason.as_deref())
}

fn state(is_paused: bool, reason: Option<&str>) -> Markup {
    html! {
        @if is_paused { (parts::badge("paused")) @if let Some(reason) = reason { " " (reason) } }
        @else { span.quiet { "–" } }
    }
}

fn pause_or_resume(visit: &OperatorVisit, group: &str, name: &str, shown: &str, is_paused: bool) -> Markup {
    let path = |verb: &str| format!("/console/steer/{group}/{name}/{verb}");
    if is_paused {
        return steady_form(visit, &path("resume"), "resume", &labelled("Resume", shown));
    }
    let what = html! { "Nothing of " strong { (shown) } " is claimed any more; what runs ends. “Resume” undoes it." };
    explained_steadily(visit, &path("pause"), "Pause", shown, &what)
}

/// A button whose name says what it is about, for people who do not see its row.
fn labelled(label: &str, of: &str) -> Markup {
    html! { button type="submit" { (label) span.hidden { " " (of) } } }
}

fn of_workers(visit: &OperatorVisit, workers: &[Worker]) -> Markup {
    if workers.is_empty() {
        let what = html! { "Start one: " code { "crm-worker" } ". Until then, jobs and emails wait." };
        return parts::empty("No worker has registered", &what);
    }
    let head =
        ["Worker", "State", "Host", "Version", "Queues", "Jobs", "Emails", "Webhooks of", "Last heard", "Action"];
    let rows = workers.iter().map(|worker| {
        let id = worker.short_id();
        vec![
            html! { code title=(worker.id) { (id) } },
            parts::badge(&worker.state),
            html! { (worker.host) " " span.quiet { (worker.pid) } },
            html! { (worker.version) },
            html! { (worker.queues.join(", ")) },
            html! { (number(worker.jobs)) },
            html! { (number(worker.emails)) },
            html! { (number(worker.webhook_queues)) },
            times::time(Tz::UTC, worker.heartbeat_at),
            drain_or_undrain(visit, worker, &id),
        ]
    });
    parts::table("Workers", &head, &rows.collect::<Vec<_>>())
}

fn drain_or_undrain(visit: &OperatorVisit, worker: &Worker, id: &str) -> Markup {
    let path = |verb: &str| format!("/console/steer/workers/{}/{verb}", worker.id);
    match (worker.state.as_str(), worker.draining_since) {
        ("lost" | "stopped", _) => parts::text_or_dash(None),
        (_, Some(_)) => steady_form(visit, &path("undrain"), "undrain", &labelled("Undrain", id)),
        _ => {
            let what = html! {
                "The worker claims nothing, and its jobs go to others after their current steps. “Undrain” undoes it."
            };
            explained_steadily(visit, &path("drain"), "Drain", id, &what)
        }
    }
}

fn of_workspaces(visit: &OperatorVisit, workspaces: &[Workspace]) -> Markup {
    let head =
        ["Workspace", "Due jobs", "Oldest due", "Running jobs", "Waiting emails", "Unknown emails", "State", "Action"];
    let rows = workspaces.iter().take(WORKSPACES).map(|workspace| {
        let jobs = link("/console/jobs", [("workspace", workspace.name.as_str())]);
        let id = workspace.id.to_string();
        vec![
            html! { a href=(jobs) { (workspace.name) } },
            html! { (number(workspace.due_jobs)) },
            duration(workspace.oldest_due_s),
            html! { (number(workspace.running_jobs)) },
            html! { (number(workspace.waiting_emails)) },
            html! { (number(workspace.unknown_emails)) },
            html! {
                @if workspace.suspended_at.is_some() { (parts::badge("suspended")) " " }
                (state(workspace.paused_since.is_some(), workspace.pause_reason.as_deref()))
            },
            html! {
                div.actions {
                    (pause_or_resume(visit, "workspaces", &id, &workspace.name, workspace.paused_since.is_some()))
                    (suspend_or_unsuspend(visit, workspace, &id))
                }
            },
        ]
    });
    html! {
        (parts::table("Workspaces by load", &head, &rows.collect::<Vec<_>>()))
        @if workspaces.len() > WORKSPACES {
            p.quiet { (workspaces.len() - WORKSPACES) " more have less work: " code { "crm-api workspaces list" } }
        }
    }
}

fn suspend_or_unsuspend(visit: &OperatorVisit, workspace: &Workspace, id: &str) -> Markup {
    let path = |verb: &str| format!("/console/steer/workspaces/{id}/{verb}");
    if workspace.suspended_at.is_some() {
        return steady_form(visit, &path("unsuspend"), "unsuspend", &labelled("End suspension", &workspace.name));
    }
    let what = html! {
        "Keys of " strong { (workspace.name) } " get 403, and its jobs, schedules, emails and webhooks wait. People can \
         still unsubscribe and answer. “End suspension” undoes it."
    };
    confirmed_once(visit, &path("suspend"), "suspend", &format!("Suspend {}", workspace.name), &what)
}

fn of_database(database: &Connections) -> Markup {
    let rows = database.by_program.iter().map(|program| {
        vec![
            html! { (program.program) },
            html! { (number(program.connections)) },
            html! { (number(program.active)) },
            duration(program.oldest_transaction_s),
        ]
    });
    html! {
        p { (number(database.connections)) " of " (number(database.max_connections)) " connections are open." }
        (parts::table(
            "Database connections",
            &["Program", "Connections", "Active", "Oldest transaction"],
            &rows.collect::<Vec<_>>(),
        ))
    }
}

fn of_actions(actions: &[Action]) -> Markup {
    if actions.is_empty() {
        return parts::empty(
            "Nothing yet",
            &html! { "Each action of an operator is listed here and by " code { "crm-api audit" } "." },
        );
    }
    let rows = actions.iter().map(|action| {
        vec![
            times::time(Tz::UTC, action.started_at),
            html! { (action.actor) " " span.quiet { (action.source) } },
            html! { (action.action) },
            html! { (parts::clipped(&action.about(), 80)) },
            action.outcome(),
        ]
    });
    parts::table("What operators did", &["When", "Who", "What", "About", "Outcome"], &rows.collect::<Vec<_>>())
}
