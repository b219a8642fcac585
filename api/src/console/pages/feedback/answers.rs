//! The list of requests and answers.

use std::collections::HashMap;

use axum::response::Response;
use chrono::{DateTime, Utc};
use maud::{Markup, html};
use serde::Deserialize;
use shared::crm::feedback::FeedbackStatus;
use uuid::Uuid;

use super::super::reports::choice;
use crate::console::layout::page;
use crate::console::links::link;
use crate::console::lists::{self, Column, Filter};
use crate::console::parts;
use crate::console::refusal::Result;
use crate::console::session::Visit;
use crate::console::times::{time, time_or_dash};

/// The characters of a comment that the list shows.
const COMMENT: usize = 300;

#[derive(Deserialize)]
struct Answer {
    id: Uuid,
    customer_id: Uuid,
    status: String,
    rating: Option<u8>,
    comment: Option<String>,
    category: Option<String>,
    reminders: u64,
    requested_at: DateTime<Utc>,
    answered_at: Option<DateTime<Utc>>,
    /// The name of the customer.
    #[serde(skip)]
    name: Option<String>,
}

#[derive(Deserialize)]
struct Customer {
    id: Uuid,
    name: String,
}

const COLUMNS: [Column<Answer>; 8] = [
    Column::new("Customer", |_, answer: &Answer| answer.customer()),
    Column::new("Status", |_, answer: &Answer| parts::badge(&answer.status)).sorted("status"),
    Column::new("Rating", |_, answer: &Answer| answer.stars()).sorted("rating").number(),
    Column::new("Comment", |_, answer: &Answer| answer.comment()),
    Column::new("Category", |_, answer: &Answer| parts::text_or_dash(answer.category.as_deref())).sorted("category"),
    Column::new("Answered", |visit, answer: &Answer| time_or_dash(visit.zone, answer.answered_at))
        .sorted("answered_at"),
    Column::new("Requested", |visit, answer: &Answer| answer.requested(visit)).sorted("requested_at"),
    Column::new("Reminders", |_, answer: &Answer| html! { (answer.reminders) })
        .sorted("reminders")
        .number()
        .on_request(),
];

fn filters() -> Vec<Filter> {
    vec![
        choice("status", "Status", FeedbackStatus::WORDS),
        choice("rating", "Rating", &["1", "2", "3", "4", "5"]),
        Filter::input("category", "Category", "text"),
        Filter::input("answered_at[gte]", "Answered from", "date"),
        Filter::input("answered_at[lt]", "Answered before", "date"),
        Filter::input("customer_id", "Customer (id)", "text"),
        Filter::input("theme", "Theme (id)", "text"),
    ]
}

pub(super) async fn show(visit: Visit) -> Result<Response> {
    let filters = filters();
    let mut listing = lists::read::<Answer>(&visit, "/feedback", &filters).await?;
    let names = names(&visit, &listing.items).await?;
    for answer in &mut listing.items {
        answer.name = names.get(&answer.customer_id).cloned();
    }
    let empty = parts::empty(
        "No answers match",
        &html! {
            "Clear the filters, or " a href="/console/feedback" { "request feedback" } " of a customer."
        },
    );
    let content = html! {
        (parts::head("Answers", &html! { a.button href="/console/feedback" { "Figures and themes" } }))
        (lists::filters(&visit, &filters, &COLUMNS))
        (lists::table(&visit, "Feedback", &COLUMNS, &listing, &empty))
    };
    Ok(page(&visit, "Answers", &content))
}

/// The names of the customers of a page.
async fn names(visit: &Visit, answers: &[Answer]) -> Result<HashMap<Uuid, String>> {
    let mut ids: Vec<String> = answers.iter().map(|answer| answer.customer_id.to_string()).collect();
    ids.sort_unstable();
    ids.dedup();
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let path = link("/customers", [("id", ids.join(",").as_str()), ("limit", &ids.len().to_string())]);
    let customers = visit.crm.list::<Customer>(&path).await?.items;
    Ok(customers.into_iter().map(|Customer { id, name }| (id, name)).collect())
}

impl Answer {
    fn customer(&self) -> Markup {
        html! {
            a href=(format!("/console/customers/{}", self.customer_id)) {
                @match &self.name { Some(name) => (name), None => (self.customer_id) }
            }
        }
    }

    fn requested(&self, visit: &Visit) -> Markup {
        html! { a href=(format!("/console/feedback/{}", self.id)) { (time(visit.zone, self.requested_at)) } }
    }

    /// The beginning of the comment; the page of the feedback has all of it.
    fn comment(&self) -> Markup {
        let comment = self.comment.as_ref().map(|comment| parts::clipped(comment, COMMENT));
        parts::text_or_dash(comment.as_deref())
    }

    fn stars(&self) -> Markup {
        self.rating.map_or_else(|| parts::text_or_dash(None), |rating| html! { (rating) span.quiet { " of 5" } })
    }
}
