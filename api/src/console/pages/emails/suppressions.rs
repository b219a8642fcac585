//! Addresses to which the workspace sends no email.

use axum::http::Method;
use axum::response::Response;
use chrono::{DateTime, Utc};
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::Value;
use shared::accounts::scopes::Scope;
use shared::mail::suppressions::{Reason, Scope as Covered};
use uuid::Uuid;

use super::{EMAILS, SUPPRESSIONS, tabs};
use crate::console::crm::Change;
use crate::console::forms::{Draft, confirmed, done, form};
use crate::console::layout::page_with;
use crate::console::lists::{self, Column, Filter};
use crate::console::notice::Notice;
use crate::console::parts::{self, words};
use crate::console::refusal::Result;
use crate::console::session::{Id, Sent, Visit};
use crate::console::times;

/// An address that gets no email.
#[derive(Debug, Deserialize)]
struct Suppression {
    id: Uuid,
    email: Option<String>,
    email_hash: Option<String>,
    reason: String,
    scope: String,
    email_id: Option<Uuid>,
    job_id: Option<Uuid>,
    line: Option<i64>,
    created_at: DateTime<Utc>,
}

pub(super) async fn list(visit: Visit) -> Result<Response> {
    render(&visit, &Draft::default()).await
}

async fn render(visit: &Visit, draft: &Draft) -> Result<Response> {
    let filters = filters();
    let suppressions = lists::read::<Suppression>(visit, "/suppressions", &filters).await?;
    let actions = html! {
        @if visit.may(Scope::Imports) { a.button href="/console/imports?kind=suppressions" { "Import a list" } }
        @if visit.may(Scope::Exports) {
            a.button href=(lists::export_link(visit, "/console/emails/suppressions.csv")) { "Export" }
        }
    };
    let content = html! {
        (parts::head("Suppressions", &actions))
        (tabs(SUPPRESSIONS))
        @if visit.may(Scope::Workflows) { (addition(visit, draft)) }
        (lists::filters(visit, &filters, COLUMNS))
        (lists::table(visit, "Suppressions", COLUMNS, &suppressions, &nothing(visit)))
    };
    Ok(page_with(draft.status(), visit, "Suppressions", &content))
}

fn nothing(visit: &Visit) -> Markup {
    match visit.query.is_empty() {
        true => parts::empty(
            "No address is suppressed",
            &html! { "Addresses appear here when their owner unsubscribes, when they bounce, or when you add them." },
        ),
        false => parts::empty(
            "No suppression matches",
            &html! { "Change the filters, or " a href=(SUPPRESSIONS) { "show all suppressions" } "." },
        ),
    }
}

/// The form that suppresses an address.
fn addition(visit: &Visit, draft: &Draft) -> Markup {
    let reasons = Reason::WORDS.iter().map(|word| (*word, words(word)));
    let covered = [("", "As the reason says"), ("marketing", "Marketing"), ("all", "Every email")];
    let content = html! {
        (draft.problems())
        div.fields {
            (draft.input("email", "Email").kind("email").required())
            (draft.input("reason", "Reason").choice(reasons).or("manual"))
            (draft.input("scope", "Covers").choice(covered).hint("Marketing is nurture, feedback requests and reminders."))
        }
        button.primary type="submit" { "Suppress" }
        p.hint { "Queued emails that it covers are not sent, also if you remove it later." }
    };
    html! {
        details.fold open[draft.refusal.is_some()] {
            summary { "Suppress an address" }
            (form(visit, SUPPRESSIONS, &content))
        }
    }
}

fn filters() -> Vec<Filter> {
    vec![
        Filter::input("email", "Address", "search"),
        Filter::choice("reason", "Reason", Reason::WORDS.iter().map(|word| (*word, words(word)))),
        Filter::choice("scope", "Covers", Covered::WORDS.iter().map(|word| (*word, words(word)))),
        Filter::input("created_at[gte]", "Since", "date"),
        Filter::input("created_at[lt]", "Before", "date"),
    ]
}

const COLUMNS: &[Column<Suppression>] = &[
    Column::new("Address", |_: &Visit, suppression: &Suppression| {
        match (&suppression.email, &suppression.email_hash) {
            (Some(email), _) => html! { (email) },
            (None, Some(hash)) => html! { "SHA-256 " code { (hash.get(..12).unwrap_or(hash)) "…" } },
            (None, None) => parts::text_or_dash(None),
        }
    })
    .sorted("email"),
    Column::new("Reason", |_: &Visit, suppression: &Suppression| html! { (words(&suppression.reason)) }),
    Column::new("Covers", |_: &Visit, suppression: &Suppression| {
        html! { (if suppression.scope == "all" { "Every email" } else { "Marketing" }) }
    }),
    Column::new("Because of", |_: &Visit, suppression: &Suppression| because(suppression)),
    Column::new("Since", |visit: &Visit, suppression: &Suppression| times::time(visit.zone, suppression.created_at))
        .sorted("created_at"),
    Column::new("Remove", |visit: &Visit, suppression: &Suppression| removal(visit, suppression)),
];

fn because(suppression: &Suppression) -> Markup {
    match (suppression.email_id, suppression.job_id) {
        (Some(id), _) => html! { a href=(format!("{EMAILS}/{id}")) { "An email" } },
        (None, Some(id)) => html! {
            a href=(format!("/console/jobs/{id}")) { "An import" }
            @if let Some(line) = suppression.line { ", line " (line) }
        },
        (None, None) => parts::text_or_dash(None),
    }
}

fn removal(visit: &Visit, suppression: &Suppression) -> Markup {
    if !visit.may(Scope::Workflows) {
        return html! {};
    }
    let path = format!("{SUPPRESSIONS}/{}/remove", suppression.id);
    confirmed(
        visit,
        &path,
        "Remove",
        &html! {
            "The address gets email again. Emails that were not sent because of it stay unsent. Remove it only if its owner \
             agrees; to undo this, suppress the address again."
        },
    )
}

pub(super) async fn add(Sent { visit, mut fields }: Sent) -> Result<Response> {
    let once = fields.take_once();
    let mut body = fields.object(&["email", "reason", "scope"]);
    body.retain(|name, value| name == "email" || !value.is_null());
    let email = fields.get("email").to_owned();
    match visit.crm.send(Method::POST, "/suppressions", Change::with(Value::Object(body)).once(once)).await {
        Ok(_) => Ok(done(&visit, SUPPRESSIONS, &Notice::of(format!("{email} gets no email any more.")))),
        Err(refusal) => render(&visit, &Draft::refused(fields, refusal)?).await,
    }
}

pub(super) async fn remove(Id(id): Id, Sent { visit, .. }: Sent) -> Result<Response> {
    visit.crm.send(Method::DELETE, &format!("/suppressions/{id}"), Change::default()).await?;
    Ok(done(&visit, SUPPRESSIONS, &Notice::of("The address gets email again.")))
}

/// The suppressions that the list shows, as a file.
pub(super) async fn file(visit: Visit) -> Result<Response> {
    visit.crm.file(&lists::file_path(&visit, "/suppressions/export", &filters()), "text/csv").await
}
