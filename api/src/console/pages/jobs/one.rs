//! One job.

use axum::http::Method;
use axum::response::Response;
use maud::{Markup, html};
use shared::accounts::scopes::Scope;

use super::job::{Job, page_of, title};
use super::{EVERY, JOBS, result, rows};
use crate::console::crm::Change;
use crate::console::forms::{confirmed_once, done, steady_form};
use crate::console::layout::page;
use crate::console::links::link;
use crate::console::live;
use crate::console::notice::Notice;
use crate::console::parts;
use crate::console::refusal::Result;
use crate::console::session::{Id, Sent, Visit};
use crate::console::times;

pub(super) async fn show(visit: Visit, Id(id): Id) -> Result<Response> {
    let job: Job = visit.crm.get(&format!("/jobs/{id}")).await?;
    let part = part(&visit, &job).await?;
    let name = title(&job.kind);
    let back = if job.is_import() { ("/console/imports", "All imports") } else { (JOBS, "All jobs") };
    let content = html! {
        (parts::head(&name, &html! { a.button href=(back.0) { (back.1) } }))
        (live::region(&format!("/console/jobs/{id}/live"), &part))
    };
    Ok(page(&visit, &name, &content))
}

pub(super) async fn live(visit: Visit, Id(id): Id) -> Response {
    live::stream(visit, EVERY, move |visit| async move {
        let job: Job = visit.crm.get(&format!("/jobs/{id}")).await?;
        part(&visit, &job).await
    })
}

/// Everything below the heading: all of it changes while the job runs.
async fn part(visit: &Visit, job: &Job) -> Result<Markup> {
    let reads = visit.may(Scope::RecordsRead);
    let rejected = if reads {
        rows::rejected(visit, job).await?
    } else {
        html! {}
    };
    Ok(html! {
        (state(visit, job))
        (actions(visit, job))
        @if let Some(error) = &job.error { (failure(job, error)) }
        @if job.result.is_some() { (parts::section("Result", &result::show(visit, job))) }
        (rejected)
        @if reads && !job.is_dry_run() {
            p { a href=(format!("{}/records", job.page())) { "What it wrote, record by record" } }
        }
    })
}

fn state(visit: &Visit, job: &Job) -> Markup {
    let zone = visit.zone;
    let subject = job.subject.as_ref().map(|subject| {
        let name = parts::words(&subject.kind);
        match page_of(&subject.kind, &subject.id.to_string()) {
            Some(page) => html! { a href=(page) { (name) } },
            None => html! { (name) " " code { (subject.id) } },
        }
    });
    let mut facts = vec![
        ("Status", job.badge()),
        ("Progress", job.progress()),
        ("Attempt", html! { (job.attempt) }),
        ("Accepted", times::time(zone, job.created_at)),
        ("Started", times::time_or_dash(zone, job.started_at)),
        ("Ended", times::time_or_dash(zone, job.finished_at)),
    ];
    facts.extend(job.retry_at.map(|at| ("Next attempt", times::time(zone, at))));
    facts.extend(subject.map(|subject| ("About", subject)));
    facts.push(("Id", html! { code { (job.id) } }));
    html! { section { h2.hidden { "State" } (parts::facts(facts)) } }
}

fn failure(job: &Job, error: &str) -> Markup {
    let heading = if job.is_active() { "The last attempt failed" } else { "Why it failed" };
    html! { section { h2 { (heading) } pre { (error) } } }
}

fn actions(visit: &Visit, job: &Job) -> Markup {
    if !visit.may(job.scope()) {
        return html! {};
    }
    let to = |what: &str| format!("{}/{what}", job.page());
    let retries = !job.is_active() && job.status != "succeeded";
    html! {
        div.actions.spaced {
            @if job.is_active() {
                (confirmed_once(visit, &to("cancel"), &job.once("cancel"), "Cancel", &html! {
                    "The job stops at its next step. What it has written so far stays"
                    @if job.is_import() { " and can be undone" }
                    "; a retry continues from there."
                }))
            }
            @if let Some(number) = job.stopped_at().filter(|_| retries) {
                (steady_form(visit, &to("retry"), &job.once("retry"), &html! {
                    label for="f-confirm" { "Write at most" } " "
                    input #f-confirm.short type="number" name="confirm" min="1" value=(number) required; " emails "
                    button.primary type="submit" { "Retry" }
                }))
            } @else if retries || job.retry_at.is_some() {
                (steady_form(visit, &to("retry"), &job.once("retry"), &html! {
                    button type="submit" { @if retries { "Retry" } @else { "Retry now" } }
                }))
            }
            @if job.is_undoable() {
                (confirmed_once(visit, &to("undo"), &job.once("undo"), "Undo", &undone(job)))
            }
        }
    }
}

/// What an undo does.
fn undone(job: &Job) -> Markup {
    if !job.is_import() {
        return html! {
            "The " (parts::count(job.count("changed"))) " changed records get their previous values again. Records that \
             were changed afterwards are left as they are and listed."
        };
    }
    html! {
        "Deletes the " (parts::count(job.count("created"))) " records that it created, restores "
        (parts::count(job.count("updated"))) " that it updated, and lifts " (parts::count(job.count("suppressed")))
        " suppressions. Records that were changed afterwards are left as they are and listed. To redo it, import the \
         file again."
    }
}

pub(super) async fn cancel(Id(id): Id, Sent { visit, mut fields }: Sent) -> Result<Response> {
    let path = format!("/jobs/{id}/cancel");
    visit.crm.send(Method::POST, &path, Change::default().once(fields.take_once())).await?;
    Ok(done(&visit, &format!("{JOBS}/{id}"), &Notice::of("The job is cancelled. What it wrote before stays.")))
}

pub(super) async fn retry(Id(id): Id, Sent { visit, mut fields }: Sent) -> Result<Response> {
    let once = fields.take_once();
    let path = link(&format!("/jobs/{id}/retry"), [("confirm", fields.get("confirm"))]);
    visit.crm.send(Method::POST, &path, Change::default().once(once)).await?;
    Ok(done(&visit, &format!("{JOBS}/{id}"), &Notice::of("The job is queued again.")))
}

pub(super) async fn undo(Id(id): Id, Sent { visit, mut fields }: Sent) -> Result<Response> {
    let change = Change::default().once(fields.take_once());
    let undo = visit.crm.send(Method::POST, &format!("/jobs/{id}/undo"), change).await?;
    let undo = undo["id"].as_str().unwrap_or_default();
    Ok(done(&visit, &format!("{JOBS}/{undo}"), &Notice::of("The undo has started; it is a job of its own.")))
}
