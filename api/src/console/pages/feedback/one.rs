//! One request for feedback, and its answer.

use axum::http::Method;
use axum::response::Response;
use chrono::{DateTime, Utc};
use maud::{Markup, html};
use serde::Deserialize;
use shared::accounts::scopes::Scope;
use uuid::Uuid;

use crate::console::crm::Change;
use crate::console::forms::{confirmed, done};
use crate::console::layout::page;
use crate::console::notice::Notice;
use crate::console::parts;
use crate::console::refusal::Result;
use crate::console::session::{Id, Sent, Visit};
use crate::console::times::{time, time_or_dash};

const LIST: &str = "/console/feedback/answers";

#[derive(Deserialize)]
struct Feedback {
    customer_id: Uuid,
    status: String,
    rating: Option<u8>,
    comment: Option<String>,
    category: Option<String>,
    reminders: u64,
    requested_at: DateTime<Utc>,
    answered_at: Option<DateTime<Utc>>,
}

#[derive(Deserialize)]
struct Customer {
    name: String,
}

pub(super) async fn show(visit: Visit, Id(id): Id) -> Result<Response> {
    let feedback: Feedback = visit.crm.get(&format!("/feedback/{id}")).await?;
    // The customer may have been deleted since.
    let customer: Option<Customer> = visit.crm.get(&format!("/customers/{}", feedback.customer_id)).await.ok();
    let name = customer.map_or_else(|| "A customer".to_owned(), |customer| customer.name);
    let title = format!("Feedback of {name}");
    let content = html! {
        (parts::head(&title, &actions(&visit, id)))
        (facts(&visit, &feedback, &name))
        section {
            h2 { "Comment" }
            p.lines { (parts::text_or_dash(feedback.comment.as_deref())) }
        }
    };
    Ok(page(&visit, &title, &content))
}

fn facts(visit: &Visit, feedback: &Feedback, name: &str) -> Markup {
    let customer = html! { a href={ "/console/customers/" (feedback.customer_id) } { (name) } };
    let rating = feedback.rating.map(|rating| format!("{rating} of 5"));
    parts::facts([
        ("Customer", customer),
        ("Status", parts::badge(&feedback.status)),
        ("Rating", parts::text_or_dash(rating.as_deref())),
        ("Category", parts::text_or_dash(feedback.category.as_deref())),
        ("Requested", time(visit.zone, feedback.requested_at)),
        ("Reminders", html! { (feedback.reminders) }),
        ("Answered", time_or_dash(visit.zone, feedback.answered_at)),
    ])
}

fn actions(visit: &Visit, id: Uuid) -> Markup {
    let what = html! { "Takes the answer out of every figure. It can be restored for 30 days." };
    html! {
        a.button href=(LIST) { "All feedback" }
        @if visit.may(Scope::RecordsDelete) {
            (confirmed(visit, &format!("/console/feedback/{id}/delete"), "Delete", &what))
        }
    }
}

pub(super) async fn delete(Id(id): Id, Sent { visit, .. }: Sent) -> Result<Response> {
    visit.crm.send(Method::DELETE, &format!("/feedback/{id}"), Change::default()).await?;
    let notice = Notice::of("Deleted the feedback.").undone_by(format!("/console/feedback/{id}/restore"));
    Ok(done(&visit, LIST, &notice))
}

pub(super) async fn restore(Id(id): Id, Sent { visit, mut fields }: Sent) -> Result<Response> {
    let change = Change::default().once(fields.take_once());
    visit.crm.send(Method::POST, &format!("/feedback/{id}/restore"), change).await?;
    Ok(done(&visit, &format!("/console/feedback/{id}"), &Notice::of("Restored the feedback.")))
}
