//! The result of a job: counts as facts, lists as tables, the rest as JSON.

use chrono::{DateTime, Utc};
use maud::{Markup, html};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::job::{Job, page_of, title};
use crate::console::parts::{self, badge, words};
use crate::console::session::Visit;
use crate::console::times;

/// The most entries of a list that a page shows.
const MOST: usize = 50;

/// The result of a job.
pub(crate) fn show(visit: &Visit, job: &Job) -> Markup {
    let Some(result) = job.result.as_ref().and_then(Value::as_object) else { return html! {} };
    let hides_preview = job.is_dry_run() && result.get("preview").is_some_and(Value::is_null);
    let single = result.iter().filter(|(_, value)| !value.is_object() && !value.is_array());
    let single = single.filter(|(name, _)| !matches!(name.as_str(), "dry_run" | "preview"));
    let (counts, parameters): (Vec<_>, Vec<_>) =
        single.partition(|(name, value)| value.is_number() && name.as_str() != "header_row");
    html! {
        (facts(&counts))
        @for (name, value) in result {
            @match value {
                Value::Object(parts) if !parts.is_empty() => (object(&words(name), parts)),
                Value::Array(items) if !items.is_empty() => (list(visit, &words(name), items)),
                _ => {},
            }
        }
        @if !parameters.is_empty() { h3 { "Parameters" } (facts(&parameters)) }
        @if hides_preview { p.quiet { "Whom it concerns is shown to keys with the scope records:read." } }
    }
}

fn facts(values: &[(&String, &Value)]) -> Markup {
    let named: Vec<(String, Markup)> = values.iter().map(|(name, value)| (words(name), fact(value))).collect();
    parts::facts(named.iter().map(|(name, value)| (name.as_str(), value.clone())))
}

fn fact(value: &Value) -> Markup {
    match value {
        Value::Number(number) => html! { (parts::grouped(&number.to_string())) },
        other => parts::value(other),
    }
}

/// Counts that belong together, without those that are zero; or JSON.
fn object(name: &str, object: &Map<String, Value>) -> Markup {
    let is_counted = object.values().all(Value::is_number);
    let counts: Vec<(String, Markup)> = object
        .iter()
        .filter(|(_, value)| value.as_u64() != Some(0))
        .map(|(name, value)| (words(name), fact(value)))
        .collect();
    html! {
        @if let Some(rows) = counted_values(object) {
            h3 { (name) }
            (parts::table(name, &["Column", "Value", "Rows"], &rows))
        } @else if object.values().all(|value| value.is_string() || value.is_null()) {
            details.fold { summary { (name) } (parts::table(name, &["Name", "Value"], &texts(object))) }
        } @else if !is_counted {
            details.fold { summary { (name) } (json(&Value::Object(object.clone()))) }
        } @else if !counts.is_empty() {
            h3 { (name) }
            (parts::facts(counts.iter().map(|(name, value)| (name.as_str(), value.clone()))))
        }
    }
}

/// The most frequent values of each name, if the object has counts of values.
fn counted_values(object: &Map<String, Value>) -> Option<Vec<Vec<Markup>>> {
    let all: Option<Vec<_>> = object.iter().map(|(name, values)| Some((name, values.as_object()?))).collect();
    let values =
        all?.into_iter().flat_map(|(name, values)| values.iter().map(move |(value, count)| (name, value, count)));
    let row = |(name, value, count): (&String, &String, &Value)| vec![html! { (name) }, html! { (value) }, fact(count)];
    Some(values.take(MOST).map(row).collect())
}

fn texts(object: &Map<String, Value>) -> Vec<Vec<Markup>> {
    object.iter().map(|(name, value)| vec![html! { (name) }, parts::value(value)]).collect()
}

/// A list of objects as a table, with the fields of the first one as columns.
fn list(visit: &Visit, name: &str, items: &[Value]) -> Markup {
    let Some(first) = items[0].as_object() else { return json(&Value::Array(items.to_vec())) };
    let fields: Vec<&str> = first.keys().map(String::as_str).collect();
    let person = person(&fields);
    let is_shown = |field: &&str| *field != "result" && Some(*field) != person;
    // Who it is about comes first.
    let mut fields: Vec<&str> = fields.iter().copied().filter(is_shown).collect();
    fields.sort_by_key(|field| *field != "email");
    let heads: Vec<String> = fields.iter().map(|field| words(field.trim_end_matches("_id"))).collect();
    let heads: Vec<&str> = heads.iter().map(String::as_str).collect();
    let cell_of = |item: &Value, field: &str| match person.filter(|_| field == "email") {
        Some(person) => about(person, &item[person], &item[field]),
        None => cell(visit, field, &item[field]),
    };
    let row = |item: &Value| fields.iter().map(|field| cell_of(item, field)).collect();
    let rows: Vec<Vec<Markup>> = items.iter().take(MOST).map(row).collect();
    html! {
        h3 { (name) }
        (parts::table(name, &heads, &rows))
        @if items.len() > MOST {
            p.quiet { "The first " (MOST) " of " (parts::count(items.len() as u64)) "." }
        }
    }
}

/// The field with the id of the person whose address the items have.
fn person<'a>(fields: &[&'a str]) -> Option<&'a str> {
    let is_person = |field: &&&str| matches!(**field, "lead_id" | "customer_id");
    fields.iter().find(is_person).filter(|_| fields.contains(&"email")).copied()
}

fn about(person: &str, id: &Value, email: &Value) -> Markup {
    let page = page_of(person.trim_end_matches("_id"), id.as_str().unwrap_or_default());
    html! { @if let Some(page) = page { a href=(page) { (parts::value(email)) } } @else { (parts::value(email)) } }
}

fn cell(visit: &Visit, field: &str, value: &Value) -> Markup {
    let Some(text) = value.as_str() else { return parts::value(value) };
    let page = field.strip_suffix("_id").and_then(|kind| page_of(kind, text));
    match field {
        "at" | "retry_at" => match text.parse::<DateTime<Utc>>() {
            Ok(at) => times::time(visit.zone, at),
            Err(_) => html! { (text) },
        },
        "status" | "would" => badge(text),
        "kind" => html! { (title(text)) },
        "reason" => html! { (words(text)) },
        _ if Uuid::try_parse(text).is_ok() => {
            let short = html! { code title=(text) { "…" (text.get(text.len() - 8..).unwrap_or(text)) } };
            html! { @if let Some(page) = page { a href=(page) { (short) } } @else { (short) } }
        }
        _ => html! { (text) },
    }
}

/// A value as it is.
fn json(value: &Value) -> Markup {
    html! { pre tabindex="0" { (serde_json::to_string_pretty(value).unwrap_or_default()) } }
}
