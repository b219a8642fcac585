//! The audit log: who did what, and when.

use axum::Router;
use axum::response::Response;
use axum::routing::get;
use chrono::{DateTime, Utc};
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::{Map, Value};
use shared::events::{EventType, SubjectType};
use uuid::Uuid;

use super::sessions::{key_ids, key_names};
use crate::AppState;
use crate::console::links::link;
use crate::console::lists::{self, Column, Filter};
use crate::console::parts;
use crate::console::refusal::Result;
use crate::console::session::Visit;
use crate::console::times::time;

pub(super) const PATH: &str = "/console/settings/audit";

const ACTORS: [&str; 9] =
    ["api_key", "session", "job", "customer", "operator", "import", "conversion", "schedule", "worker"];

#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "type")]
    event: String,
    created_at: DateTime<Utc>,
    actor: Actor,
    subject: Subject,
    request_id: Option<String>,
    changes: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
struct Actor {
    #[serde(rename = "type")]
    kind: String,
    id: Option<Uuid>,
    #[serde(skip)]
    name: Option<String>,
}

#[derive(Deserialize)]
struct Subject {
    #[serde(rename = "type")]
    kind: String,
    id: Uuid,
}

const COLUMNS: &[Column<Entry>] = &[
    Column::<Entry>::new("When", |visit, entry| time(visit.zone, entry.created_at)).sorted("created_at"),
    Column::new("What", |_, entry| html! { (entry.event) }),
    Column::new("Who", |visit, entry| actor(visit, &entry.actor)),
    Column::new("To what", |visit, entry| subject(visit, &entry.subject)),
    Column::new("Changes", |_, entry| changes(entry.changes.as_ref())),
    Column::new("Request", |_, entry| parts::text_or_dash(entry.request_id.as_deref())),
];

pub(super) fn routes() -> Router<AppState> {
    Router::new().route("/settings/audit", get(list))
}

fn filters() -> [Filter; 8] {
    let types = EventType::WORDS.iter().map(|word| (*word, *word));
    let subjects = SubjectType::WORDS.iter().map(|word| (*word, parts::words(word)));
    [
        Filter::choice("type", "What", types),
        Filter::choice("actor.type", "Kind of actor", ACTORS.map(|kind| (kind, parts::words(kind)))),
        Filter::input("actor.id", "Id of the actor", "text"),
        Filter::choice("subject.type", "Kind of subject", subjects),
        Filter::input("subject.id", "Id of the subject", "text"),
        Filter::input("created_at[gte]", "From", "date"),
        Filter::input("created_at[lt]", "Before", "date"),
        Filter::input("request_id", "Request", "text"),
    ]
}

async fn list(visit: Visit) -> Result<Response> {
    let path = lists::api_path(&visit, "/audit", &filters());
    // Dates are days of the workspace.
    let path = link(&path, [("tz", visit.zone.name())]);
    let (mut listing, mut names, sessions) =
        tokio::try_join!(visit.crm.list::<Entry>(&path), key_names(&visit), key_ids(&visit))?;
    let of_keys = sessions.into_iter().filter_map(|(id, key_id)| Some((id, names.get(&key_id)?.clone())));
    names.extend(of_keys.collect::<Vec<_>>());
    for entry in &mut listing.items {
        entry.actor.name = entry.actor.id.and_then(|id| names.get(&id).cloned());
    }
    let empty = parts::empty("No entries", &html! { "Nothing matches. Entries are kept for 400 days." });
    let content = html! {
        (lists::filters(&visit, &filters(), COLUMNS))
        (lists::table(&visit, "Audit log", COLUMNS, &listing, &empty))
    };
    Ok(super::page(&visit, PATH, "Audit log", &html! {}, &content))
}

fn actor(visit: &Visit, actor: &Actor) -> Markup {
    let Some(id) = actor.id else { return html! { (parts::words(&actor.kind)) } };
    match (page_of(visit, &actor.kind, id), actor.name.as_deref()) {
        (Some(path), Some(name)) => html! { a href=(path) { (name) } },
        (None, Some(name)) => html! { (name) " " span.quiet { "(" (parts::words(&actor.kind).to_lowercase()) ")" } },
        (path, None) => linked(path, &actor.kind, id),
    }
}

fn subject(visit: &Visit, subject: &Subject) -> Markup {
    linked(page_of(visit, &subject.kind, subject.id), &subject.kind, subject.id)
}

fn linked(path: Option<String>, kind: &str, id: Uuid) -> Markup {
    let text = id.to_string();
    // The last characters of an id differ most.
    let short = html! { (parts::words(kind)) " " code title=(text) { "…" (&text[text.len() - 8..]) } };
    match path {
        Some(path) => html! { a href=(path) { (short) } },
        None => short,
    }
}

/// The page of an actor or a subject that the key may see.
fn page_of(visit: &Visit, kind: &str, id: Uuid) -> Option<String> {
    use shared::accounts::scopes::Scope;
    let (place, scope) = match kind {
        "lead" => ("/console/leads", Scope::RecordsRead),
        "customer" => ("/console/customers", Scope::RecordsRead),
        "order" => ("/console/orders", Scope::RecordsRead),
        "feedback" => ("/console/feedback", Scope::RecordsRead),
        "email" => ("/console/emails", Scope::EmailsRead),
        "user" => (super::users::PATH, Scope::Settings),
        "api_key" => (super::keys::PATH, Scope::Keys),
        "webhook" => (super::webhooks::PATH, Scope::Webhooks),
        "schedule" => (super::schedules::PATH, Scope::Workflows),
        "job" | "import" => ("/console/jobs", Scope::Workflows),
        _ => return None,
    };
    visit.may(scope).then(|| format!("{place}/{id}"))
}

fn changes(changes: Option<&Map<String, Value>>) -> Markup {
    let Some(changes) = changes.filter(|changes| !changes.is_empty()) else { return parts::text_or_dash(None) };
    let of = |change: &Value, side: &str| parts::value(change.get(side).unwrap_or(&Value::Null));
    html! {
        @for (field, change) in changes {
            div { (parts::words(field)) ": " (of(change, "from")) " → " (of(change, "to")) }
        }
    }
}
