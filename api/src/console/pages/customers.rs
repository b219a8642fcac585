//! The pages of customers: the list, and one customer with orders, feedback and health.

mod health;

use axum::Router;
use axum::http::Method;
use axum::response::Response;
use axum::routing::{get, post};
use chrono::{DateTime, Utc};
use maud::{Markup, html};
use serde::Deserialize;
use shared::accounts::scopes::Scope;
use shared::crm::customers::Customer;
use shared::crm::interactions::CustomerInteraction;
use uuid::Uuid;

use super::records::people::{People, text_in};
use super::records::timeline::{Entry, MOST, Source, entry, paragraph};
use super::records::{self, Json, Met, Noun, api_of, deleted, facts, interactions, page_of, reasons, timeline};
use crate::AppState;
use crate::console::crm::Change;
use crate::console::forms::{done, explained};
use crate::console::layout::{page, page_with};
use crate::console::notice::Notice;
use crate::console::parts::{self, badge};
use crate::console::refusal::Result;
use crate::console::session::{Id, Sent, Visit};

impl Noun for Customer {
    const PATH: &'static str = "/customers";
    const ONE: &'static str = "customer";
    const MANY: &'static str = "customers";
    const TITLED_BY: &'static [&'static str] = &["name"];
    const TITLE: (&'static str, Option<&'static str>) = ("Name", Some("name"));
    const SHOWN: &'static [&'static str] =
        &["email", "company", "status", "segment", "health_score", "health_band", "assigned_to", "created_at"];
    const FILTERED_BY: &'static [&'static str] =
        &["status", "type", "segment", "health_band", "assigned_to", "created_at[gte]"];
    const DELETION: &'static str =
        "Deletes the customer with their interactions, orders and feedback, but not their lead.";

    fn title(record: &Json) -> String {
        text_in(record, "name").unwrap_or("A customer").to_owned()
    }
}

impl Met for CustomerInteraction {
    type With = Customer;

    const AT: &'static str = "date";
    const TEXT: &'static str = "description";
}

/// The routes of these pages, under `/console`.
pub(super) fn routes() -> Router<AppState> {
    Router::new()
        .merge(records::routes::<Customer>())
        .merge(interactions::routes::<CustomerInteraction>())
        .route("/customers/{id}", get(show))
        .route("/customers/{id}/feedback", post(request_feedback))
}

async fn show(visit: Visit, Id(id): Id) -> Result<Response> {
    let customer: Json = match visit.crm.get(&api_of::<Customer>(id)).await {
        Ok(customer) => customer,
        Err(refusal) => return deleted::instead::<Customer>(&visit, id, refusal).await,
    };
    let history = timeline::changes_path::<Customer>(id);
    let orders = format!("/orders?customer_id={id}&sort=-order_date&limit={MOST}");
    let feedback = format!("/feedback?customer_id={id}&limit={MOST}");
    let health_path = format!("{}/health", api_of::<Customer>(id));
    let (people, changes, met, emails, orders, feedback, health) = tokio::try_join!(
        People::users(&visit),
        visit.crm.list(&history),
        interactions::of::<CustomerInteraction>(&visit, id),
        timeline::emails_to(&visit, text_in(&customer, "email").unwrap_or_default()),
        visit.crm.list::<OrderLine>(&orders),
        visit.crm.list::<FeedbackLine>(&feedback),
        visit.crm.get::<health::Health>(&health_path),
    )?;
    let sources = vec![
        timeline::changes_of::<Customer>(&visit, &people, &changes).await,
        interactions::source::<CustomerInteraction>(&visit, id, &met),
        Source::of(&emails, |email| timeline::email_entry(&visit, email)),
        Source::of(&orders, |order| order_entry(&visit, order)),
        Source::of(&feedback, |feedback| feedback_entry(&visit, feedback)),
    ];
    let title = Customer::title(&customer);
    let left_out = ["name", "first_name", "last_name", "health_score", "health_band"];
    let content = html! {
        (parts::head(&title, &actions(&visit, id)))
        section { h2.hidden { "Details" } (facts::<Customer>(&visit, &people, &customer, &left_out)) }
        (health::section(&visit, &health))
        section {
            h2 { "Timeline" }
            (interactions::adder::<CustomerInteraction>(&visit, id))
            (timeline::merged(sources, &older(id)))
        }
    };
    Ok(page(&visit, &title, &content))
}

fn older(id: Uuid) -> Markup {
    let page = page_of::<Customer>(id);
    html! {
        a href={ (page) "/changes" } { "All changes" } ", "
        a href={ (page) "/interactions" } { "all interactions" } ", "
        a href={ "/console/orders?customer_id=" (id) } { "all orders" } ", "
        a href={ "/console/feedback?customer_id=" (id) } { "all feedback" } "."
    }
}

fn actions(visit: &Visit, id: Uuid) -> Markup {
    let page = page_of::<Customer>(id);
    let what =
        html! { "Sends an email that asks for a rating and a comment. It cannot be taken back once it is sent." };
    html! {
        @if visit.may(Scope::RecordsWrite) {
            a.button href={ (page) "/edit" } { "Edit" }
            a.button href={ "/console/orders/new?customer_id=" (id) } { "New order" }
        }
        @if visit.may(Scope::Workflows) { (explained(visit, &format!("{page}/feedback"), "Request feedback", &what)) }
        (deleted::delete_button::<Customer>(visit, id))
    }
}

/// An order of the customer.
#[derive(Deserialize)]
struct OrderLine {
    id: Uuid,
    external_id: Option<String>,
    status: String,
    quantity: u64,
    order_date: DateTime<Utc>,
}

fn order_entry(visit: &Visit, order: &OrderLine) -> Entry {
    let id = order.id.to_string();
    let name = order.external_id.as_deref().unwrap_or_else(|| records::fields::short(&id));
    let line = html! {
        strong { "Order" } " " a href={ "/console/orders/" (id) } { (name) } ", quantity " (parts::count(order.quantity)) " " (badge(&order.status))
    };
    entry(visit, order.order_date, &line, &html! {})
}

/// A request for feedback, or its answer.
#[derive(Deserialize)]
struct FeedbackLine {
    id: Uuid,
    status: String,
    rating: Option<u8>,
    comment: Option<String>,
    requested_at: DateTime<Utc>,
    answered_at: Option<DateTime<Utc>>,
}

fn feedback_entry(visit: &Visit, feedback: &FeedbackLine) -> Entry {
    let line = html! {
        strong { a href={ "/console/feedback/" (feedback.id) } { "Feedback" } } " "
        @if let Some(rating) = feedback.rating { (rating) " of 5 " }
        (badge(&feedback.status))
    };
    entry(visit, feedback.answered_at.unwrap_or(feedback.requested_at), &line, &paragraph(feedback.comment.as_deref()))
}

/// Asks the customer for feedback.
async fn request_feedback(Id(id): Id, Sent { visit, mut fields }: Sent) -> Result<Response> {
    let change = Change::default().once(fields.take_once());
    let customer = page_of::<Customer>(id);
    match visit.crm.send(Method::POST, &format!("{}/feedback/request", api_of::<Customer>(id)), change).await {
        Ok(_) => Ok(done(&visit, &customer, &Notice::of("Requested feedback. The email is on its way."))),
        Err(refusal) if refusal.status == 409 => {
            let content = html! {
                (parts::head("Feedback cannot be requested", &html! {}))
                (reasons(&refusal))
                p { a href=(customer) { "Back to the customer" } }
            };
            Ok(page_with(refusal.status, &visit, "Feedback cannot be requested", &content))
        }
        Err(refusal) => Err(refusal),
    }
}
