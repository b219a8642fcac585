//! Starts a workflow: its options, a dry run that shows what would happen, and then the run.

use axum::extract::Path;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};
use serde::Deserialize;
use shared::accounts::scopes::Scope;

use super::job::Job;
use super::workflows::{WORKFLOWS, Workflow, find};
use super::{EVERY, JOBS, result, schedules};
use crate::console::crm::Change;
use crate::console::forms::{Draft, Fields, Input, done, form, steady_form};
use crate::console::layout::{page, page_with};
use crate::console::links::link;
use crate::console::lists::{Filter, FilterKind};
use crate::console::live;
use crate::console::notice::Notice;
use crate::console::parts;
use crate::console::refusal::{Refusal, Result};
use crate::console::session::{Sent, Visit};

const START: &str = "/console/jobs/start";
const FEEDBACK: &str = "/console/jobs/start/feedback-request";
/// The parameters of a page and the fields of its form that are no limits of the run.
const OWN: [&str; 3] = ["job", "confirm", "dry_run"];

/// Checks that the key may start workflows, before it is shown how.
fn check(visit: &Visit) -> Result<()> {
    let text = "This key may not start workflows: it lacks the scope workflows.";
    if visit.may(Scope::Workflows) { Ok(()) } else { Err(Refusal::of(StatusCode::FORBIDDEN, text)) }
}

pub(super) async fn list(visit: Visit) -> Result<Response> {
    check(&visit)?;
    let schedules = schedules::section(&visit).await?;
    let content = html! {
        (parts::head("Start a workflow", &html! { a.button href=(JOBS) { "All jobs" } }))
        div.grid {
            @for workflow in &WORKFLOWS {
                section {
                    h2 { (workflow.title) }
                    p { (workflow.about) }
                    p { a.button href=(format!("{START}/{}", workflow.name)) { "Set up " (workflow.title.to_lowercase()) } }
                }
            }
            section {
                h2 { "Feedback request" }
                p { "Emails one customer a link to the feedback page." }
                p { a.button href=(FEEDBACK) { "Request feedback" } }
            }
        }
        (schedules)
        p.quiet {
            "Customer health and the themes of feedback are computed by the nightly run. Segments and scores follow \
             each change by themselves."
        }
    };
    Ok(page(&visit, "Start a workflow", &content))
}

pub(super) async fn show(visit: Visit, Path(name): Path<String>) -> Result<Response> {
    check(&visit)?;
    let workflow = known(&name)?;
    let draft = Draft::of(visit.query.iter().map(|(name, value)| (name.as_str(), value.clone())).collect());
    render(&visit, workflow, &draft).await
}

fn known(name: &str) -> Result<&'static Workflow> {
    find(name).ok_or_else(|| Refusal::of(StatusCode::NOT_FOUND, "There is no such workflow."))
}

async fn render(visit: &Visit, workflow: &'static Workflow, draft: &Draft) -> Result<Response> {
    let (path, filters) = (format!("{START}/{}", workflow.name), (workflow.filters)());
    let given = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    let more: Vec<(String, String)> = limits(&draft.values)
        .filter(|(name, _)| !filters.iter().any(|filter| filter.name == *name))
        .map(given)
        .collect();
    let options = html! {
        @if !filters.is_empty() { div.fields { @for filter in &filters { (input(draft, filter)) } } }
        @for (name, value) in &more {
            input type="hidden" name=(name) value=(value);
            p.quiet { "Also limited to " code { (name) "=" (value) } }
        }
        button.primary type="submit" name="dry_run" value="true" { "Dry run" }
        p.hint { "Shows what would happen, and to whom. Nothing is written or sent." }
    };
    let outcome = match visit.parameter("job").filter(|_| draft.refusal.is_none()) {
        Some(id) => {
            let limits = limits(&draft.values);
            let live = link(&format!("{path}/live"), limits.chain([("job", id)]));
            let part = dry_run(visit, workflow, id, &draft.values).await?;
            html! { section #dry-run { h2 { "Dry run" } (live::region(&live, &part)) } }
        }
        None => html! {},
    };
    let content = html! {
        (parts::head(workflow.title, &html! { a.button href=(START) { "All workflows" } }))
        p { (workflow.about) }
        (draft.problems())
        section {
            h2 { @if filters.is_empty() { "First a dry run" } @else { "Limit it to" } }
            (form(visit, &path, &options))
        }
        (outcome)
    };
    Ok(page_with(draft.status(), visit, workflow.title, &content))
}

/// The limits of a run among the fields of its form.
fn limits(fields: &Fields) -> impl Iterator<Item = (&str, &str)> + Clone {
    let fields: Vec<(&str, &str)> =
        fields.iter().filter(|(name, value)| !OWN.contains(name) && !value.is_empty()).collect();
    fields.into_iter()
}

fn input(draft: &Draft, filter: &Filter) -> Input {
    let input = draft.input(filter.name, filter.label.clone());
    match &filter.kind {
        FilterKind::Input(kind) => input.kind(kind),
        FilterKind::Choice(options) => {
            let any = (String::new(), "Any".to_owned());
            input.choice([any].into_iter().chain(options.iter().cloned()))
        }
    }
}

pub(super) async fn live(visit: Visit, Path(name): Path<String>) -> Result<Response> {
    let workflow = known(&name)?;
    let fields: Fields = visit.query.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    let id = visit.parameter("job").unwrap_or_default().to_owned();
    Ok(live::stream(visit, EVERY, move |visit| {
        let (id, fields) = (id.clone(), fields.clone());
        async move { dry_run(&visit, workflow, &id, &fields).await }
    }))
}

/// What a dry run found, and the button that starts the run.
async fn dry_run(visit: &Visit, workflow: &Workflow, id: &str, fields: &Fields) -> Result<Markup> {
    let job: Job = visit.crm.get(&link(&format!("/jobs/{}", path_part(id)), [])).await?;
    let emails = job.count(workflow.emails);
    Ok(html! {
        (parts::facts([("Status", parts::badge(&job.status)), ("Progress", job.progress())]))
        @if let Some(error) = &job.error { pre { (error) } }
        @if job.status == "succeeded" && job.is_dry_run() {
            @if emails == 0 { p { "No email would be sent now." } } @else { (start_form(visit, workflow, &job, fields)) }
            (result::show(visit, &job))
        } @else if !job.is_active() {
            p { "This is no dry run that has succeeded. Start another one." }
        }
    })
}

/// A text as one part of a path.
fn path_part(id: &str) -> String {
    id.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect()
}

fn start_form(visit: &Visit, workflow: &Workflow, job: &Job, fields: &Fields) -> Markup {
    let emails = job.count(workflow.emails);
    let plural = if emails == 1 { "email" } else { "emails" };
    let content = html! {
        @for (name, value) in limits(fields) { input type="hidden" name=(name) value=(value); }
        input type="hidden" name="confirm" value=(emails);
        button.primary type="submit" { "Send " (parts::count(emails)) " " (plural) " to " (workflow.to) }
        p.hint {
            "Writes at most so many emails. What becomes due meanwhile waits for the next run. Emails that have been \
             sent cannot be taken back."
        }
    };
    let form = steady_form(visit, &format!("{START}/{}", workflow.name), &format!("start-{}", job.id), &content);
    html! { div.spaced { (form) } }
}

pub(super) async fn start(Path(name): Path<String>, Sent { visit, mut fields }: Sent) -> Result<Response> {
    let workflow = known(&name)?;
    let once = fields.take_once();
    let is_dry_run = fields.has("dry_run");
    let how = if is_dry_run { ("dry_run", "true") } else { ("confirm", fields.get("confirm")) };
    let path = link(workflow.path, limits(&fields).chain([how]));
    let job = match visit.crm.send(Method::POST, &path, Change::default().once(once)).await {
        Ok(job) => job,
        Err(refusal) => return render(&visit, workflow, &Draft::refused(fields, refusal)?).await,
    };
    let id = job["id"].as_str().unwrap_or_default();
    if is_dry_run {
        let page = link(&format!("{START}/{name}"), limits(&fields).chain([("job", id)]));
        return Ok(Redirect::to(&format!("{page}#dry-run")).into_response());
    }
    Ok(done(&visit, &format!("{JOBS}/{id}"), &Notice::of(format!("{} has started.", workflow.title))))
}

/// The part of a customer that a request shows.
#[derive(Deserialize)]
struct Customer {
    name: String,
    email: String,
    status: String,
}

pub(super) async fn feedback(visit: Visit) -> Result<Response> {
    check(&visit)?;
    let fields = visit.query.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    render_feedback(&visit, &Draft::of(fields)).await
}

async fn render_feedback(visit: &Visit, draft: &Draft) -> Result<Response> {
    let id = draft.values.get("customer").trim().to_owned();
    let customer = match id.is_empty() || draft.refusal.is_some() || !visit.may(Scope::RecordsRead) {
        true => Ok(None),
        false => visit.crm.get::<Customer>(&format!("/customers/{}", path_part(&id))).await.map(Some),
    };
    let (customer, refused) = match customer {
        Ok(customer) => (customer, None),
        Err(refusal) => (None, Some(Draft::refused(draft.values.clone(), refusal)?)),
    };
    let draft = refused.as_ref().unwrap_or(draft);
    let customer_id = draft.input("customer", "Id of the customer").required();
    let content = html! {
        (parts::head("Feedback request", &html! { a.button href=(START) { "All workflows" } }))
        p { "Emails one customer a link to the feedback page. A customer has at most one open request." }
        (draft.problems())
        @if visit.may(Scope::RecordsRead) {
            form method="get" action=(FEEDBACK) {
                (customer_id.hint("The last part of the address of the customer's page."))
                button type="submit" { "Look up" }
            }
        } @else {
            (form(visit, FEEDBACK, &html! { (customer_id) button.primary type="submit" { "Request feedback" } }))
        }
        @if let Some(customer) = customer {
            section.spaced {
                h2 { "The request goes to" }
                (parts::facts([
                    ("Customer", html! { a href=(format!("/console/customers/{id}")) { (customer.name) } }),
                    ("Email", html! { (customer.email) }),
                    ("Status", parts::badge(&customer.status)),
                ]))
                (form(visit, FEEDBACK, &html! {
                    input type="hidden" name="customer" value=(id);
                    button.primary type="submit" { "Send the request" }
                    p.hint { "The request cannot be taken back once its email has left." }
                }))
            }
        }
    };
    Ok(page_with(draft.status(), visit, "Feedback request", &content))
}

pub(super) async fn request_feedback(Sent { visit, mut fields }: Sent) -> Result<Response> {
    let once = fields.take_once();
    let path = format!("/customers/{}/feedback/request", path_part(fields.get("customer")));
    match visit.crm.send(Method::POST, &path, Change::default().once(once)).await {
        Ok(job) => {
            let id = job["id"].as_str().unwrap_or_default();
            Ok(done(&visit, &format!("{JOBS}/{id}"), &Notice::of("The request is on its way.")))
        }
        Err(refusal) => render_feedback(&visit, &Draft::refused(fields, refusal)?).await,
    }
}
