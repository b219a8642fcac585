//! Webhooks: list, create, edit, their secrets, and what to do with them.

use axum::Router;
use axum::http::Method;
use axum::response::Response;
use axum::routing::{get, post};
use chrono::{DateTime, Utc};
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use shared::events::EventType;
use uuid::Uuid;

use super::deliveries;
use super::edit::{self, Edit, Saved};
use super::secret::{self, Secret};
use crate::AppState;
use crate::console::crm::{Change, Versioned};
use crate::console::forms::{Draft, Fields, button, confirmed, done, form};
use crate::console::lists::{self, Column, Filter};
use crate::console::notice::Notice;
use crate::console::parts;
use crate::console::refusal::Result;
use crate::console::session::{Id, Sent, Visit};
use crate::console::times::{from_input, time, time_or_dash};

pub(super) const PATH: &str = "/console/settings/webhooks";

/// Everything, as a type of events.
const ALL: &str = "*";

const LABELS: &edit::Labels = &[
    ("url", "URL"),
    ("description", "Description"),
    ("events", "Events"),
    ("single_events", "Single types"),
    ("bulk", "What a job writes"),
    ("ordering", "Order"),
    ("rate_limit", "Most requests per second"),
    ("enabled", "Enabled"),
];

#[derive(Deserialize)]
pub(super) struct Webhook {
    pub id: Uuid,
    pub url: String,
    description: Option<String>,
    events: Vec<String>,
    bulk: String,
    ordering: String,
    rate_limit: Option<u32>,
    pub enabled: bool,
    header_names: Vec<String>,
    failing_since: Option<DateTime<Utc>>,
    disabled_at: Option<DateTime<Utc>>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

const COLUMNS: &[Column<Webhook>] = &[
    Column::new("URL", |_, webhook| html! { a href=(format!("{PATH}/{}", webhook.id)) { (webhook.url) } }),
    Column::new("Description", |_, webhook| parts::text_or_dash(webhook.description.as_deref())),
    Column::new("Events", |_, webhook| events(webhook)),
    Column::new("State", |_, webhook| state(webhook)),
    Column::new("Failing since", |visit, webhook| time_or_dash(visit.zone, webhook.failing_since)),
    Column::<Webhook>::new("Created", |visit, webhook| time(visit.zone, webhook.created_at)).sorted("created_at"),
    Column::<Webhook>::new("Updated", |visit, webhook| time(visit.zone, webhook.updated_at)).on_request(),
];

pub(super) fn routes() -> Router<AppState> {
    Router::new()
        .route("/settings/webhooks", get(list))
        .route("/settings/webhooks/callback-secret", post(callback_secret))
        .route("/settings/webhooks/new", get(new).post(create))
        .route("/settings/webhooks/{id}", get(show))
        .route("/settings/webhooks/{id}/edit", get(edit).post(save))
        .route("/settings/webhooks/{id}/enable", post(enable))
        .route("/settings/webhooks/{id}/ping", post(ping))
        .route("/settings/webhooks/{id}/rotate", post(rotate))
        .route("/settings/webhooks/{id}/replay", post(replay))
        .route("/settings/webhooks/{id}/delete", post(delete))
}

fn state(webhook: &Webhook) -> Markup {
    parts::badge(if webhook.enabled { "enabled" } else { "disabled" })
}

fn events(webhook: &Webhook) -> Markup {
    let (shown, more) = webhook.events.split_at(webhook.events.len().min(4));
    html! {
        @for event in shown { code { (event) } " " }
        @if !more.is_empty() { span.quiet { "and " (more.len()) " more" } }
    }
}

fn filters() -> [Filter; 1] {
    [Filter::choice("enabled", "State", [("true", "Enabled"), ("false", "Disabled")])]
}

async fn list(visit: Visit) -> Result<Response> {
    let listing = lists::read(&visit, "/webhooks", &filters()).await?;
    let empty =
        parts::empty("No webhooks", &html! { "Create one to get the events of the workspace at a URL of yours." });
    let actions = html! {
        a.button.primary href=(format!("{PATH}/new")) { "Create a webhook" }
        (confirmed(&visit, &format!("{PATH}/callback-secret"), "New secret for callbacks", &html! {
            "Creates or rotates the secret that signs requests to the callback URLs of jobs. The secret before signs \
             as well for 24 hours."
        }))
    };
    let content = html! {
        (lists::filters(&visit, &filters(), COLUMNS))
        (lists::table(&visit, "Webhooks", COLUMNS, &listing, &empty))
    };
    Ok(super::page(&visit, PATH, "Webhooks", &actions, &content))
}

/// The types of events that begin alike, such as `lead.*`.
fn families() -> Vec<String> {
    let mut families: Vec<String> = Vec::new();
    for event in EventType::PUBLIC.iter().filter(|event| **event != EventType::Ping) {
        let family = format!("{}.*", event.family());
        if !families.contains(&family) {
            families.push(family);
        }
    }
    families
}

fn inputs(visit: &Visit, draft: &Draft, headers: &[String]) -> Markup {
    let families = families().into_iter().map(|family| {
        let label = parts::words(family.trim_end_matches(".*"));
        (family, label)
    });
    let all = [(ALL.to_owned(), "All events, also types of later versions".to_owned())];
    let headers_now = match headers {
        [] => "None are set.".to_owned(),
        names => format!("Set now: {}. They stay if this is empty, and are replaced as a whole.", names.join(", ")),
    };
    html! {
        (draft.input("url", "URL").kind("url").required().hint("https, with a public address."))
        (draft.input("description", "Description"))
        (draft.input("events", "Events").checks(all.into_iter().chain(families)))
        (draft.input("single_events", "Single types").hint("Such as order.created feedback.answered, separated by spaces."))
        div.fields {
            (draft.input("bulk", "What a job writes").choice([("summary", "Counted by the events of the job"), ("each", "Also an event for each record")]))
            (draft.input("ordering", "Order").choice([("none", "None: many at once"), ("subject", "One after the other for each record")]))
            (draft.input("rate_limit", "Most requests per second").kind("number").hint("Empty: no limit."))
        }
        (draft.input("headers", "Further headers").area(3).hint(format!("One on each line, such as Authorization: Bearer token. They are never shown again. {headers_now}")))
        (draft.input("enabled", "Enabled").flag().hint(format!("While it is not, deliveries wait. Times are in {}.", visit.zone)))
    }
}

async fn new(visit: Visit) -> Result<Response> {
    let values = [("events", Some(ALL.to_owned())), ("enabled", Some("true".to_owned()))];
    Ok(new_page(&visit, &Draft::of(edit::fields(values))))
}

fn new_page(visit: &Visit, draft: &Draft) -> Response {
    let inputs = html! { (inputs(visit, draft, &[])) button.primary type="submit" { "Create the webhook" } };
    let content = html! { (draft.problems()) (form(visit, &format!("{PATH}/new"), &inputs)) };
    super::page_with(draft.status(), visit, PATH, "Create a webhook", &html! {}, &content)
}

#[derive(Deserialize)]
struct WithSecret {
    id: Uuid,
    secret: Option<String>,
}

async fn create(Sent { visit, mut fields }: Sent) -> Result<Response> {
    let once = fields.take_once();
    match visit.crm.send(Method::POST, "/webhooks", Change::with(body(&fields)).once(once)).await {
        Ok(created) => reveal(&visit, "Webhook created", created),
        Err(refusal) => Ok(new_page(&visit, &Draft::refused(fields, refusal)?)),
    }
}

fn reveal(visit: &Visit, title: &str, answer: Value) -> Result<Response> {
    let WithSecret { id, secret: value } = serde_json::from_value(answer).map_err(super::unexpected)?;
    let about = html! { "The receiver checks the signature of each request with it." };
    Ok(secret::page(visit, PATH, title, Secret { label: "Secret", value, about, next: format!("{PATH}/{id}") }))
}

async fn callback_secret(Sent { visit, mut fields }: Sent) -> Result<Response> {
    let change = Change::default().once(fields.take_once());
    let answer = visit.crm.send(Method::POST, "/webhooks/callback-secret", change).await?;
    let value = answer.get("secret").and_then(Value::as_str).map(str::to_owned);
    let about = html! { "Whoever receives the callbacks of jobs checks their signatures with it." };
    let secret = Secret { label: "Secret for callbacks", value, about, next: PATH.to_owned() };
    Ok(secret::page(&visit, PATH, "Secret for callbacks", secret))
}

fn body(fields: &Fields) -> Value {
    let mut body = fields.object(&["url", "description", "bulk", "ordering"]);
    let single = fields.get("single_events").split_whitespace();
    let events: Vec<&str> = fields.all("events").filter(|event| !event.is_empty()).chain(single).collect();
    body.insert("events".to_owned(), json!(events));
    body.insert("rate_limit".to_owned(), fields.number("rate_limit"));
    body.insert("enabled".to_owned(), json!(fields.get("enabled") == "true"));
    if fields.has("headers") {
        let lines = fields.get("headers").lines().filter(|line| !line.trim().is_empty());
        let pairs = lines.map(|line| line.split_once(':').unwrap_or((line, "")));
        let headers: Map<String, Value> =
            pairs.map(|(name, value)| (name.trim().to_owned(), value.trim().into())).collect();
        body.insert("headers".to_owned(), headers.into());
    }
    body.into()
}

fn values(webhook: &Webhook) -> Fields {
    let known = families();
    let (families, single): (Vec<&String>, Vec<&String>) =
        webhook.events.iter().partition(|event| known.contains(event) || event.as_str() == ALL);
    let single: Vec<&str> = single.into_iter().map(String::as_str).collect();
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let mut pairs = vec![
        pair("url", &webhook.url),
        pair("description", webhook.description.as_deref().unwrap_or_default()),
        pair("single_events", &single.join(" ")),
        pair("bulk", &webhook.bulk),
        pair("ordering", &webhook.ordering),
        pair("rate_limit", &webhook.rate_limit.map(|limit| limit.to_string()).unwrap_or_default()),
    ];
    pairs.extend(families.into_iter().map(|family| pair("events", family)));
    pairs.extend(webhook.enabled.then(|| pair("enabled", "true")));
    Fields::new(pairs)
}

async fn edit(Id(id): Id, visit: Visit) -> Result<Response> {
    let stored: Versioned<Webhook> = visit.crm.record(&format!("/webhooks/{id}")).await?;
    Ok(edit_page(&visit, &stored.record, &Edit::of(&stored, values)))
}

async fn save(Id(id): Id, Sent { visit, fields }: Sent) -> Result<Response> {
    let path = format!("/webhooks/{id}");
    match Edit::save(&visit, (&path, ""), fields, LABELS, body, values).await? {
        Saved::Done => Ok(done(&visit, &format!("{PATH}/{id}"), &Notice::of("The webhook was saved."))),
        Saved::Refused(edit) => Ok(edit_page(&visit, &visit.crm.get(&path).await?, &edit)),
    }
}

fn edit_page(visit: &Visit, webhook: &Webhook, edit: &Edit) -> Response {
    let inputs = inputs(visit, &edit.draft, &webhook.header_names);
    let action = format!("{PATH}/{}/edit", webhook.id);
    let content = html! { (edit.problems()) (edit.form(visit, &action, &inputs)) };
    super::page_with(edit.draft.status(), visit, PATH, "Edit a webhook", &html! {}, &content)
}

async fn show(Id(id): Id, visit: Visit) -> Result<Response> {
    page(&visit, id, &Draft::of(Fields::default())).await
}

async fn page(visit: &Visit, id: Uuid, draft: &Draft) -> Result<Response> {
    let path = format!("/webhooks/{id}");
    let (webhook, deliveries) = tokio::try_join!(visit.crm.get::<Webhook>(&path), deliveries::read(visit, id))?;
    let page = format!("{PATH}/{id}");
    let actions = html! {
        @if webhook.enabled { (button(visit, &format!("{page}/ping"), "Send a ping")) }
        @else { (button(visit, &format!("{page}/enable"), "Enable")) }
        a.button href=(format!("{page}/edit")) { "Edit" }
        (confirmed(visit, &format!("{page}/rotate"), "Rotate the secret", &html! {
            "Creates a new secret, which is shown once. Requests are signed with both for 24 hours."
        }))
        (confirmed(visit, &format!("{page}/delete"), "Delete", &html! {
            "Nothing more is delivered to it, and its deliveries are deleted. This cannot be undone: create another \
             webhook, and replay what it missed."
        }))
    };
    let content = html! {
        (draft.problems())
        section { (facts(visit, &webhook)) }
        (parts::section("Deliveries", &deliveries::list(visit, &deliveries)))
        (parts::section("Replay", &replay_form(visit, &page, draft)))
    };
    Ok(super::page_with(draft.status(), visit, PATH, &webhook.url, &actions, &content))
}

fn facts(visit: &Visit, webhook: &Webhook) -> Markup {
    let headers = webhook.header_names.join(", ");
    parts::facts([
        ("State", state(webhook)),
        ("Description", parts::text_or_dash(webhook.description.as_deref())),
        ("Events", html! { @for event in &webhook.events { code { (event) } " " } }),
        ("What a job writes", html! { (parts::words(&webhook.bulk)) }),
        ("Order", html! { (parts::words(&webhook.ordering)) }),
        ("Most requests per second", parts::text_or_dash(webhook.rate_limit.map(|it| it.to_string()).as_deref())),
        ("Further headers", parts::text_or_dash(Some(&headers))),
        ("Failing since", time_or_dash(visit.zone, webhook.failing_since)),
        ("Disabled because it failed", time_or_dash(visit.zone, webhook.disabled_at)),
        ("Created", time(visit.zone, webhook.created_at)),
    ])
}

fn replay_form(visit: &Visit, page: &str, draft: &Draft) -> Markup {
    html! {
        p { "Delivers the events of a time again, with the same ids and bodies. Events are kept for 30 days." }
        (form(visit, &format!("{page}/replay"), &html! {
            div.fields {
                (draft.input("since", "From").kind("datetime-local").required().hint(format!("In {}.", visit.zone)))
                (draft.input("until", "Until").kind("datetime-local").hint("Empty: now."))
            }
            (draft.input("failed_only", "Only deliveries that failed").flag())
            button type="submit" { "Replay" }
        }))
    }
}

async fn replay(Id(id): Id, Sent { visit, mut fields }: Sent) -> Result<Response> {
    let once = fields.take_once();
    let mut body = Map::new();
    for name in ["since", "until"].into_iter().filter(|name| fields.has(name)) {
        body.insert(name.to_owned(), from_input(visit.zone, fields.get(name)));
    }
    body.insert("failed_only".to_owned(), json!(fields.get("failed_only") == "true"));
    let change = Change::with(body.into()).once(once);
    match visit.crm.send(Method::POST, &format!("/webhooks/{id}/replay"), change).await {
        Ok(job) => {
            let job = job.get("id").and_then(Value::as_str).unwrap_or_default();
            let notice = Notice::of("The events are delivered again.");
            Ok(done(&visit, &format!("/console/jobs/{job}"), &notice))
        }
        Err(refusal) => page(&visit, id, &Draft::refused(fields, refusal)?).await,
    }
}

async fn enable(Id(id): Id, Sent { visit, .. }: Sent) -> Result<Response> {
    let change = Change::with(json!({ "enabled": true }));
    visit.crm.send(Method::PATCH, &format!("/webhooks/{id}"), change).await?;
    Ok(done(&visit, &format!("{PATH}/{id}"), &Notice::of("The webhook is enabled. Its deliveries continue.")))
}

async fn ping(Id(id): Id, Sent { visit, mut fields }: Sent) -> Result<Response> {
    let change = Change::default().once(fields.take_once());
    let delivery = visit.crm.send(Method::POST, &format!("/webhooks/{id}/test"), change).await?;
    let delivery = delivery.get("id").and_then(Value::as_str).unwrap_or_default();
    Ok(done(&visit, &format!("{PATH}/{id}/deliveries/{delivery}"), &Notice::of("The ping is on its way.")))
}

async fn rotate(Id(id): Id, Sent { visit, mut fields }: Sent) -> Result<Response> {
    let change = Change::default().once(fields.take_once());
    let rotated = visit.crm.send(Method::POST, &format!("/webhooks/{id}/rotate-secret"), change).await?;
    reveal(&visit, "Secret rotated", rotated)
}

async fn delete(Id(id): Id, Sent { visit, .. }: Sent) -> Result<Response> {
    visit.crm.send(Method::DELETE, &format!("/webhooks/{id}"), Change::default()).await?;
    Ok(done(&visit, PATH, &Notice::of("The webhook was deleted.")))
}
