//! What happened to a record, newest first: its changes, merged with what hangs on it.

use std::collections::{BTreeMap, BTreeSet};

use axum::response::Response;
use chrono::{DateTime, Utc};
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::Value;
use shared::records::Record;
use shared::values::kind::Kind;

use super::actors::{Actor, Actors};
use super::fields::{clipped_value, label, shown};
use super::people::People;
use super::{Json, Noun, api_of, custom, page_of};
use crate::console::crm::Listing;
use crate::console::layout::page;
use crate::console::links::link;
use crate::console::lists::{CURSOR, pages};
use crate::console::parts::{self, badge, clipped, text_or_dash, words};
use crate::console::refusal::Result;
use crate::console::session::{Id, Visit};
use crate::console::times;

/// What is read of each list.
pub(crate) const MOST: usize = 40;
/// The most bytes of a timeline; what is older is left out.
const MAX_BYTES: usize = 48 * 1024;
/// The characters of a text, and of a value before or after a change.
const TEXT: usize = 600;
const VALUE: usize = 160;

/// Something that happened.
pub(crate) struct Entry {
    pub at: DateTime<Utc>,
    pub content: Markup,
}

/// A part of what happened, newest first.
pub(crate) struct Source {
    entries: Vec<Entry>,
    /// Whether nothing older was left out.
    is_whole: bool,
}

impl Source {
    /// The items of a list.
    pub fn of<T>(listing: &Listing<T>, entry: impl Fn(&T) -> Entry) -> Self {
        Self { entries: listing.items.iter().map(entry).collect(), is_whole: listing.next.is_none() }
    }
}

/// The timeline of several sources. It ends where one of them goes on, so that nothing in between is missing.
pub(crate) fn merged(sources: Vec<Source>, older: &Markup) -> Markup {
    let ends = sources.iter().filter(|source| !source.is_whole);
    let end = ends.filter_map(|source| source.entries.iter().map(|entry| entry.at).min()).max();
    let mut entries: Vec<Entry> = sources.into_iter().flat_map(|source| source.entries).collect();
    entries.sort_by_key(|entry| std::cmp::Reverse(entry.at));
    let all = entries.len();
    entries.retain(|entry| end.is_none_or(|end| entry.at >= end));
    let mut bytes = 0;
    let fits = |entry: &Entry| {
        bytes += entry.content.0.len();
        bytes <= MAX_BYTES
    };
    let shown: Vec<Entry> = entries.into_iter().take_while(fits).collect();
    let is_whole = end.is_none() && shown.len() == all;
    html! {
        @if shown.is_empty() { p.quiet { "Nothing has happened yet." } }
        ol.timeline { @for entry in &shown { li { (entry.content) } } }
        @if !is_whole { p.quiet { "What is older is not shown here. " (older) } }
    }
}

/// The line and the text of an entry.
pub(crate) fn entry(visit: &Visit, at: DateTime<Utc>, line: &Markup, text: &Markup) -> Entry {
    let content = html! { div.line { (line) " " span.quiet { (times::time(visit.zone, at)) } } (text) };
    Entry { at, content }
}

/// A paragraph, if there is a text.
pub(crate) fn paragraph(text: Option<&str>) -> Markup {
    html! { @if let Some(text) = text.filter(|text| !text.is_empty()) { p { (clipped(text, TEXT)) } } }
}

/// A change of a record.
#[derive(Deserialize)]
pub(crate) struct Change {
    action: String,
    created_at: DateTime<Utc>,
    actor: Option<Actor>,
    changes: BTreeMap<String, FromTo>,
}

#[derive(Deserialize)]
struct FromTo {
    from: Value,
    to: Value,
}

/// The path of the latest changes of a record.
pub(crate) fn changes_path<R: Noun>(id: uuid::Uuid) -> String {
    format!("{}/history?limit={MOST}", api_of::<R>(id))
}

/// The changes of a record as a part of its timeline.
pub(crate) async fn changes_of<R: Record>(visit: &Visit, people: &People, listing: &Listing<Change>) -> Source {
    let actors = Actors::of(visit, listing.items.iter().filter_map(|change| change.actor.as_ref())).await;
    Source::of(listing, |change| change_entry::<R>(visit, people, &actors, change))
}

fn change_entry<R: Record>(visit: &Visit, people: &People, actors: &Actors, change: &Change) -> Entry {
    let line = html! { strong { (words(&change.action)) } " by " (actors.shown(visit, change.actor.as_ref())) };
    // The fields of a record that was deleted are what it was, and no changes.
    let has_changes = change.action == "updated";
    let fields = html! {
        @if has_changes && !change.changes.is_empty() {
            ul.changes { @for (name, values) in &change.changes { (field::<R>(visit, people, name, values)) } }
        }
    };
    entry(visit, change.created_at, &line, &fields)
}

fn field<R: Record>(visit: &Visit, people: &People, name: &str, FromTo { from, to }: &FromTo) -> Markup {
    let kind = R::FIELDS.iter().find(|field| field.name == name).map_or(Kind::Text, |field| field.kind);
    let value = |value: &Value| shown(visit, people, name, kind, &clipped_value(value, VALUE));
    match (kind, from, to) {
        (Kind::Json, Value::Object(from), Value::Object(to)) => custom_fields(from, to),
        _ => html! { li { (change_of(&label(name), &value(from), &value(to))) } },
    }
}

fn change_of(name: &str, from: &Markup, to: &Markup) -> Markup {
    html! {
        span.quiet { (name) ":" } " " (from) span.hidden { " to " } span.quiet aria-hidden="true" { " → " } (to)
    }
}

/// The custom fields that changed, one by one.
fn custom_fields(from: &Json, to: &Json) -> Markup {
    let names: BTreeSet<&String> = from.keys().chain(to.keys()).collect();
    let value = |of: &Json, name: &str| {
        let text = of.get(name).map(|value| clipped(&custom::text_of(value), VALUE));
        text_or_dash(text.as_deref())
    };
    html! {
        @for name in names.into_iter().filter(|name| from.get(*name) != to.get(*name)) {
            li { (change_of(&clipped(name, VALUE), &value(from, name), &value(to, name))) }
        }
    }
}

/// The page with all changes of a record, also of a deleted one.
pub(super) async fn changes<R: Noun>(visit: Visit, Id(id): Id) -> Result<Response> {
    let path = link(&changes_path::<R>(id), visit.parameter(CURSOR).map(|cursor| (CURSOR, cursor)));
    let (listing, people) = tokio::try_join!(visit.crm.list::<Change>(&path), People::users(&visit))?;
    let source = changes_of::<R>(&visit, &people, &listing).await;
    let whole = Source { is_whole: true, ..source };
    let title = format!("Changes of a {}", R::ONE);
    let content = html! {
        (parts::head(&title, &html! { a.button href=(page_of::<R>(id)) { "Back to the " (R::ONE) } }))
        (merged(vec![whole], &html! {}))
        (pages(&visit, &listing))
    };
    Ok(page(&visit, &title, &content))
}

/// An email to somebody.
#[derive(Deserialize)]
pub(crate) struct Email {
    pub id: String,
    state: String,
    subject: String,
    created_at: DateTime<Utc>,
}

/// The emails to an address, as far as the key may read them.
pub(crate) async fn emails_to(visit: &Visit, address: &str) -> Result<Listing<Email>> {
    if !visit.may(shared::accounts::scopes::Scope::EmailsRead) {
        return Ok(Listing { items: Vec::new(), total: None, next: None });
    }
    visit.crm.list(&link("/emails", [("to_email", address), ("limit", &MOST.to_string())])).await
}

/// The entry of an email.
pub(crate) fn email_entry(visit: &Visit, email: &Email) -> Entry {
    let line = html! {
        strong { "Email" } " " a href={ "/console/emails/" (email.id) } { (clipped(&email.subject, 120)) } " " (badge(&email.state))
    };
    entry(visit, email.created_at, &line, &html! {})
}

/// The name of a value and the value, in one line.
pub(crate) fn said(name: &str, value: Option<&str>) -> Markup {
    html! { @if value.is_some() { p { span.quiet { (name) ": " } (text_or_dash(value)) } } }
}
