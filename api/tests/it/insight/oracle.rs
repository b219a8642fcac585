//! The second computation: rows in memory, and nothing but counting, adding and sorting.

use std::collections::{BTreeMap, HashMap};

use chrono::NaiveDate;
use serde_json::{Value, json};
use shared::insight::period::Period;
use shared::values::Time;

use super::data::{Data, SOURCES, STAGES, STATUSES};
use crate::report_helpers::{
    at, by_interval, counted, date_of, dates, described, is_in, mean, median, rate, spread, start,
};

fn is_won(lead: &Value) -> bool {
    lead["status"] == "converted" || lead["status"] == "won"
}

/// How many stages of the funnel a lead has reached, beside `new`.
fn reached(lead: &Value) -> usize {
    STAGES[..6].iter().rposition(|stage| !lead[*stage].is_null()).map_or(0, |place| place + 1)
}

/// The days from the creation of a lead to a time; none are less than 0.
fn days(lead: &Value, to: Time) -> f64 {
    ((to - at(lead, "created_at").unwrap()).as_seconds_f64() / 86_400.0).max(0.0)
}

pub fn rates_of_leads(leads: &[&Value]) -> (Value, Value) {
    let won = leads.iter().filter(|lead| is_won(lead)).count();
    let lost = leads.iter().filter(|lead| lead["status"] == "lost").count();
    (rate(won, leads.len()), rate(won, won + lost))
}

pub fn leads(data: &Data, period: &Period, now: Time) -> Value {
    let made: Vec<&Value> =
        data.leads.iter().filter(|lead| is_in(lead, "created_at", (period.from, period.to))).collect();
    let mut owners: HashMap<&Value, usize> = HashMap::new();
    data.leads.iter().for_each(|lead| *owners.entry(&lead["assigned_to"]).or_default() += 1);
    let mut by_owner: Vec<(&Value, usize)> = owners.into_iter().collect();
    // With most first, and nobody behind others who have as many.
    by_owner.sort_by_key(|(owner, leads)| (usize::MAX - leads, owner.is_null(), owner.as_str()));
    let names = ["new", "contacted", "qualified", "proposal", "negotiation", "converted", "won"];
    let mut before = made.len();
    let funnel = names.iter().enumerate().map(|(place, stage)| {
        let leads = made.iter().filter(|lead| reached(lead) >= place).count();
        let to = |lead: &&Value| match place {
            0 => Some(0.0),
            _ => at(lead, STAGES[place - 1]).map(|to| days(lead, to)),
        };
        let days: Vec<f64> = made.iter().filter_map(to).collect();
        let step = rate(leads, std::mem::replace(&mut before, leads));
        json!({ "stage": stage, "leads": leads, "rate": rate(leads, made.len()), "step_rate": step,
            "median_days": median(&days) })
    });
    let funnel: Vec<Value> = funnel.collect();
    let first_won = |lead: &&Value| at(lead, "converted_at").into_iter().chain(at(lead, "won_at")).min();
    let to_convert: Vec<f64> =
        made.iter().filter(|lead| is_won(lead)).filter_map(|lead| Some(days(lead, first_won(lead)?))).collect();
    let scores: Vec<f64> = made.iter().map(|lead| lead["score"].as_f64().unwrap()).collect();
    let by_source = SOURCES.map(|source| {
        let of: Vec<&Value> = made.iter().copied().filter(|lead| lead["source"] == source).collect();
        let won = of.iter().filter(|lead| is_won(lead)).count();
        json!({ "source": source, "leads": of.len(), "conversions": won, "rate": rate(won, of.len()) })
    });
    let (conversion_rate, win_rate) = rates_of_leads(&made);
    json!({
        "as_of": now, "period": described(period),
        "totals": {
            "leads": data.leads.len(), "by_status": counted(&data.leads, "status", &STATUSES),
            "by_source": counted(&data.leads, "source", &SOURCES), "owners": by_owner.len(),
            "by_owner": by_owner.iter().map(|(owner, leads)| json!({ "assigned_to": owner, "leads": leads })).collect::<Vec<_>>(),
        },
        "created": { "leads": made.len(), "by_interval": by_interval(&made, period) },
        "conversion_rate": conversion_rate, "win_rate": win_rate, "funnel": funnel,
        "days_to_convert": spread(&to_convert), "average_score": mean(&scores), "by_source": by_source,
    })
}

/// The orders of each customer that were not cancelled.
pub fn ordered(data: &Data, which: impl Fn(&Value) -> bool) -> BTreeMap<&str, Vec<&Value>> {
    let mut all: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    for order in data.orders.iter().filter(|order| order["status"] != "cancelled" && which(order)) {
        all.entry(order["customer_id"].as_str().unwrap()).or_default().push(order);
    }
    all
}

fn quantity(orders: &[&Value]) -> i64 {
    orders.iter().map(|order| order["quantity"].as_i64().unwrap()).sum()
}

pub fn orders(all: &BTreeMap<&str, Vec<&Value>>) -> Value {
    let counts: Vec<f64> = all.values().map(|orders| orders.len() as f64).collect();
    let quantities: Vec<f64> = all.values().map(|orders| quantity(orders) as f64).collect();
    let repeating = all.values().filter(|orders| orders.len() >= 2).count();
    json!({
        "orders": counts.iter().sum::<f64>(), "quantity": quantities.iter().sum::<f64>(), "customers": all.len(),
        "orders_per_customer": spread(&counts), "quantity_per_customer": spread(&quantities),
        "repeat_rate": rate(repeating, all.len()),
    })
}

fn cohorts(data: &Data, period: &Period) -> Vec<Value> {
    let period = &Period::in_months(period);
    let months = dates(period);
    let each: Vec<Vec<Time>> = ordered(data, |_| true)
        .into_values()
        .map(|orders| orders.into_iter().map(|order| at(order, "order_date").unwrap()).collect())
        .collect();
    let first = |orders: &[Time]| orders.iter().min().copied().filter(|first| *first < period.to);
    let of = |(place, month): (usize, &NaiveDate)| {
        let mine: Vec<&Vec<Time>> =
            each.iter().filter(|orders| first(orders).is_some_and(|first| date_of(first, period) == *month)).collect();
        let again = months[place + 1..].iter().map(|month| {
            let in_month = |at: &Time| *at < period.to && date_of(*at, period) == *month;
            rate(mine.iter().filter(|orders| orders.iter().any(in_month)).count(), mine.len())
        });
        json!({ "start": start(*month, period), "customers": mine.len(), "again": again.collect::<Vec<_>>() })
    };
    months.iter().enumerate().map(of).collect()
}

pub fn customers(data: &Data, period: &Period, now: Time) -> Value {
    let within = (period.from, period.to);
    let made: Vec<&Value> = data.customers.iter().filter(|customer| is_in(customer, "created_at", within)).collect();
    let mut interactions: BTreeMap<&str, f64> = BTreeMap::new();
    for interaction in data.interactions.iter().filter(|interaction| is_in(interaction, "date", within)) {
        *interactions.entry(interaction["customer_id"].as_str().unwrap()).or_default() += 1.0;
    }
    let counts: Vec<f64> = interactions.values().copied().collect();
    json!({
        "as_of": now, "period": described(period),
        "totals": {
            "customers": data.customers.len(),
            "by_type": counted(&data.customers, "type", &["individual", "business"]),
            "by_status": counted(&data.customers, "status", &["active", "inactive", "blocked"]),
        },
        "new": { "customers": made.len(), "by_interval": by_interval(&made, period) },
        "orders": orders(&ordered(data, |order| is_in(order, "order_date", within))),
        "orders_ever": orders(&ordered(data, |_| true)),
        "interactions": { "interactions": counts.iter().sum::<f64>(), "customers": counts.len(), "per_customer": spread(&counts) },
        "cohorts": cohorts(data, period),
    })
}
