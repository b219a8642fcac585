//! Segments, computed from their definition.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Datelike, Duration, NaiveDate, Utc};
use serde_json::{Value, json};
use shared::values::Time;
use uuid::Uuid;

use super::data::{Data, Order};
use super::health;
use super::snapshots::Snapshots;
use crate::report_calendar::start;
use crate::report_helpers::{filters, passes, rate};

/// In the order of the report.
pub const SEGMENTS: [&str; 11] = [
    "champions",
    "loyal",
    "active",
    "new",
    "promising",
    "needs_attention",
    "at_risk",
    "previously_loyal",
    "almost_lost",
    "dormant",
    "prospects",
];

const TABLE: [&str; 5] = [
    "dormant dormant dormant previously_loyal previously_loyal",
    "almost_lost almost_lost at_risk at_risk at_risk",
    "needs_attention needs_attention active loyal loyal",
    "promising active loyal loyal champions",
    "new active loyal champions champions",
];

type Scores = [Option<i16>; 3];

/// The orders of each customer that count.
fn bought(data: &Data, today: NaiveDate) -> Vec<(Uuid, Vec<&Order>)> {
    let since =
        NaiveDate::from_ymd_opt(today.year() - 2, today.month(), today.day()).unwrap_or(today - Duration::days(730));
    let counts = |order: &&Order| {
        let date = data.date(order.at);
        !order.cancelled && date >= since && date <= today
    };
    data.customers
        .iter()
        .map(|id| (*id, data.orders.iter().filter(|order| order.customer == *id).filter(counts).collect()))
        .collect()
}

/// The scores and the segment of every customer.
pub fn of_all(data: &Data, today: NaiveDate) -> Vec<(Uuid, Scores, &'static str)> {
    let bought = bought(data, today);
    let last = |orders: &[&Order]| orders.iter().map(|order| order.at).max().unwrap();
    let number = |orders: &[&Order]| orders.len() as i64;
    let quantity = |orders: &[&Order]| orders.iter().map(|order| order.quantity).sum::<i64>();
    let buyers: Vec<&Vec<&Order>> =
        bought.iter().map(|(_, orders)| orders).filter(|orders| !orders.is_empty()).collect();
    let (mut lasts, mut numbers, mut quantities): (Vec<_>, Vec<i64>, Vec<i64>) = (vec![], vec![], vec![]);
    for orders in &buyers {
        lasts.push(last(orders));
        numbers.push(number(orders));
        quantities.push(quantity(orders));
    }
    let classify = |orders: &[&Order]| {
        let (r, f, m) = if buyers.len() >= 500 {
            (rank(&lasts, &last(orders)), rank(&numbers, &number(orders)), rank(&quantities, &quantity(orders)))
        } else {
            let days = (today - data.date(last(orders))).num_days();
            (
                [(30, 5), (60, 4), (90, 3), (180, 2)]
                    .into_iter()
                    .find(|(limit, _)| days <= *limit)
                    .map_or(1, |(_, r)| r),
                [(10, 5), (6, 4), (4, 3), (2, 2)]
                    .into_iter()
                    .find(|(limit, _)| number(orders) >= *limit)
                    .map_or(1, |(_, f)| f),
                [(50, 5), (20, 4), (10, 3), (4, 2)]
                    .into_iter()
                    .find(|(limit, _)| quantity(orders) >= *limit)
                    .map_or(1, |(_, m)| m),
            )
        };
        let value = (f + m + 1) / 2;
        (r, f, m, TABLE[r as usize - 1].split(' ').nth(value as usize - 1).unwrap())
    };
    bought
        .iter()
        .map(|(id, orders)| match orders.is_empty() {
            true => (*id, [None; 3], "prospects"),
            false => {
                let (r, f, m, segment) = classify(orders);
                (*id, [Some(r), Some(f), Some(m)], segment)
            }
        })
        .collect()
}

/// ⌈5·cume_dist⌉
fn rank<T: Ord>(all: &[T], value: &T) -> i16 {
    let reached = all.iter().filter(|other| *other <= value).count();
    i16::try_from((5 * reached).div_ceil(all.len())).unwrap()
}

/// The report about the customers that pass the filters, without the definitions of segments.
pub fn report(data: &Data, snapshots: &Snapshots, pairs: &[(String, String)], now: Time) -> Value {
    let (today, filters) = (data.date(now), filters(pairs));
    let is_in = |at: usize| {
        let ((kind, status), owner) = (data.kinds[at], data.owners[at].map(|owner| owner.to_string()));
        passes(&filters, "type", Some(kind))
            && passes(&filters, "status", Some(status))
            && passes(&filters, "assigned_to", owner.as_deref())
    };
    let placed: Vec<_> =
        of_all(data, today).into_iter().enumerate().filter(|(at, _)| is_in(*at)).map(|(_, placed)| placed).collect();
    let kinds: Vec<_> = data.kinds.iter().enumerate().filter(|(at, _)| is_in(*at)).map(|(_, kind)| *kind).collect();
    let all = placed.len();
    let query: String = ["type", "status", "assigned_to"].iter().filter_map(|name| query(name, &filters)).collect();
    let groups = SEGMENTS.map(|segment| {
        let count = placed.iter().filter(|(.., is)| *is == segment).count();
        let query = format!("/dev/crm/customers?segment={segment}{query}");
        json!({ "segment": segment, "count": count, "share": rate(count, all), "query": query })
    });
    let bands: Vec<Option<&str>> =
        placed.iter().map(|(id, ..)| health::of(data, *id, today).and_then(|known| known.band())).collect();
    let by_health = ["healthy", "watch", "at_risk", "none"].map(|band| {
        let count = bands.iter().filter(|is| is.unwrap_or("none") == band).count();
        let value = if band == "none" { "null" } else { band };
        let query = format!("/dev/crm/customers?health_band={value}{query}");
        json!({ "band": band, "count": count, "share": rate(count, all), "query": query })
    });
    let count = |is: &dyn Fn(&(&str, &str)) -> bool| kinds.iter().filter(|kind| is(kind)).count();
    let by_type: BTreeMap<&str, usize> =
        ["individual", "business"].map(|word| (word, count(&|(kind, _)| *kind == word))).into();
    let by_status: BTreeMap<&str, usize> =
        ["active", "inactive", "blocked"].map(|word| (word, count(&|(_, status)| *status == word))).into();
    let buyers = placed.iter().filter(|(.., segment)| *segment != "prospects").count();
    json!({
        "as_of": now, "complete": true, "customers": all, "buyers": buyers, "thresholds": thresholds(data, today),
        "groups": groups, "by_type": by_type, "by_status": by_status, "by_health": by_health,
        "changes": snapshots.changes(&placed),
        "history": filters.is_empty().then(|| snapshots.history_of_segments(today)),
    })
}

/// A filter as it is in the query that lists a group: each value once, in order, and `null` last.
fn query(name: &str, filters: &HashMap<&str, Vec<&str>>) -> Option<String> {
    let mut values = filters.get(name)?.clone();
    values.sort_by_key(|value| (*value == "null", *value));
    values.dedup();
    Some(format!("&{name}={}", values.join(",")))
}

/// The thresholds of the scores 2, 3, 4 and 5.
fn thresholds(data: &Data, today: NaiveDate) -> Value {
    let bought = bought(data, today);
    let buyers: Vec<&Vec<&Order>> =
        bought.iter().map(|(_, orders)| orders).filter(|orders| !orders.is_empty()).collect();
    if buyers.len() < 500 {
        let days = [180, 90, 60, 30].map(|days| start(today - Duration::days(days), data.zone));
        return json!({
            "ranked": false, "recency": days, "frequency": [2, 4, 6, 10], "monetary": [4, 10, 20, 50],
        });
    }
    let lasts: Vec<DateTime<Utc>> =
        buyers.iter().map(|orders| orders.iter().map(|order| order.at).max().unwrap()).collect();
    let numbers: Vec<i64> = buyers.iter().map(|orders| orders.len() as i64).collect();
    let quantities: Vec<i64> = buyers.iter().map(|orders| orders.iter().map(|order| order.quantity).sum()).collect();
    json!({ "ranked": true, "recency": firsts(&lasts), "frequency": firsts(&numbers), "monetary": firsts(&quantities) })
}

/// The smallest values that score at least 2, 3, 4 and 5.
fn firsts<T: Ord + Clone>(all: &[T]) -> Vec<T> {
    (2..=5).map(|score| all.iter().filter(|value| rank(all, value) >= score).min().unwrap().clone()).collect()
}
