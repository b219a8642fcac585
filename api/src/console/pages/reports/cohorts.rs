//! Customers by the month of their first order, and how many of them ordered again.

use axum::response::Response;
use maud::{Markup, html};
use serde::Deserialize;

use super::customers::filters;
use super::{REPORTS, charts as side_by_side, report};
use crate::console::charts::{Chart, Unit};
use crate::console::figures::{Rate, interval};
use crate::console::periods::{ReportedPeriod, Span, described};
use crate::console::refusal::Result;
use crate::console::session::Visit;

/// The last cohorts that are drawn, and the months of each; the CSV file has all of them.
const DRAWN: usize = 13;

#[derive(Deserialize)]
struct Cohorts {
    period: ReportedPeriod,
    cohorts: Vec<Cohort>,
}

#[derive(Deserialize)]
struct Cohort {
    label: String,
    partial: bool,
    customers: f64,
    again: Vec<Rate>,
}

async fn read(visit: &Visit, span: &Span) -> Result<Cohorts> {
    visit.crm.get(&span.report("/reports/customers")).await
}

fn span_of(visit: &Visit) -> Span {
    Span::of(visit, &filters()).or_a_year()
}

pub(super) async fn show(visit: Visit) -> Result<Response> {
    let about = "Of the customers whose first order was in a month, the share who ordered again in each later month.";
    let span = span_of(&visit);
    let content = read(&visit, &span).await.map(|cohorts| cohorts.render(&span));
    report(&visit, ("Cohorts", about), &span.form(&visit, &filters(), false), content)
}

pub(super) async fn charts(visit: &Visit) -> Result<Vec<Chart>> {
    Ok(read(visit, &span_of(visit)).await?.charts())
}

impl Cohorts {
    fn render(&self, span: &Span) -> Markup {
        html! {
            (described(&self.period))
            (side_by_side(&format!("{REPORTS}/cohorts"), &span.query(), &self.charts()))
            p.formula { code { "customers of the cohort who ordered in the month ÷ customers of the cohort" } }
            p.hint {
                "Percentages, by the months after the first order. Cancelled orders do not count. "
                "A cohort has its whole month, even if the period begins within it."
                @if self.cohorts.len() > DRAWN {
                    " The last " (DRAWN) " of " (self.cohorts.len()) " cohorts are shown; the CSV file has all of them."
                }
            }
        }
    }

    fn charts(&self) -> Vec<Chart> {
        let drawn = &self.cohorts[self.cohorts.len().saturating_sub(DRAWN)..];
        let months = drawn.iter().map(|cohort| cohort.again.len()).max().unwrap_or_default().clamp(1, DRAWN - 1);
        let chart = Chart::heatmap("cohorts", "Customers who ordered again")
            .unit(Unit::Share)
            .of("First order", (1..=months).map(|month| format!("+{month}")));
        let sizes = Chart::ranking("sizes", "Customers by the month of their first order")
            .of("First order", drawn.iter().map(|cohort| interval(&cohort.label, cohort.partial)))
            .series("Customers", drawn.iter().map(|cohort| cohort.customers));
        let heatmap = drawn.iter().fold(chart, |chart, cohort| {
            chart.series(cohort.label.clone(), cohort.again.iter().take(months).map(|rate| rate.rate))
        });
        vec![heatmap, sizes.csv("cohorts")]
    }
}
