//! The report of customers.

use axum::response::Response;
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::{Map, Value};
use shared::crm::customers::{CustomerStatus, CustomerType, Segment};

use super::{REPORTS, about_stars, charts, choice, report};
use crate::console::charts::{Chart, Unit};
use crate::console::figures::{Figure, IntervalCount, Rate, Spread, figures};
use crate::console::links::link;
use crate::console::lists::Filter;
use crate::console::parts;
use crate::console::periods::{ReportedPeriod, Span, described};
use crate::console::refusal::Result;
use crate::console::session::Visit;

/// The report, compared with another period.
#[derive(Deserialize)]
pub(in crate::console::pages) struct Customers {
    period: ReportedPeriod,
    totals: Totals,
    new: New,
    orders: Orders,
    orders_by_interval: Vec<IntervalCount>,
    orders_ever: Orders,
    interactions: Interactions,
    comparison: Option<Box<Customers>>,
}

#[derive(Deserialize)]
struct Totals {
    customers: f64,
    by_type: Map<String, Value>,
    by_status: Map<String, Value>,
}

#[derive(Deserialize)]
struct New {
    customers: f64,
    by_interval: Vec<IntervalCount>,
}

#[derive(Deserialize)]
struct Orders {
    orders: f64,
    quantity: f64,
    orders_per_customer: Spread,
    quantity_per_customer: Spread,
    repeat_rate: Rate,
}

#[derive(Deserialize)]
struct Interactions {
    interactions: f64,
    per_customer: Spread,
}

pub(super) fn filters() -> Vec<Filter> {
    vec![
        choice("type", "Type", CustomerType::WORDS),
        choice("status", "Status", CustomerStatus::WORDS),
        choice("segment", "Segment", Segment::WORDS),
        Filter::input("assigned_to", "Owner (id)", "text"),
    ]
}

pub(super) async fn show(visit: Visit) -> Result<Response> {
    let (filters, about) = (filters(), "Cancelled orders do not count.");
    let span = Span::of(&visit, &filters);
    let content = Customers::read(&visit, &span).await.map(|customers| customers.render(&span));
    report(&visit, ("Customer report", about), &span.form(&visit, &filters, true), content)
}

impl Customers {
    /// Reads the report of a period.
    pub async fn read(visit: &Visit, span: &Span) -> Result<Self> {
        visit.crm.get(&link(&span.compared("/reports/customers"), [("interval", span.interval())])).await
    }

    fn render(&self, span: &Span) -> Markup {
        html! {
            (described(&self.period))
            (figures(&self.headlines()))
            (charts(&format!("{REPORTS}/customers"), &span.query(), &self.charts()))
            (about_stars())
        }
    }

    fn headlines(&self) -> Vec<Figure> {
        let before = |figure: fn(&Self) -> Option<f64>| self.comparison.as_deref().map(figure);
        let per = |spread: Spread| spread.median.map(|median| format!("median {}", Unit::Decimal.text(median)));
        let (orders, interactions) = (&self.orders, &self.interactions);
        vec![
            Figure::new("New customers", Unit::Count, self.new.customers)
                .against(before(|customers| Some(customers.new.customers)))
                .formula("customers with created_at in the period"),
            Figure::new("Orders", Unit::Count, orders.orders)
                .against(before(|customers| Some(customers.orders.orders)))
                .formula("orders with order_date in the period, not cancelled"),
            Figure::new("Quantity", Unit::Count, orders.quantity)
                .against(before(|customers| Some(customers.orders.quantity)))
                .formula("sum of their quantities"),
            Figure::rate("Repeat rate", orders.repeat_rate)
                .against(before(|customers| customers.orders.repeat_rate.rate))
                .formula("customers with two or more of these orders ÷ with one or more"),
            Figure::new("Orders per customer", Unit::Decimal, orders.orders_per_customer.mean)
                .note(per(orders.orders_per_customer).unwrap_or_default())
                .against(before(|customers| customers.orders.orders_per_customer.mean))
                .formula("mean over the customers with these orders"),
            Figure::new("Quantity per customer", Unit::Decimal, orders.quantity_per_customer.mean)
                .note(per(orders.quantity_per_customer).unwrap_or_default())
                .against(before(|customers| customers.orders.quantity_per_customer.mean))
                .formula("mean over the customers with these orders"),
            Figure::new("Interactions", Unit::Count, interactions.interactions)
                .against(before(|customers| Some(customers.interactions.interactions)))
                .formula("interactions with date in the period"),
            Figure::new("Interactions per customer", Unit::Decimal, interactions.per_customer.mean)
                .note(per(interactions.per_customer).unwrap_or_default())
                .against(before(|customers| customers.interactions.per_customer.mean))
                .formula("mean over the customers with any"),
            Figure::new("All customers", Unit::Count, self.totals.customers).formula("customers of any date"),
            Figure::new("All orders", Unit::Count, self.orders_ever.orders)
                .formula("orders of any date, not cancelled"),
            Figure::rate("Repeat rate ever", self.orders_ever.repeat_rate)
                .formula("customers with two or more orders of any date ÷ with one or more"),
        ]
    }

    /// The charts, with the names of the API's tables.
    pub fn charts(&self) -> Vec<Chart> {
        vec![
            over_time("by_interval", "New customers", "Customers", &self.new.by_interval),
            self.orders_by_interval(),
            ranking("totals_by_status", "All customers by status", "Status", &self.totals.by_status),
            ranking("totals_by_type", "All customers by type", "Type", &self.totals.by_type),
        ]
    }

    /// The orders over time.
    pub fn orders_by_interval(&self) -> Chart {
        over_time("orders_by_interval", "Orders", "Orders", &self.orders_by_interval)
    }
}

fn over_time(name: &'static str, title: &'static str, series: &str, intervals: &[IntervalCount]) -> Chart {
    Chart::bars(name, title)
        .of("Interval", intervals.iter().map(IntervalCount::name))
        .series(series, intervals.iter().map(|interval| interval.count))
}

/// The customers of each value.
pub(super) fn ranking(name: &'static str, title: &'static str, of: &'static str, counts: &Map<String, Value>) -> Chart {
    Chart::ranking(name, title)
        .of(of, counts.keys().map(|word| parts::words(word)))
        .series("Customers", counts.values().map(Value::as_f64))
}
