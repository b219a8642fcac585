//! One step of the sequence or one template: its form, and how its email looks.

use axum::Router;
use axum::extract::Path;
use axum::http::Method;
use axum::response::Response;
use axum::routing::{get, post};
use maud::{Markup, PreEscaped, html};
use serde::Deserialize;
use serde_json::{Value, json};
use shared::accounts::scopes::Scope;
use uuid::Uuid;

use super::edit::{self, Edit, Saved};
use super::templates::{self, PATH, Settings, Step, title};
use crate::AppState;
use crate::console::crm::{Change, Versioned};
use crate::console::forms::{Draft, Fields, confirmed, done, hidden};
use crate::console::layout;
use crate::console::links::link;
use crate::console::notice::Notice;
use crate::console::refusal::{Refusal, Result};
use crate::console::session::{Id, Sent, Visit};
use crate::respond::Problem;

const STEP: &edit::Labels = &[("delay_days", "Days to wait"), ("subject", "Subject"), ("body", "Body")];
const TEMPLATE: &edit::Labels = &[("subject", "Subject"), ("body", "Body")];
/// The field with the address that gets a test.
const TEST_TO: &str = "test_to";
/// The event of a step.
const NURTURE: &str = "nurture";

pub(super) fn routes() -> Router<AppState> {
    Router::new()
        .route("/settings/templates/steps/new", get(new_step).post(add_step))
        .route("/settings/templates/steps/{id}", get(show_step).post(save_step))
        .route("/settings/templates/{name}", get(show).post(save))
        .route("/settings/templates/{name}/html", get(preview).post(preview_draft))
        .route("/settings/templates/{name}/test", post(send_test))
}

/// What a form is about.
struct Email<'a> {
    /// The name of its saved template, if it is saved.
    saved: Option<String>,
    event: &'a str,
    title: &'a str,
    /// The path of its page.
    path: String,
}

impl Email<'static> {
    fn step(id: Option<Uuid>) -> Self {
        let title = if id.is_some() { "Step of the sequence" } else { "New step" };
        let last = id.map_or_else(|| "new".to_owned(), |id| id.to_string());
        Self { saved: id.map(|id| id.to_string()), event: NURTURE, title, path: format!("{PATH}/steps/{last}") }
    }
}

impl<'a> Email<'a> {
    fn template(name: &'a str) -> Result<Self> {
        let title = title(name).ok_or_else(Problem::not_found)?;
        Ok(Self { saved: Some(name.to_owned()), event: name, title, path: format!("{PATH}/{name}") })
    }
}

async fn new_step(visit: Visit) -> Result<Response> {
    let values = [("id", Some(Uuid::now_v7().to_string())), ("delay_days", Some("3".to_owned()))];
    Ok(new_page(&visit, &Draft::of(edit::fields(values))))
}

/// Adds a step at the end. The form has its id, so that it is added once however often it is sent.
async fn add_step(Sent { visit, mut fields }: Sent) -> Result<Response> {
    fields.take_once();
    let id = fields.get("id").parse().map_err(|_| Problem::not_found())?;
    let at = std::sync::atomic::AtomicUsize::new(0);
    let added = templates::change(&visit, |steps| {
        if steps.iter().all(|step| step.id != id) {
            at.store(steps.len(), std::sync::atomic::Ordering::Relaxed);
            steps.push(step(id, &fields));
        }
        Ok(())
    });
    let Err(refusal) = added.await else { return Ok(done(&visit, PATH, &Notice::of("The step was added."))) };
    let refusal = edit::within(refusal, &format!("nurture_sequence.{}.", at.into_inner()));
    Ok(new_page(&visit, &Draft::refused(fields, refusal)?))
}

fn new_page(visit: &Visit, draft: &Draft) -> Response {
    let id = html! { input type="hidden" name="id" value=(draft.values.get("id")); };
    page(visit, &Email::step(None), draft, &draft.problems(), &html! { (id) (step_inputs(draft)) })
}

async fn show_step(Id(id): Id, visit: Visit) -> Result<Response> {
    let stored: Versioned<Settings> = visit.crm.record("/settings").await?;
    stored.record.step(id).ok_or_else(Problem::not_found)?;
    Ok(step_page(&visit, id, &Edit::of(&stored, |settings| step_values(settings, id))))
}

async fn save_step(Id(id): Id, Sent { visit, fields }: Sent) -> Result<Response> {
    let Settings { nurture_sequence: steps, .. } = visit.crm.get("/settings").await?;
    let at = steps.iter().position(|step| step.id == id).ok_or_else(Problem::not_found)?;
    let body = |fields: &Fields| {
        let mut steps = steps.clone();
        steps[at] = step(id, fields);
        json!({ "nurture_sequence": steps })
    };
    let place = ("/settings", format!("nurture_sequence.{at}."));
    let saved = Edit::save(&visit, (place.0, &place.1), fields, STEP, body, |settings| step_values(settings, id));
    match saved.await? {
        Saved::Done => Ok(done(&visit, PATH, &Notice::of("The step was saved."))),
        Saved::Refused(edit) => Ok(step_page(&visit, id, &edit)),
    }
}

fn step(id: Uuid, fields: &Fields) -> Step {
    let text = |name: &str| fields.get(name).to_owned();
    Step { id, delay_days: fields.number("delay_days"), subject: text("subject"), body: text("body") }
}

fn step_values(settings: &Settings, id: Uuid) -> Fields {
    let step = settings.step(id);
    edit::fields([
        ("delay_days", step.map(|step| step.delay_days.to_string())),
        ("subject", step.map(|step| step.subject.clone())),
        ("body", step.map(|step| step.body.clone())),
    ])
}

fn step_page(visit: &Visit, id: Uuid, edit: &Edit) -> Response {
    let inputs = html! { (edit.version()) (step_inputs(&edit.draft)) };
    page(visit, &Email::step(Some(id)), &edit.draft, &edit.problems(), &inputs)
}

fn step_inputs(draft: &Draft) -> Markup {
    let days = draft.input("delay_days", "Days to wait").kind("number").required();
    html! {
        (days.hint("After the step before; for the first one, after the lead was enrolled."))
        (template_inputs(draft, NURTURE))
    }
}

async fn show(Path(name): Path<String>, visit: Visit) -> Result<Response> {
    let email = Email::template(&name)?;
    let stored: Versioned<Settings> = visit.crm.record("/settings").await?;
    let edit = Edit::of(&stored, |settings| template_values(settings, &name));
    Ok(template_page(&visit, &email, &edit))
}

async fn save(Path(name): Path<String>, Sent { visit, fields }: Sent) -> Result<Response> {
    let email = Email::template(&name)?;
    let body = |fields: &Fields| json!({ "templates": { &name: fields.object(&["subject", "body"]) } });
    let place = ("/settings", format!("templates.{name}."));
    let values = |settings: &Settings| template_values(settings, &name);
    match Edit::save(&visit, (place.0, &place.1), fields, TEMPLATE, body, values).await? {
        Saved::Done => Ok(done(&visit, &email.path, &Notice::of("The template was saved."))),
        Saved::Refused(edit) => Ok(template_page(&visit, &email, &edit)),
    }
}

fn template_values(settings: &Settings, name: &str) -> Fields {
    let template = settings.template(name);
    edit::fields([
        ("subject", template.map(|template| template.subject.clone())),
        ("body", template.map(|template| template.body.clone())),
    ])
}

fn template_page(visit: &Visit, email: &Email<'_>, edit: &Edit) -> Response {
    let inputs = html! { (edit.version()) (template_inputs(&edit.draft, email.event)) };
    page(visit, email, &edit.draft, &edit.problems(), &inputs)
}

fn template_inputs(draft: &Draft, event: &str) -> Markup {
    html! {
        (draft.input("subject", "Subject").required())
        (draft.input("body", "Body").area(18).required().hint(
            "An empty line begins a paragraph, lines with \"- \" are a list, and [label](link) on a line of its own is \
             a button."
        ))
        p.hint { "Variables: " @for name in variables(event) { code { "{{ " (name) " }}" } " " } }
    }
}

/// The variables of an email.
fn variables(event: &str) -> &'static [&'static str] {
    match event {
        "followups" => &["user.name", "count", "items"],
        "feedback_request" | "feedback_reminder" => &[
            "customer.name",
            "customer.first_name",
            "customer.email",
            "customer.company",
            "sender.name",
            "url",
            "unsubscribe_url",
        ],
        _ => &["lead.name", "lead.first_name", "lead.email", "lead.company", "sender.name", "unsubscribe_url"],
    }
}

/// The form beside its preview. The button of the preview sends the form into the frame.
fn page(visit: &Visit, email: &Email<'_>, draft: &Draft, problems: &Markup, inputs: &Markup) -> Response {
    let preview = format!("{PATH}/{}/html", email.event);
    let shown = email.saved.as_ref().map(|name| format!("{PATH}/{name}/html"));
    let actions = html! {
        @if email.saved.is_some() && email.event != NURTURE {
            (confirmed(visit, &format!("{}/restore", email.path), "Restore the default", &html! {
                "Replaces the subject and the body by those that every workspace begins with. Your text is lost, so \
                 copy what you want to keep."
            }))
        }
    };
    let content = html! {
        (problems)
        div.grid {
            form method="post" action=(email.path) {
                (hidden(visit))
                (inputs)
                div.actions {
                    button.primary type="submit" { "Save" }
                    @if visit.may(Scope::EmailsRead) {
                        button type="submit" formaction=(preview) formtarget="preview" formnovalidate { "Preview" }
                    }
                    a href=(PATH) { "Back to all" }
                }
                @if visit.may(Scope::EmailsRead) && visit.may(Scope::Workflows) {
                    div.field.test {
                        label for="test-to" { "Send a test to" }
                        div.actions {
                            input #test-to type="email" name=(TEST_TO) autocomplete="off" placeholder="The email of a user";
                            button type="submit" formaction={ (PATH) "/" (email.event) "/test" } formtarget="preview" formnovalidate {
                                "Send test"
                            }
                        }
                    }
                }
            }
            @if visit.may(Scope::EmailsRead) {
                section.preview {
                    h2 { "Preview" }
                    p.quiet { "With example values. “Preview” shows your text before it is saved." }
                    iframe name="preview" title="Preview of the email" src=[shown] sandbox="" {}
                }
            }
        }
    };
    let mut answer =
        layout::page_with_frame(visit, email.title, &super::inside(visit, PATH, email.title, &actions, &content));
    *answer.status_mut() = draft.status();
    answer
}

#[derive(Deserialize)]
struct Rendered {
    subject: String,
    html: String,
}

/// How a saved template looks.
async fn preview(Path(name): Path<String>, visit: Visit) -> Result<Response> {
    Ok(rendered(&visit, json!({ "template": name })).await)
}

/// How the template in a form looks.
async fn preview_draft(Path(event): Path<String>, Sent { visit, fields }: Sent) -> Result<Response> {
    let template = json!({ "subject": fields.get("subject"), "body": fields.get("body") });
    Ok(rendered(&visit, json!({ "template": template, "event": event })).await)
}

/// Sends the template in a form to a user. The answer appears in the frame, so the form keeps what was entered.
async fn send_test(Path(event): Path<String>, Sent { visit, fields }: Sent) -> Result<Response> {
    let address = fields.get(TEST_TO).trim();
    let path = link("/users", [("email", address), ("fields", "id"), ("limit", "1")]);
    let user = match address {
        "" => None,
        _ => visit.crm.list::<Value>(&path).await?.items.pop(),
    };
    let Some(user) = user else {
        return Ok(in_frame(
            &html! { p { "A test is sent only to a user of the workspace, and none has this email." } },
        ));
    };
    let template = json!({ "subject": fields.get("subject"), "body": fields.get("body") });
    let body = json!({ "template": template, "event": event, "user_id": user["id"] });
    Ok(match visit.crm.send(Method::POST, "/emails/test", Change::with(body)).await {
        Ok(_) => in_frame(&html! { p { "A test was queued for " strong { (address) } "." } }),
        Err(refusal) => in_frame(&reasons(&refusal)),
    })
}

/// A few sentences in the frame.
fn in_frame(content: &Markup) -> Response {
    layout::frame(&content.clone().into_string())
}

fn reasons(refusal: &Refusal) -> Markup {
    html! {
        p { strong { (refusal.message) } }
        ul { @for fault in &refusal.errors { li { (fault.field) " " (fault.message) } } }
    }
}

async fn rendered(visit: &Visit, body: Value) -> Response {
    let answer = visit.crm.send(Method::POST, "/emails/preview", Change::with(body)).await;
    let rendered = answer
        .and_then(|answer| serde_json::from_value(answer).map_err(|error| Problem::internal(error.to_string()).into()));
    match rendered {
        Ok(Rendered { subject, html }) => layout::frame(&with_subject(&subject, &html)),
        Err(refusal) => in_frame(&reasons(&refusal)),
    }
}

/// The email, with its subject above it. Its HTML is rendered by the API, which escapes the values in it.
fn with_subject(subject: &str, email: &str) -> String {
    let line = html! { p style="margin:0; padding:10px 16px; font:600 14px sans-serif; background:#fff; color:#111" { (subject) } };
    let body = email.find("<body").and_then(|at| Some(at + email[at..].find('>')? + 1)).unwrap_or(0);
    let (head, rest) = email.split_at(body);
    html! { (PreEscaped(head)) (line) (PreEscaped(rest)) }.into_string()
}
