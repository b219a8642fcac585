//! The deliveries of a webhook.

use axum::Router;
use axum::extract::Path;
use axum::http::Method;
use axum::response::Response;
use axum::routing::{get, post};
use chrono::{DateTime, Utc};
use maud::{Markup, html};
use serde::Deserialize;
use shared::events::EventType;
use uuid::Uuid;

use super::webhooks::PATH;
use crate::AppState;
use crate::console::crm::{Change, Listing};
use crate::console::forms::{button, done};
use crate::console::lists::{self, Column, Filter};
use crate::console::live;
use crate::console::notice::Notice;
use crate::console::parts;
use crate::console::refusal::Result;
use crate::console::session::{Sent, Visit};
use crate::console::times::{time, time_or_dash};

/// How often the page of a delivery looks whether it has changed.
const EVERY: std::time::Duration = std::time::Duration::from_secs(1);

#[derive(Deserialize)]
pub(super) struct Delivery {
    id: Uuid,
    event_id: String,
    event_type: String,
    state: String,
    attempts: u32,
    next_attempt_at: Option<DateTime<Utc>>,
    status: Option<u16>,
    latency_ms: Option<u32>,
    response: Option<String>,
    error: Option<String>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    delivered_at: Option<DateTime<Utc>>,
}

const COLUMNS: &[Column<Delivery>] = &[
    Column::new("Event", |visit, delivery| {
        html! { a href=(format!("{}/deliveries/{}", visit.path, delivery.id)) { (delivery.event_type) } }
    }),
    Column::new("State", |_, delivery| parts::badge(&delivery.state)),
    Column::<Delivery>::new("Attempts", |_, delivery| html! { (delivery.attempts) }).number(),
    Column::<Delivery>::new("Status", |_, delivery| {
        parts::text_or_dash(delivery.status.map(|it| it.to_string()).as_deref())
    })
    .number(),
    Column::new("Error", |_, delivery| parts::text_or_dash(delivery.error.as_deref())),
    Column::new("Created", |visit, delivery| time(visit.zone, delivery.created_at)),
    Column::new("Next attempt", |visit, delivery| time_or_dash(visit.zone, delivery.next_attempt_at)),
];

pub(super) fn routes() -> Router<AppState> {
    Router::new()
        .route("/settings/webhooks/{id}/deliveries/{delivery}", get(show))
        .route("/settings/webhooks/{id}/deliveries/{delivery}/live", get(live))
        .route("/settings/webhooks/{id}/deliveries/{delivery}/retry", post(retry))
}

fn filters() -> [Filter; 2] {
    let states = ["pending", "waiting", "delivered", "failed"].map(|state| (state, parts::words(state)));
    let types = EventType::PUBLIC_WORDS.iter().map(|word| (*word, *word));
    [Filter::choice("state", "State", states), Filter::choice("event_type", "Event", types)]
}

/// The part of the deliveries that the page of a webhook asks for.
pub(super) async fn read(visit: &Visit, webhook: Uuid) -> Result<Listing<Delivery>> {
    lists::read(visit, &format!("/webhooks/{webhook}/deliveries"), &filters()).await
}

/// The deliveries on the page of their webhook.
pub(super) fn list(visit: &Visit, listing: &Listing<Delivery>) -> Markup {
    let empty = parts::empty("No deliveries", &html! { "They appear here as events happen. A ping sends one now." });
    html! {
        (lists::filters(visit, &filters(), COLUMNS))
        (lists::table(visit, "Deliveries", COLUMNS, listing, &empty))
    }
}

/// The ids of a webhook and of one of its deliveries.
type Ids = Path<(Uuid, Uuid)>;

async fn show(Path((webhook, id)): Ids, visit: Visit) -> Result<Response> {
    let page = format!("{PATH}/{webhook}/deliveries/{id}");
    let delivery: Delivery = visit.crm.get(&format!("/webhooks/{webhook}/deliveries/{id}")).await?;
    let title = format!("Delivery of {}", delivery.event_type);
    let actions = html! {
        a.button href=(format!("{PATH}/{webhook}")) { "All deliveries" }
        (button(&visit, &format!("{page}/retry"), "Deliver again"))
    };
    let content = live::region(&format!("{page}/live"), &about(&visit, &delivery));
    Ok(super::page(&visit, PATH, &title, &actions, &content))
}

async fn live(Path((webhook, id)): Ids, visit: Visit) -> Response {
    live::stream(visit, EVERY, move |visit| async move {
        let delivery: Delivery = visit.crm.get(&format!("/webhooks/{webhook}/deliveries/{id}")).await?;
        Ok(about(&visit, &delivery))
    })
}

fn about(visit: &Visit, delivery: &Delivery) -> Markup {
    let zone = visit.zone;
    let number = |number: Option<String>| parts::text_or_dash(number.as_deref());
    html! {
        section {
            (parts::facts([
                ("State", parts::badge(&delivery.state)),
                ("Event", html! { code { (delivery.event_id) } }),
                ("Attempts", html! { (delivery.attempts) }),
                ("Status of the response", number(delivery.status.map(|status| status.to_string()))),
                ("Duration", number(delivery.latency_ms.map(|ms| format!("{ms} ms")))),
                ("Next attempt", time_or_dash(zone, delivery.next_attempt_at)),
                ("Created", time(zone, delivery.created_at)),
                ("Changed", time(zone, delivery.updated_at)),
                ("Delivered", time_or_dash(zone, delivery.delivered_at)),
            ]))
        }
        @if let Some(error) = &delivery.error { (parts::section("Error of the last attempt", &html! { p { (error) } })) }
        @if let Some(response) = &delivery.response {
            (parts::section("Response", &html! { p.quiet { "Its first 1 KiB." } pre { (response) } }))
        }
    }
}

async fn retry(Path((webhook, id)): Ids, Sent { visit, mut fields }: Sent) -> Result<Response> {
    let change = Change::default().once(fields.take_once());
    visit.crm.send(Method::POST, &format!("/webhooks/{webhook}/deliveries/{id}/retry"), change).await?;
    Ok(done(&visit, &format!("{PATH}/{webhook}/deliveries/{id}"), &Notice::of("It is delivered again.")))
}
