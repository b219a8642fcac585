//! Segments, computed from their definition.

use std::collections::BTreeMap;

use chrono::{DateTime, Datelike, Duration, NaiveDate, NaiveTime, Utc};
use serde_json::{Value, json};
use shared::insight::period::Period;
use shared::values::Time;
use uuid::Uuid;

use super::data::{Data, Order};
use super::health;
use super::snapshots::Snapshots;
use crate::report_helpers::rate;

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
        let date = order.at.date_naive();
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
            let days = (today - last(orders).date_naive()).num_days();
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

/// The report, without the definitions of segments.
pub fn report(data: &Data, snapshots: &Snapshots, period: &Period, now: Time) -> Value {
    let today = now.date_naive();
    let placed = of_all(data, today);
    let all = data.customers.len();
    let groups = SEGMENTS.map(|segment| {
        let count = placed.iter().filter(|(.., is)| *is == segment).count();
        let query = format!("/dev/crm/customers?segment={segment}");
        json!({ "segment": segment, "count": count, "share": rate(count, all), "query": query })
    });
    let bands: Vec<Option<&str>> =
        data.customers.iter().map(|id| health::of(data, *id, today).map(|known| health::band(known.score))).collect();
    let by_health = [Some("healthy"), Some("watch"), Some("at_risk"), None].map(|band| {
        let count = bands.iter().filter(|is| **is == band).count();
        let query = band.map(|band| format!("/dev/crm/customers?health={band}"));
        json!({ "band": band, "count": count, "share": rate(count, all), "query": query })
    });
    let count = |is: &dyn Fn(&(&str, &str)) -> bool| data.kinds.iter().filter(|kind| is(kind)).count();
    let kinds: BTreeMap<&str, usize> =
        ["individual", "business"].map(|word| (word, count(&|(kind, _)| *kind == word))).into();
    let statuses: BTreeMap<&str, usize> =
        ["active", "inactive", "blocked"].map(|word| (word, count(&|(_, status)| *status == word))).into();
    let buyers = placed.iter().filter(|(.., segment)| *segment != "prospects").count();
    json!({
        "as_of": now, "complete": true, "customers": all, "buyers": buyers, "cuts": thresholds(data, today), "groups": groups,
        "by_type": kinds, "by_status": statuses, "by_health": by_health,
        "changes": snapshots.changes(&placed), "history": snapshots.history_of_segments(period),
    })
}

/// The thresholds of the scores 2, 3, 4 and 5.
fn thresholds(data: &Data, today: NaiveDate) -> Value {
    let bought = bought(data, today);
    let buyers: Vec<&Vec<&Order>> =
        bought.iter().map(|(_, orders)| orders).filter(|orders| !orders.is_empty()).collect();
    if buyers.len() < 500 {
        let days = [180, 90, 60, 30].map(|days| (today - Duration::days(days)).and_time(NaiveTime::MIN).and_utc());
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
