//! The health of a customer, with the parts of its score and the facts that they follow from.

use chrono::{DateTime, NaiveDate, Utc};
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::{Map, Number, Value};

use crate::console::parts::{self, badge, percent, words};
use crate::console::session::Visit;
use crate::console::times;

/// The health of a customer.
#[derive(Deserialize)]
pub(super) struct Health {
    score: Option<u8>,
    band: Option<String>,
    coverage: f64,
    parts: Vec<Part>,
    trend: Trend,
}

#[derive(Deserialize)]
struct Part {
    name: String,
    points: Option<Number>,
    maximum: u32,
    facts: Map<String, Value>,
}

#[derive(Deserialize)]
struct Trend {
    since: Option<NaiveDate>,
    change: Option<i32>,
}

/// The section with the score, its trend and its parts.
pub(super) fn section(visit: &Visit, health: &Health) -> Markup {
    let content = html! {
        @match health.score {
            Some(score) => (summary(health, score)),
            None => p.quiet { "There is no score yet: it is computed from orders, interactions and feedback." },
        }
        details.more {
            summary { "How the score is made" }
            p.quiet { "The score is the points of the parts with data, as a percentage of their maxima." }
            (table(visit, &health.parts))
        }
    };
    parts::section("Health", &content)
}

fn summary(health: &Health, score: u8) -> Markup {
    html! {
        p {
            strong { (score) " of 100" } " "
            @match &health.band {
                Some(band) => (badge(band)),
                None => span.quiet { "too little is known for a band" },
            }
            span.quiet { ", with data for " (percent(health.coverage)) " of it" }
            @if let (Some(change), Some(since)) = (health.trend.change, health.trend.since) {
                span.quiet { ", " (signed(change)) " since " (since.format("%-d %b %Y")) }
            }
        }
    }
}

fn signed(change: i32) -> String {
    match change {
        0 => "unchanged".to_owned(),
        1.. => format!("+{change}"),
        ..0 => format!("−{}", change.unsigned_abs()),
    }
}

fn table(visit: &Visit, parts: &[Part]) -> Markup {
    let rows: Vec<Vec<Markup>> = parts.iter().map(|part| row(visit, part)).collect();
    parts::table("Parts of the health score", &["Part", "Points", "Facts"], &rows)
}

fn row(visit: &Visit, part: &Part) -> Vec<Markup> {
    let points = html! {
        @match &part.points {
            Some(points) => { (points) " of " (part.maximum) },
            None => span.quiet { "no data" },
        }
    };
    let facts = html! {
        @for (at, (name, value)) in part.facts.iter().filter(|(_, value)| !value.is_null()).enumerate() {
            @if at > 0 { ", " }
            span.quiet { (words(name)) ": " } (fact(visit, value))
        }
    };
    vec![html! { (words(&part.name)) }, points, facts]
}

fn fact(visit: &Visit, value: &Value) -> Markup {
    match value {
        Value::String(text) => match text.parse::<DateTime<Utc>>() {
            Ok(at) => times::date(visit.zone, at),
            Err(_) => html! { (text) },
        },
        Value::Array(items) => html! { (items.iter().map(Value::to_string).collect::<Vec<_>>().join(", ")) },
        value => parts::value(value),
    }
}
