//! The second computation: rows in memory, and nothing but counting, adding and sorting.

use std::collections::{BTreeMap, HashMap};

use chrono::{Datelike, Days, Duration, NaiveDate};
use serde_json::{Value, json};
use shared::fields::Time;
use shared::period::{Interval, Period};

use super::data::{Data, ORDER_STATUSES, SOURCES, STAGES, STATUSES, time};

fn at(row: &Value, field: &str) -> Option<Time> {
    row[field].as_str().map(time)
}

fn is_in(row: &Value, field: &str, (from, to): (Time, Time)) -> bool {
    at(row, field).is_some_and(|at| from <= at && at < to)
}

fn rate(numerator: usize, denominator: usize) -> Value {
    let rate = (denominator > 0).then(|| numerator as f64 / denominator as f64);
    json!({ "numerator": numerator, "denominator": denominator, "rate": rate })
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

fn median(values: &[f64]) -> Option<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        n if n % 2 == 1 => Some(values[middle]),
        _ => Some((values[middle - 1] + values[middle]) / 2.0),
    }
}

fn spread(values: &[f64]) -> Value {
    json!({ "mean": mean(values), "median": median(values) })
}

fn counted<'a>(rows: impl IntoIterator<Item = &'a Value> + Clone, field: &str, words: &[&str]) -> Value {
    let count =
        |word: &&str| (word.to_string(), json!(rows.clone().into_iter().filter(|row| row[field] == **word).count()));
    Value::Object(words.iter().map(count).collect())
}

/// The first date of the interval in which a time is, by the calendar of the period's time zone.
fn date_of(at: Time, period: &Period) -> NaiveDate {
    let date = at.with_timezone(&period.tz).date_naive();
    match period.interval {
        Interval::Day => date,
        Interval::Week => date - Days::new(u64::from(date.weekday().num_days_from_monday())),
        Interval::Month => date.with_day(1).unwrap(),
    }
}

/// The first dates of all intervals of a period.
fn dates(period: &Period) -> Vec<NaiveDate> {
    let last = date_of(period.to - Duration::microseconds(1), period);
    let first = date_of(period.from, period);
    let all = first.iter_days().take_while(|date| *date <= last);
    all.filter(|date| match period.interval {
        Interval::Day => true,
        Interval::Week => date.weekday().num_days_from_monday() == 0,
        Interval::Month => date.day() == 1,
    })
    .collect()
}

/// When a date begins there, found by looking at each quarter of an hour.
fn start(date: NaiveDate, period: &Period) -> Time {
    let noon_before = (date - Days::new(1)).and_hms_opt(6, 0, 0).unwrap().and_utc();
    let quarters = (0..).map(|quarter| noon_before + Duration::minutes(15 * quarter));
    let mut quarters = quarters.skip_while(|at| at.with_timezone(&period.tz).date_naive() < date);
    quarters.next().unwrap()
}

fn by_interval(rows: &[&Value], period: &Period) -> Value {
    let of = |date: NaiveDate| {
        let count = rows.iter().filter(|row| date_of(at(row, "created_at").unwrap(), period) == date).count();
        json!({ "start": start(date, period), "count": count })
    };
    Value::Array(dates(period).into_iter().map(of).collect())
}

fn described(period: &Period) -> Value {
    json!({ "from": period.from, "to": period.to, "interval": period.interval, "tz": period.tz.name() })
}

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

fn rates_of_leads(leads: &[&Value]) -> (Value, Value) {
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
fn ordered(data: &Data, which: impl Fn(&Value) -> bool) -> BTreeMap<&str, Vec<&Value>> {
    let mut all: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    for order in data.orders.iter().filter(|order| order["status"] != "cancelled" && which(order)) {
        all.entry(order["customer_id"].as_str().unwrap()).or_default().push(order);
    }
    all
}

fn quantity(orders: &[&Value]) -> i64 {
    orders.iter().map(|order| order["quantity"].as_i64().unwrap()).sum()
}

fn orders(all: &BTreeMap<&str, Vec<&Value>>) -> Value {
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

fn change(value: Option<f64>, before: Option<f64>) -> Value {
    let change = value.zip(before).map(|(value, before)| value - before);
    let relative = before.filter(|before| *before != 0.0).and_then(|before| Some(change? / before));
    json!({ "value": value, "before": before, "change": change, "relative_change": relative })
}

fn changes(of: impl Fn((Time, Time)) -> Option<f64>, periods: [(Time, Time); 2]) -> Value {
    change(of(periods[0]), of(periods[1]))
}

fn rate_changes(of: impl Fn((Time, Time)) -> Value, periods: [(Time, Time); 2]) -> Value {
    let [value, before] = periods.map(of);
    let difference = value["rate"].as_f64().zip(before["rate"].as_f64()).map(|(value, before)| value - before);
    json!({ "value": value, "before": before, "change": difference })
}

pub fn dashboard(data: &Data, period: &Period, now: Time) -> Value {
    let before = (period.from - (period.to - period.from), period.from);
    let periods = [(period.from, period.to), before];
    let made = |rows: &'_ [Value], within| -> Vec<Value> {
        rows.iter().filter(|row| is_in(row, "created_at", within)).cloned().collect()
    };
    let leads = |within, which: usize| {
        let made = made(&data.leads, within);
        let rates = rates_of_leads(&made.iter().collect::<Vec<_>>());
        if which == 0 { rates.0 } else { rates.1 }
    };
    let ordered = |within| orders(&ordered(data, |order| is_in(order, "order_date", within)));
    let sent = |within| -> Vec<&Value> {
        data.feedback.iter().filter(|feedback| is_in(feedback, "requested_at", within)).collect()
    };
    let ratings = |within| -> Vec<f64> {
        let given = data.feedback.iter().filter(|feedback| is_in(feedback, "answered_at", within));
        given.map(|feedback| feedback["rating"].as_f64().unwrap()).collect()
    };
    let nps = |within| {
        let points = |rating: f64| {
            if rating > 4.5 {
                1.0
            } else if rating < 3.5 {
                -1.0
            } else {
                0.0
            }
        };
        mean(&ratings(within).into_iter().map(points).collect::<Vec<_>>())
    };
    let response = |within| {
        let sent = sent(within);
        rate(sent.iter().filter(|feedback| feedback["status"] == "answered").count(), sent.len())
    };
    let is_due = |interaction: &&Value| {
        interaction["followed_up_at"].is_null() && at(interaction, "next_action_date").is_some_and(|date| date <= now)
    };
    json!({
        "as_of": now, "period": described(period),
        "period_before": { "from": before.0, "to": before.1, "interval": period.interval, "tz": period.tz.name() },
        "leads": {
            "total": data.leads.len(),
            "created": changes(|within| Some(made(&data.leads, within).len() as f64), periods),
            "conversion_rate": rate_changes(|within| leads(within, 0), periods),
            "win_rate": rate_changes(|within| leads(within, 1), periods),
        },
        "customers": {
            "total": data.customers.len(),
            "new": changes(|within| Some(made(&data.customers, within).len() as f64), periods),
            "repeat_rate": rate_changes(|within| ordered(within)["repeat_rate"].clone(), periods),
        },
        "orders": {
            "orders": changes(|within| ordered(within)["orders"].as_f64(), periods),
            "quantity": changes(|within| ordered(within)["quantity"].as_f64(), periods),
            "by_status": counted(&data.orders, "status", &ORDER_STATUSES),
        },
        "feedback": {
            "sent": changes(|within| Some(sent(within).len() as f64), periods),
            "response_rate": rate_changes(response, periods),
            "mean_rating": changes(|within| mean(&ratings(within)), periods),
            "nps": changes(nps, periods),
        },
        "followups": { "due": data.interactions.iter().filter(is_due).count() },
        "jobs": { "queued": 0, "running": 0, "failed": 0 },
    })
}
