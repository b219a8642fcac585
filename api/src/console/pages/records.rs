//! What the pages of leads, customers and orders have in common: lists, forms, conflicts, deletion and timelines.
//!
//! All of it follows from the declaration of the kind of record, as the API does: a new field has a filter, a column,
//! an input and its changes in the timeline without a line here.

mod actors;
mod conditions;
mod custom;
pub(crate) mod deleted;
mod edit;
pub(crate) mod fields;
pub(crate) mod interactions;
mod list;
pub(crate) mod people;
pub(crate) mod timeline;

use axum::Router;
use axum::routing::{get, post};
use maud::{Markup, html};
use serde_json::{Map, Value};
use shared::records::Record;
use shared::values::kind::Kind;
use uuid::Uuid;

pub(crate) use edit::{Form, entered};
pub(crate) use interactions::Met;

use crate::AppState;
use crate::console::CONSOLE;
use crate::console::refusal::Refusal;
use crate::console::session::Visit;
use fields::{Field, all, label, shown};
use people::People;

/// A record as the API returns it.
pub(crate) type Json = Map<String, Value>;

/// A kind of record with pages of its own.
pub(crate) trait Noun: Record {
    /// The path of its list, in the API and in the console.
    const PATH: &'static str;
    /// One of them.
    const ONE: &'static str;
    /// Several of them.
    const MANY: &'static str;
    /// The fields that make its title.
    const TITLED_BY: &'static [&'static str];
    /// The heading of the column with the title, and what sorts by it.
    const TITLE: (&'static str, Option<&'static str>);
    /// The columns that are shown unless others are chosen.
    const SHOWN: &'static [&'static str];
    /// The filters that are shown at first sight.
    const FILTERED_BY: &'static [&'static str];
    /// What deleting one does.
    const DELETION: &'static str;

    /// What a record is called.
    fn title(record: &Json) -> String;
}

/// The routes that all kinds have; the page of one record is their own.
pub(crate) fn routes<R: Noun>() -> Router<AppState> {
    let path = |rest: &str| format!("{}{rest}", R::PATH);
    Router::new()
        .route(R::PATH, get(list::show::<R>).post(edit::create::<R>))
        .route(&path("/export"), get(list::export::<R>))
        .route(&path("/deleted"), get(deleted::list::<R>))
        .route(&path("/new"), get(edit::new::<R>))
        .route(&path("/{id}/edit"), get(edit::edit::<R>).post(edit::save::<R>))
        .route(&path("/{id}/delete"), post(deleted::delete::<R>))
        .route(&path("/{id}/restore"), post(deleted::restore::<R>))
        .route(&path("/{id}/changes"), get(timeline::changes::<R>))
}

/// The page of a record.
pub(crate) fn page_of<R: Noun>(id: impl std::fmt::Display) -> String {
    format!("{CONSOLE}{}/{id}", R::PATH)
}

/// The path of a record in the API.
pub(crate) fn api_of<R: Noun>(id: Uuid) -> String {
    format!("{}/{id}", R::PATH)
}

/// The fields of a record that have a value, except `left_out`: what is short first, then texts, then what identifies it.
pub(crate) fn facts<R: Record>(visit: &Visit, people: &People, record: &Json, left_out: &[&str]) -> Markup {
    let given = |field: &Field| record.get(field.name).is_some_and(|value| !is_empty(value));
    let is_listed = |field: &Field| !META.contains(&field.name) && !left_out.contains(&field.name) && given(field);
    let fields: Vec<Field> = all::<R>().into_iter().filter(is_listed).collect();
    let (long, short): (Vec<&Field>, Vec<&Field>) = fields.iter().partition(|field| field.is_long());
    let fact = |field: &Field| {
        let value = record.get(field.name).unwrap_or(&Value::Null);
        html! { div { dt { (label(field.name)) } dd.lines { (shown(visit, people, field.name, field.kind, value)) } } }
    };
    let time = |name: &str| shown(visit, people, name, Kind::Time, record.get(name).unwrap_or(&Value::Null));
    html! {
        dl.facts { @for field in short { (fact(field)) } }
        @if !long.is_empty() { dl.facts { @for field in long { (fact(field)) } } }
        p.meta {
            "Created " (time("created_at")) " · Updated " (time("updated_at")) " · ID "
            code { (record.get("id").and_then(Value::as_str).unwrap_or_default()) }
        }
    }
}

/// What every record has.
const META: [&str; 3] = ["id", "created_at", "updated_at"];

fn is_empty(value: &Value) -> bool {
    value.is_null() || value.as_object().is_some_and(Map::is_empty)
}

/// Why something could not be done, with links to what is in the way.
pub(crate) fn reasons(refusal: &Refusal) -> Markup {
    html! {
        div.problems role="alert" {
            p { (refusal.message) }
            @if !refusal.errors.is_empty() {
                ul {
                    @for fault in &refusal.errors {
                        li {
                            (label(&fault.field)) ": " (fault.message)
                            @if let Some(path) = in_the_way(&fault.field, &fault.code, fault.id.as_deref()) {
                                " " a href=(path) { "Show it" }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The page of the record with which a field conflicts, where its kind is known.
fn in_the_way(field: &str, code: &str, id: Option<&str>) -> Option<String> {
    let id = id?;
    let place = match (field, code) {
        (_, "open_request" | "already_answered") => "feedback",
        (_, "already_converted" | "blocked") | ("customer_id", _) => "customers",
        ("lead_id", _) => "leads",
        (_, "suppressed") => return Some(format!("{CONSOLE}/suppressions")),
        _ => return None,
    };
    Some(format!("{CONSOLE}/{place}/{id}"))
}
