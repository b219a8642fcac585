//! The nurture sequence and the templates of other emails.

use axum::Router;
use axum::extract::Path;
use axum::response::Response;
use axum::routing::{get, post};
use maud::{Markup, html};
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use crate::AppState;
use crate::console::crm::{Change, Versioned};
use crate::console::forms::{UPDATE, confirmed, done, form};
use crate::console::notice::Notice;
use crate::console::parts;
use crate::console::refusal::{Refusal, Result};
use crate::console::session::{Id, Sent, Visit};
use crate::respond::Problem;

pub(super) const PATH: &str = "/console/settings/templates";

/// How often an update is tried while others change the settings.
const ATTEMPTS: usize = 3;

/// A step of the nurture sequence.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Step {
    pub id: Uuid,
    pub delay_days: serde_json::Value,
    pub subject: String,
    pub body: String,
}

#[derive(Deserialize)]
pub(super) struct Template {
    pub subject: String,
    pub body: String,
}

#[derive(Deserialize)]
pub(super) struct Templates {
    pub followups: Template,
    pub feedback_request: Template,
    pub feedback_reminder: Template,
}

#[derive(Deserialize)]
pub(super) struct Settings {
    pub nurture_sequence: Vec<Step>,
    pub templates: Templates,
}

impl Settings {
    /// The step with an id.
    pub fn step(&self, id: Uuid) -> Option<&Step> {
        self.nurture_sequence.iter().find(|step| step.id == id)
    }

    /// The template with a name.
    pub fn template(&self, name: &str) -> Option<&Template> {
        match name {
            "followups" => Some(&self.templates.followups),
            "feedback_request" => Some(&self.templates.feedback_request),
            "feedback_reminder" => Some(&self.templates.feedback_reminder),
            _ => None,
        }
    }
}

/// The templates, with what they are for.
const TEMPLATES: [(&str, &str, &str); 3] = [
    ("followups", "Follow-ups", "The daily digest of what is due, to a user."),
    ("feedback_request", "Request for feedback", "To a customer, with a link to the form."),
    ("feedback_reminder", "Reminder", "To a customer who has not answered a request."),
];

/// What people call a template; `None` if there is none with this name.
pub(super) fn title(name: &str) -> Option<&'static str> {
    TEMPLATES.into_iter().find(|(known, ..)| *known == name).map(|(_, title, _)| title)
}

pub(super) fn routes() -> Router<AppState> {
    Router::new()
        .route("/settings/templates", get(show))
        .route("/settings/templates/restore", post(restore_sequence))
        .route("/settings/templates/{name}/restore", post(restore))
        .route("/settings/templates/steps/{id}/move", post(move_step))
        .route("/settings/templates/steps/{id}/remove", post(remove_step))
}

async fn show(visit: Visit) -> Result<Response> {
    let settings: Settings = visit.crm.get("/settings").await?;
    let restore = html! {
        "The sequence is replaced by the one that every workspace begins with. Your own steps are lost, so copy what \
         you want to keep."
    };
    let actions = html! {
        a.button.primary href=(format!("{PATH}/steps/new")) { "Add a step" }
        (confirmed(&visit, &format!("{PATH}/restore"), "Restore the default", &restore))
    };
    let content = html! {
        section {
            header.head { h2 { "Nurture sequence" } div.actions { (actions) } }
            @if settings.nurture_sequence.is_empty() {
                (parts::empty("No steps", &html! { "Leads receive no emails. Add a step, or restore the default sequence." }))
            } @else {
                (sequence(&visit, &settings.nurture_sequence))
            }
        }
        (parts::section("Templates of other emails", &others(&settings)))
    };
    Ok(super::page(&visit, PATH, "Sequence and templates", &html! {}, &content))
}

fn sequence(visit: &Visit, steps: &[Step]) -> Markup {
    let row = |at: usize, step: &Step| {
        let path = format!("{PATH}/steps/{}", step.id);
        let days = step.delay_days.as_u64().unwrap_or_default();
        vec![
            html! { a href=(path) { (step.subject) } },
            html! { @match (at, days) {
                (0, 0) => "At once",
                (0, days) => { (parts::count(days)) " days after the lead was enrolled" },
                (_, 1) => "1 day later",
                (_, days) => { (parts::count(days)) " days later" },
            } },
            html! {
                div.actions {
                    @if at > 0 { (move_to(visit, step, at - 1, "Move up")) }
                    @if at + 1 < steps.len() { (move_to(visit, step, at + 1, "Move down")) }
                    (confirmed(visit, &format!("{path}/remove"), "Remove", &html! {
                        "Leads no longer receive it, and nothing that was sent changes. To undo it, add a step with \
                         the same text: it counts as a new one, also for leads who had this one."
                    }))
                }
            },
        ]
    };
    let rows: Vec<_> = steps.iter().enumerate().map(|(at, step)| row(at, step)).collect();
    parts::table("Steps of the nurture sequence", &["Subject", "When", "Change"], &rows)
}

fn move_to(visit: &Visit, step: &Step, to: usize, label: &str) -> Markup {
    form(
        visit,
        &format!("{PATH}/steps/{}/move", step.id),
        &html! {
            input type="hidden" name="to" value=(to);
            button type="submit" aria-label=(format!("{label}: {}", step.subject)) { (label) }
        },
    )
}

fn others(settings: &Settings) -> Markup {
    let row = |(name, title, about): (&str, &'static str, &'static str)| {
        let subject = settings.template(name).map_or("", |template| template.subject.as_str());
        vec![html! { a href=(format!("{PATH}/{name}")) { (title) } }, html! { (about) }, html! { (subject) }]
    };
    parts::table("Templates", &["Email", "What it is", "Subject"], &TEMPLATES.map(row))
}

/// Changes the sequence as it is now, whoever else changes the settings.
pub(super) async fn change(visit: &Visit, change: impl Fn(&mut Vec<Step>) -> Result<()>) -> Result<()> {
    let mut attempt = 1;
    loop {
        let Versioned { record, etag } = visit.crm.record::<Settings>("/settings").await?;
        let mut steps = record.nurture_sequence;
        change(&mut steps)?;
        let body = Change::with(json!({ "nurture_sequence": steps })).if_match(Some(etag));
        match visit.crm.send(UPDATE, "/settings", body).await {
            Err(refusal) if refusal.status == 412 && attempt < ATTEMPTS => attempt += 1,
            answer => return answer.map(|_| ()),
        }
    }
}

async fn move_step(Id(id): Id, Sent { visit, fields }: Sent) -> Result<Response> {
    let to: usize = fields.get("to").parse().map_err(|_| Refusal::from(Problem::not_found()))?;
    change(&visit, |steps| {
        let at = steps.iter().position(|step| step.id == id).ok_or_else(Problem::not_found)?;
        let step = steps.remove(at);
        steps.insert(to.min(steps.len()), step);
        Ok(())
    })
    .await?;
    Ok(done(&visit, PATH, &Notice::of("The step was moved.")))
}

async fn remove_step(Id(id): Id, Sent { visit, .. }: Sent) -> Result<Response> {
    change(&visit, |steps| {
        steps.retain(|step| step.id != id);
        Ok(())
    })
    .await?;
    Ok(done(&visit, PATH, &Notice::of("The step was removed.")))
}

async fn restore_sequence(Sent { visit, .. }: Sent) -> Result<Response> {
    visit.crm.send(UPDATE, "/settings", Change::with(json!({ "nurture_sequence": null }))).await?;
    Ok(done(&visit, PATH, &Notice::of("The default sequence was restored.")))
}

async fn restore(Path(name): Path<String>, Sent { visit, .. }: Sent) -> Result<Response> {
    let title = title(&name).ok_or_else(Problem::not_found)?;
    let body = json!({ "templates": { name: null } });
    visit.crm.send(UPDATE, "/settings", Change::with(body)).await?;
    Ok(done(&visit, PATH, &Notice::of(format!("The default of \u{201c}{title}\u{201d} was restored."))))
}
