//! The pages of orders.

use std::slice::from_ref;

use axum::Router;
use axum::response::Response;
use axum::routing::get;
use maud::html;
use shared::accounts::scopes::Scope;
use shared::crm::orders::Order;

use super::records::fields::short;
use super::records::people::{People, text_in};
use super::records::{self, Json, Noun, api_of, deleted, facts, page_of, timeline};
use crate::AppState;
use crate::console::layout::page;
use crate::console::parts;
use crate::console::refusal::Result;
use crate::console::session::{Id, Visit};

impl Noun for Order {
    const PATH: &'static str = "/orders";
    const ONE: &'static str = "order";
    const MANY: &'static str = "orders";
    const TITLED_BY: &'static [&'static str] = &["external_id"];
    const TITLE: (&'static str, Option<&'static str>) = ("Order", Some("external_id"));
    const SHOWN: &'static [&'static str] = &["customer_id", "status", "quantity", "product_id", "order_date"];
    const FILTERED_BY: &'static [&'static str] = &["status", "customer_id", "order_date[gte]", "order_date[lt]"];
    const DELETION: &'static str = "Deletes the order.";

    fn title(record: &Json) -> String {
        let id = || short(text_in(record, "id").unwrap_or_default());
        format!("Order {}", text_in(record, "external_id").unwrap_or_else(id))
    }
}

/// The routes of these pages, under `/console`.
pub(super) fn routes() -> Router<AppState> {
    records::routes::<Order>().route("/orders/{id}", get(show))
}

async fn show(visit: Visit, Id(id): Id) -> Result<Response> {
    let order: Json = match visit.crm.get(&api_of::<Order>(id)).await {
        Ok(order) => order,
        Err(refusal) => return deleted::instead::<Order>(&visit, id, refusal).await,
    };
    let history = timeline::changes_path::<Order>(id);
    let people = People::default().and_customers(&visit, from_ref(&order));
    let (people, changes) = tokio::try_join!(people, visit.crm.list(&history))?;
    let changes = timeline::changes_of::<Order>(&visit, &people, &changes).await;
    let title = Order::title(&order);
    let actions = html! {
        @if visit.may(Scope::RecordsWrite) { a.button href={ (page_of::<Order>(id)) "/edit" } { "Edit" } }
        (deleted::delete_button::<Order>(&visit, id))
    };
    let older = html! { a href={ (page_of::<Order>(id)) "/changes" } { "All changes" } "." };
    let content = html! {
        (parts::head(&title, &actions))
        section { h2.hidden { "Details" } (facts::<Order>(&visit, &people, &order, &[])) }
        section { h2 { "Timeline" } (timeline::merged(vec![changes], &older)) }
    };
    Ok(page(&visit, &title, &content))
}
