//! One email: as it looks, what became of it, and what to decide about it.

use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use maud::{Markup, html};
use serde::Deserialize;
use shared::accounts::scopes::Scope;
use uuid::Uuid;

use super::{EMAILS, SUPPRESSIONS, reason};
use crate::console::crm::Change;
use crate::console::forms::{confirmed, done};
use crate::console::layout::page_with_frame;
use crate::console::links::link;
use crate::console::notice::Notice;
use crate::console::pages::jobs::job::page_of;
use crate::console::parts::{self, badge, words};
use crate::console::refusal::{Refusal, Result};
use crate::console::session::{Id, Sent, Visit};
use crate::console::times;

/// What an email may do in its frame: nothing but look as it does.
const FRAMED: &str = "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'; frame-ancestors 'self'";
/// The most outcomes that a page shows.
const OUTCOMES: &str = "50";

/// An email with its headers and bodies.
#[derive(Deserialize)]
struct Whole {
    id: Uuid,
    state: String,
    event: String,
    record: Option<Subject>,
    from_name: Option<String>,
    from_email: String,
    to_name: Option<String>,
    to_email: String,
    subject: String,
    failures: i64,
    next_try_at: Option<DateTime<Utc>>,
    answer: Option<String>,
    created_at: DateTime<Utc>,
    sent_at: Option<DateTime<Utc>>,
    headers: Vec<Header>,
    text_body: String,
    html_body: Option<String>,
}

#[derive(Deserialize)]
struct Subject {
    #[serde(rename = "type")]
    kind: String,
    id: Uuid,
}

#[derive(Deserialize)]
struct Header {
    name: String,
    value: String,
}

/// Something that happened to an email.
#[derive(Deserialize)]
struct Outcome {
    #[serde(rename = "type")]
    kind: String,
    created_at: DateTime<Utc>,
    actor: Actor,
    #[serde(default)]
    data: Option<EventData>,
}

/// The email as it was then.
#[derive(Deserialize)]
struct EventData {
    #[serde(default)]
    answer: Option<String>,
}

#[derive(Deserialize)]
struct Actor {
    #[serde(rename = "type")]
    kind: String,
}

pub(super) async fn show(visit: Visit, Id(id): Id) -> Result<Response> {
    let path = format!("/emails/{id}");
    let (email, outcomes) = tokio::try_join!(visit.crm.get::<Whole>(&path), outcomes(&visit, id))?;
    let content = html! {
        (parts::head(&email.subject, &html! { a.button href=(EMAILS) { "All emails" } }))
        (decision(&visit, &email))
        section { h2.hidden { "State" } (facts(&visit, &email)) }
        @if email.html_body.is_some() {
            section {
                h2 { "As it looks" }
                iframe.email src=(format!("{EMAILS}/{id}/html")) sandbox title=(format!("Email: {}", email.subject)) {}
            }
        }
        section { h2 { "Text" } pre tabindex="0" { (email.text_body) } }
        (outcomes)
        (parts::section("Headers", &headers(&email)))
    };
    Ok(page_with_frame(&visit, &email.subject, &content))
}

fn facts(visit: &Visit, email: &Whole) -> Markup {
    let zone = visit.zone;
    let mut facts = vec![
        ("State", badge(&email.state)),
        ("To", address(email.to_name.as_deref(), &email.to_email)),
        ("From", address(email.from_name.as_deref(), &email.from_email)),
        ("Reason", html! { (reason(&email.event)) }),
        ("Created", times::time(zone, email.created_at)),
        ("Sent", times::time_or_dash(zone, email.sent_at)),
    ];
    if let Some(Subject { kind, id }) = &email.record {
        let page = page_of(kind, &id.to_string());
        let name = words(kind);
        facts.push(("About", html! { @if let Some(page) = page { a href=(page) { (name) } } @else { (name) } }));
    }
    facts.extend(email.next_try_at.map(|at| ("Next attempt", times::time(zone, at))));
    if email.failures > 0 {
        facts.push(("Failures in a row", html! { (email.failures) }));
    }
    facts.extend(email.answer.as_ref().map(|answer| ("Answer of the mail server", html! { (answer) })));
    parts::facts(facts)
}

fn address(name: Option<&str>, email: &str) -> Markup {
    html! { @if let Some(name) = name { (name) " " } (email) }
}

fn headers(email: &Whole) -> Markup {
    let rows: Vec<Vec<Markup>> = email
        .headers
        .iter()
        .map(|Header { name, value }| vec![html! { code { (name) } }, html! { code { (value) } }])
        .collect();
    parts::table("Headers", &["Header", "Value"], &rows)
}

/// What happened to the email and who decided about it, as far as it is kept and the key may read it.
async fn outcomes(visit: &Visit, id: Uuid) -> Result<Markup> {
    let id = id.to_string();
    let events = link("/events", [("subject_id", id.as_str()), ("limit", OUTCOMES)]);
    let decisions = link("/audit", [("subject.id", id.as_str()), ("limit", OUTCOMES)]);
    let may_read = [(Scope::RecordsRead, events), (Scope::Keys, decisions)];
    let mut outcomes: Vec<Outcome> = Vec::new();
    for (_, path) in may_read.iter().filter(|(scope, _)| visit.may(*scope)) {
        outcomes.extend(visit.crm.get::<Vec<Outcome>>(path).await?);
    }
    if outcomes.is_empty() {
        return Ok(html! {});
    }
    outcomes.sort_by_key(|outcome| outcome.created_at);
    let rows: Vec<Vec<Markup>> = outcomes.iter().map(|outcome| row(visit, outcome)).collect();
    let heads = ["Outcome", "At", "By", "Answer of the mail server"];
    Ok(parts::section("What happened", &parts::table("What happened", &heads, &rows)))
}

fn row(visit: &Visit, outcome: &Outcome) -> Vec<Markup> {
    let answer = outcome.data.as_ref().and_then(|email| email.answer.as_deref());
    vec![
        html! { (words(outcome.kind.trim_start_matches("email."))) },
        times::time(visit.zone, outcome.created_at),
        html! { (if outcome.actor.kind == "api_key" { "API key".to_owned() } else { words(&outcome.actor.kind) }) },
        parts::text_or_dash(answer),
    ]
}

/// What has to be decided about the email, and what each decision means.
fn decision(visit: &Visit, email: &Whole) -> Markup {
    if !visit.may(Scope::Workflows) {
        return html! {};
    }
    let to = |what: &str| format!("{EMAILS}/{}/{what}", email.id);
    match email.state.as_str() {
        "unknown" => html! {
            section.decide aria-labelledby="decide" {
                h2 #decide { "Was it delivered?" }
                p {
                    "The connection broke before the mail server confirmed this email. Nobody can know from here whether \
                     it arrived. Look for its Message-ID in the log of the mail server, then decide."
                }
                div.actions {
                    (confirmed(visit, &to("mark-sent"), "It was sent", &html! {
                        "Marks the email as sent; nothing is sent. If the server had not taken it, the recipient never \
                         gets it. This is final."
                    }))
                    (confirmed(visit, &to("resend"), "Send again", &html! {
                        "Queues the email again. If the server had taken it after all, the recipient gets it twice, with \
                         the same Message-ID. A sent email cannot be taken back."
                    }))
                }
            }
        },
        "bounced" => html! {
            div.actions.spaced {
                (confirmed(visit, &to("resend"), "Send again", &html! {
                    "Queues the email again, for example after a full mailbox. Nothing is sent while the address is \
                     suppressed. A sent email cannot be taken back."
                }))
            }
        },
        "queued" | "deferred" => html! {
            div.actions.spaced {
                (confirmed(visit, &to("cancel"), "Cancel", &html! {
                    "The email is not sent. What caused it causes no other email: a cancelled step of nurture counts as \
                     received, and a feedback request can be sent again. This is final."
                }))
            }
        },
        "suppressed" => html! {
            p { "The address is suppressed: " a href=(link(SUPPRESSIONS, [("email", email.to_email.as_str())])) { "its suppression" } "." }
        },
        _ => html! {},
    }
}

/// The HTML of an email, as a document of its own that can do nothing.
pub(super) async fn html_body(visit: Visit, Id(id): Id) -> Result<Response> {
    let email: Whole = visit.crm.get(&format!("/emails/{id}")).await?;
    let body = email.html_body.ok_or_else(|| Refusal::of(StatusCode::NOT_FOUND, "This email is plain text."))?;
    let headers = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CONTENT_SECURITY_POLICY, FRAMED),
        (CACHE_CONTROL, "no-store"),
        (REFERRER_POLICY, "no-referrer"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    Ok((headers, body).into_response())
}

pub(super) async fn resend(Id(id): Id, sent: Sent) -> Result<Response> {
    decide(id, sent, "resend", "The email is queued again.").await
}

pub(super) async fn mark_sent(Id(id): Id, sent: Sent) -> Result<Response> {
    decide(id, sent, "mark-sent", "The email is marked as sent.").await
}

pub(super) async fn cancel(Id(id): Id, sent: Sent) -> Result<Response> {
    decide(id, sent, "cancel", "The email is cancelled.").await
}

async fn decide(id: Uuid, Sent { visit, mut fields }: Sent, what: &str, text: &str) -> Result<Response> {
    let change = Change::default().once(fields.take_once());
    visit.crm.send(Method::POST, &format!("/emails/{id}/{what}"), change).await?;
    Ok(done(&visit, &format!("{EMAILS}/{id}"), &Notice::of(text)))
}
