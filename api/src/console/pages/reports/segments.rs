//! Customers by segment and by health.

use axum::response::Response;
use chrono::NaiveDate;
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::{Map, Value};
use shared::crm::customers::{CustomerStatus, CustomerType};

use super::customers::ranking;
use super::{REPORTS, charts as side_by_side, choice, report};
use crate::console::charts::{Chart, Unit};
use crate::console::figures::{Figure, Rate, figures};
use crate::console::links::link;
use crate::console::lists::{Filter, filter_input};
use crate::console::parts;
use crate::console::periods::Span;
use crate::console::refusal::Result;
use crate::console::session::Visit;

/// The segments whose history is drawn: those with the most customers today.
const LINES: usize = 5;
/// The moves that are listed.
const MOVES: usize = 15;

#[derive(Deserialize)]
struct Segments {
    complete: bool,
    customers: f64,
    buyers: f64,
    thresholds: Thresholds,
    groups: Vec<Group>,
    by_type: Map<String, Value>,
    by_status: Map<String, Value>,
    by_health: Vec<Band>,
    changes: Changes,
    history: Option<Vec<Past>>,
}

#[derive(Deserialize)]
struct Thresholds {
    ranked: bool,
}

#[derive(Deserialize)]
struct Group {
    segment: String,
    definition: String,
    scores: Option<String>,
    count: f64,
    share: Rate,
}

#[derive(Deserialize)]
struct Band {
    band: String,
    count: f64,
    share: Rate,
}

#[derive(Deserialize)]
struct Changes {
    since: Option<NaiveDate>,
    moves: Vec<Move>,
}

#[derive(Deserialize)]
struct Move {
    from: Option<String>,
    to: String,
    count: f64,
}

#[derive(Deserialize)]
struct Past {
    date: NaiveDate,
    groups: Map<String, Value>,
}

pub(super) fn filters() -> Vec<Filter> {
    vec![
        choice("type", "Type", CustomerType::WORDS),
        choice("status", "Status", CustomerStatus::WORDS),
        Filter::input("assigned_to", "Owner (id)", "text"),
    ]
}

async fn read(visit: &Visit) -> Result<Segments> {
    visit.crm.get(&Span::filtered(visit, &filters()).report("/customers/segments")).await
}

pub(super) async fn charts(visit: &Visit) -> Result<Vec<Chart>> {
    Ok(read(visit).await?.charts())
}

pub(super) async fn show(visit: Visit) -> Result<Response> {
    let about = "Every customer is in one segment, by the orders of the last 24 months as of today.";
    let query = Span::filtered(&visit, &filters()).query();
    let form = html! {
        form.filters method="get" action=(visit.path) role="search" aria-label="Filters" data-auto {
            @for filter in filters() { (filter_input(&visit, &filter)) }
            button type="submit" { "Apply" }
        }
    };
    report(&visit, ("Segments", about), &form, read(&visit).await.map(|segments| segments.render(&query)))
}

impl Segments {
    fn render(&self, query: &str) -> Markup {
        html! {
            @if !self.complete { p.quiet { "A job is scoring the customers as of today; some figures are of yesterday." } }
            (figures(&[
                Figure::new("Customers", Unit::Count, self.customers).formula("all customers"),
                Figure::new("With orders", Unit::Count, self.buyers).formula("with orders of 24 months, not cancelled"),
            ]))
            (side_by_side(&format!("{REPORTS}/segments"), query, &self.charts()))
            (self.definitions())
            (self.moves())
        }
    }

    fn charts(&self) -> Vec<Chart> {
        let segments = Chart::ranking("groups", "Customers by segment")
            .of("Segment", self.groups.iter().map(|group| parts::words(&group.segment)))
            .series("Customers", self.groups.iter().map(|group| group.count))
            .also("Share", Unit::Share, self.groups.iter().map(|group| group.share.rate));
        let health = Chart::ranking("by_health", "Customers by health")
            .of("Health", self.by_health.iter().map(|band| band_name(&band.band)))
            .series("Customers", self.by_health.iter().map(|band| band.count))
            .also("Share", Unit::Share, self.by_health.iter().map(|band| band.share.rate));
        let mut charts = vec![segments, health];
        charts.extend(self.history.as_deref().map(|history| self.history(history)));
        charts.push(ranking("by_type", "Customers by type", "Type", &self.by_type));
        charts.push(ranking("by_status", "Customers by status", "Status", &self.by_status));
        charts
    }

    fn history(&self, history: &[Past]) -> Chart {
        let mut groups: Vec<&Group> = self.groups.iter().collect();
        groups.sort_by(|one, other| other.count.total_cmp(&one.count));
        let chart = Chart::lines("history", "The largest segments over the last 90 days")
            .of("Day", history.iter().map(|past| past.date.to_string()));
        groups.into_iter().take(LINES).fold(chart, |chart, group| {
            let count = |past: &Past| past.groups.get(&group.segment).and_then(Value::as_f64);
            chart.series(parts::words(&group.segment), history.iter().map(count))
        })
    }

    fn definitions(&self) -> Markup {
        let rows: Vec<Vec<Markup>> = self.groups.iter().map(definition).collect();
        let how = if self.thresholds.ranked {
            "Recency, frequency and quantity are scored from 1 to 5 among all customers with orders, in fifths."
        } else {
            "Recency, frequency and quantity are scored from 1 to 5 by fixed limits: there are fewer than 500 customers \
             with orders."
        };
        parts::section(
            "How customers are grouped",
            &html! {
                (parts::table("Segments", &["Segment", "Customers", "Scores", "What they have in common"], &rows))
                p.formula { code { "value = ⌊(frequency + quantity + 1) ÷ 2⌋; recency and value determine the segment" } }
                p.hint { (how) }
                p.formula { code { "health = 100 · points ÷ maxima of the known parts" } }
                p.hint { "Healthy from 70, watch from 40, at risk below. Customers with too little data have no band." }
            },
        )
    }

    fn moves(&self) -> Markup {
        let Some(since) = self.changes.since else {
            return parts::section(
                "Moves",
                &html! { p.quiet { "The first nightly snapshot has not been taken yet." } },
            );
        };
        let name = |segment: Option<&str>| html! { (segment.map_or_else(|| "New customers".to_owned(), parts::words)) };
        let row =
            |of: &Move| vec![name(of.from.as_deref()), name(Some(&of.to)), html! { (Unit::Count.text(of.count)) }];
        let rows: Vec<Vec<Markup>> = self.changes.moves.iter().take(MOVES).map(row).collect();
        parts::section(
            &format!("Moves since {}", since.format("%-d %b %Y")),
            &html! {
                @if rows.is_empty() { p.quiet { "No customer has changed segment." } }
                @else { (parts::table("Moves between segments", &["From", "To", "Customers"], &rows)) }
            },
        )
    }
}

/// What people call a band.
pub(in crate::console::pages) fn band_name(band: &str) -> String {
    if band == "none" { "Too little data".to_owned() } else { parts::words(band) }
}

fn definition(group: &Group) -> Vec<Markup> {
    let customers = link("/console/customers", [("segment", group.segment.as_str())]);
    vec![
        html! { a href=(customers) { (parts::words(&group.segment)) } },
        html! { (Unit::Count.text(group.count)) },
        parts::text_or_dash(group.scores.as_deref()),
        html! { (group.definition) },
    ]
}
