//! The pages of emails: the outbox, one email, and suppressions.

mod one;
mod suppressions;

use axum::Router;
use axum::response::Response;
use axum::routing::{get, post};
use chrono::{DateTime, Utc};
use maud::{Markup, html};
use serde::Deserialize;
use shared::accounts::scopes::Scope;
use shared::mail::{EmailState, Event};
use uuid::Uuid;

use crate::AppState;
use crate::console::layout::page;
use crate::console::lists::{self, Column, Filter};
use crate::console::parts::{self, words};
use crate::console::refusal::Result;
use crate::console::session::Visit;
use crate::console::times;

/// The path of these pages.
const EMAILS: &str = "/console/emails";
const SUPPRESSIONS: &str = "/console/emails/suppressions";

/// The routes of these pages, under `/console`.
pub(super) fn routes() -> Router<AppState> {
    Router::new()
        .route("/emails", get(list))
        .route("/emails/suppressions", get(suppressions::list).post(suppressions::add))
        .route("/emails/suppressions.csv", get(suppressions::file))
        .route("/emails/suppressions/{id}/remove", post(suppressions::remove))
        .route("/emails/{id}", get(one::show))
        .route("/emails/{id}/html", get(one::html_body))
        .route("/emails/{id}/resend", post(one::resend))
        .route("/emails/{id}/mark-sent", post(one::mark_sent))
        .route("/emails/{id}/cancel", post(one::cancel))
}

/// An email of the outbox.
#[derive(Debug, Deserialize)]
struct Email {
    id: Uuid,
    state: String,
    event: String,
    to_email: String,
    to_name: Option<String>,
    subject: String,
    failures: i64,
    next_try_at: Option<DateTime<Utc>>,
    answer: Option<String>,
    created_at: DateTime<Utc>,
    sent_at: Option<DateTime<Utc>>,
}

/// What people call the event that causes an email.
fn reason(event: &str) -> String {
    if event == "followups" { "Follow-ups".to_owned() } else { words(event) }
}

async fn list(visit: Visit) -> Result<Response> {
    let filters = filters();
    let emails = lists::read::<Email>(&visit, "/emails", &filters).await?;
    let content = html! {
        (parts::head("Emails", &html! {}))
        (tabs(EMAILS))
        (lists::filters(&visit, &filters, COLUMNS))
        (lists::table(&visit, "Emails", COLUMNS, &emails, &nothing(&visit)))
    };
    Ok(page(&visit, "Emails", &content))
}

fn tabs(path: &str) -> Markup {
    parts::tabs("Emails", path, [(EMAILS, "Outbox"), (SUPPRESSIONS, "Suppressions")])
}

fn filters() -> Vec<Filter> {
    vec![
        Filter::choice("state", "State", EmailState::WORDS.iter().map(|word| (*word, words(word)))),
        Filter::choice("event", "Reason", Event::WORDS.iter().map(|word| (*word, reason(word)))),
        Filter::input("to_email", "Recipient", "search"),
        Filter::input("created_at[gte]", "Since", "date"),
        Filter::input("created_at[lt]", "Before", "date"),
        Filter::input("subject_id", "About the record (id)", "text"),
    ]
}

fn nothing(visit: &Visit) -> Markup {
    if !visit.query.is_empty() {
        return parts::empty(
            "No email matches",
            &html! { "Change the filters, or " a href=(EMAILS) { "show all emails" } "." },
        );
    }
    parts::empty(
        "No emails yet",
        &html! {
            "Workflows write emails: nurture, follow-ups, feedback requests. Set the sender in "
            a href="/console/settings" { "Settings" } ", then "
            (parts::link_if(visit.may(Scope::Workflows), "/console/jobs/start", "start a workflow")) " with a dry run."
        },
    )
}

const COLUMNS: &[Column<Email>] = &[
    Column::new("Recipient", |_: &Visit, email: &Email| {
        html! { a href=(format!("{EMAILS}/{}", email.id)) { (email.to_email) } }
    })
    .sorted("to_email"),
    Column::new("Name", |_: &Visit, email: &Email| parts::text_or_dash(email.to_name.as_deref())).on_request(),
    Column::new("Subject", |_: &Visit, email: &Email| html! { (email.subject) }),
    Column::new("State", |_: &Visit, email: &Email| parts::badge(&email.state)),
    Column::new("Reason", |_: &Visit, email: &Email| html! { (reason(&email.event)) }),
    Column::new("Failures", |_: &Visit, email: &Email| html! { (email.failures) }).number().on_request(),
    Column::new("Answer of the server", |_: &Visit, email: &Email| parts::text_or_dash(email.answer.as_deref()))
        .on_request(),
    Column::new("Created", |visit: &Visit, email: &Email| times::time(visit.zone, email.created_at))
        .sorted("created_at"),
    Column::new("Next attempt", |visit: &Visit, email: &Email| times::time_or_dash(visit.zone, email.next_try_at)),
    Column::new("Sent", |visit: &Visit, email: &Email| times::time_or_dash(visit.zone, email.sent_at)),
];
