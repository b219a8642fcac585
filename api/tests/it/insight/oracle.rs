//! The second computation: rows in memory, and nothing but counting, adding and sorting.

use std::collections::{BTreeMap, HashMap};

use chrono::NaiveDate;
use serde_json::{Value, json};
use shared::insight::period::{Interval, Period};
use shared::values::Time;

use super::data::{Data, SOURCES, STAGES, STATUSES};
use crate::report_calendar::start;
use crate::report_helpers::{
    at, by_interval, counted, date_of, dates, described, interval, is_in, mean, median, rate, spread,
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
    let all_leads: Vec<&Value> = data.leads.iter().collect();
    let of_all = by_owner(&all_leads);
    let name = |owner: &Value| {
        data.users.iter().find(|user| user["id"] == *owner).map_or(Value::Null, |user| user["name"].clone())
    };
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
    let by_owner = by_owner(&made).into_iter().map(|(owner, leads)| {
        let won = leads.iter().filter(|lead| is_won(lead)).count();
        json!({ "assigned_to": owner, "name": name(owner), "leads": leads.len(), "conversions": won,
            "rate": rate(won, leads.len()) })
    });
    let by_owner: Vec<Value> = by_owner.collect();
    let (conversion_rate, win_rate) = rates_of_leads(&made);
    json!({
        "as_of": now, "period": described(period),
        "totals": {
            "leads": data.leads.len(), "by_status": counted(&data.leads, "status", &STATUSES),
            "by_source": counted(&data.leads, "source", &SOURCES), "owners": of_all.len(),
            "by_owner": of_all.iter().map(|(owner, leads)| {
                json!({ "assigned_to": owner, "name": name(owner), "leads": leads.len() })
            }).collect::<Vec<_>>(),
        },
        "created": { "leads": made.len(), "by_interval": by_interval(&made, "created_at", period, now) },
        "conversion_rate": conversion_rate, "win_rate": win_rate, "funnel": funnel,
        "days_to_convert": spread(&to_convert), "average_score": mean(&scores), "by_source": by_source,
        "by_owner": by_owner, "outcomes": outcomes(data, period, now),
    })
}

/// The leads of each owner: most first, and unassigned ones after others with as many.
fn by_owner<'a>(leads: &[&'a Value]) -> Vec<(&'a Value, Vec<&'a Value>)> {
    let mut owners: HashMap<&Value, Vec<&Value>> = HashMap::new();
    leads.iter().for_each(|lead| owners.entry(&lead["assigned_to"]).or_default().push(lead));
    let mut owners: Vec<_> = owners.into_iter().collect();
    owners.sort_by_key(|(owner, leads)| (usize::MAX - leads.len(), owner.is_null(), owner.as_str()));
    owners
}

/// What was converted, won and lost in the period, whenever the leads were created.
fn outcomes(data: &Data, period: &Period, now: Time) -> Value {
    let within = (period.from, period.to);
    let of = |field: &str| -> Vec<&Value> { data.leads.iter().filter(|lead| is_in(lead, field, within)).collect() };
    let [converted, won, lost] = ["converted_at", "won_at", "lost_at"].map(of);
    let series = [(&converted, "converted_at"), (&won, "won_at"), (&lost, "lost_at")]
        .map(|(leads, field)| by_interval(leads, field, period, now));
    let rows = (0..series[0].as_array().unwrap().len()).map(|at| {
        let mut row = series[0][at].clone();
        row.as_object_mut().unwrap().remove("count");
        for (name, of) in ["converted", "won", "lost"].into_iter().zip(&series) {
            row[name] = of[at]["count"].clone();
        }
        row
    });
    json!({
        "converted": converted.len(), "won": won.len(), "lost": lost.len(), "by_interval": rows.collect::<Vec<_>>(),
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

fn cohorts(data: &Data, period: &Period, now: Time) -> Vec<Value> {
    // Cohorts are whole months.
    let mut by_month = period.clone();
    by_month.interval = Some(Interval::Month);
    let period = &by_month;
    let all = dates(period);
    let months = &all[all.len().saturating_sub(60)..];
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
        let mut whole = period.clone();
        whole.from = start(*month, period.tz);
        let mut cohort = interval(*month, &whole, now);
        cohort["customers"] = json!(mine.len());
        cohort["again"] = again.collect();
        cohort
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
        "new": { "customers": made.len(), "by_interval": by_interval(&made, "created_at", period, now) },
        "orders": orders(&ordered(data, |order| is_in(order, "order_date", within))),
        "orders_by_interval": by_interval(
            &ordered(data, |order| is_in(order, "order_date", within)).into_values().flatten().collect::<Vec<_>>(),
            "order_date", period, now,
        ),
        "orders_ever": orders(&ordered(data, |_| true)),
        "interactions": { "interactions": counts.iter().sum::<f64>(), "customers": counts.len(), "per_customer": spread(&counts) },
        "cohorts": cohorts(data, period, now),
    })
}
