//! The second computation of the dashboard.

use std::cmp::Reverse;

use chrono::{Duration, NaiveDate, SecondsFormat};
use serde_json::{Value, json};
use shared::insight::period::Period;
use shared::values::Time;
use uuid::Uuid;

use super::data::{BANDS, Data, ORDER_STATUSES};
use super::oracle::{ordered, orders, rates_of_leads};
use crate::oracle::data::{Data as Records, Feedback, Interaction, Order};
use crate::oracle::segments::SEGMENTS;
use crate::oracle::{health as second_health, segments as second_segments};
use crate::report_helpers::{at, counted, described, is_in, mean, rate};

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

/// The dashboard of the data that pass the filters, if there are any.
pub fn dashboard(data: &Data, (period, before): (&Period, &Period), now: Time, is_filtered: bool) -> Value {
    let periods = [(period.from, period.to), (before.from, before.to)];
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
        "period_before": described(before),
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
        "segments": segments(data, now, is_filtered),
        "health": health(data, period, now, is_filtered),
        "themes": themes(data, (period, before), now)["themes"].as_array().unwrap().iter().take(3).map(|theme| {
            json!({ "id": theme["id"], "label": theme["label"], "count": theme["count"], "change": theme["change"] })
        }).collect::<Vec<_>>(),
        "followups": { "due": data.interactions.iter().chain(&data.lead_interactions).filter(is_due).count() },
        "jobs": if is_filtered { Value::Null } else { json!({
            "queued": data.jobs.iter().filter(|job| job["status"] == "queued").count(),
            "running": data.jobs.iter().filter(|job| job["status"] == "running").count(),
            "failed": data.jobs.iter().filter(|job| job["status"] == "failed" && is_in(job, "created_at", periods[0])).count(),
        }) },
        "recent_activity": activity(data),
    })
}

/// The records of customers, as the second computation of scores takes them.
pub fn records(data: &Data) -> Records {
    let id = |row: &Value, field: &str| Uuid::try_parse(row[field].as_str().unwrap()).unwrap();
    let order = |row: &Value| Order {
        workspace: data.workspace_id,
        id: id(row, "id"),
        customer: id(row, "customer_id"),
        at: at(row, "order_date").unwrap(),
        quantity: row["quantity"].as_i64().unwrap(),
        cancelled: row["status"] == "cancelled",
    };
    let interaction = |row: &Value| Interaction {
        workspace: data.workspace_id,
        id: id(row, "id"),
        customer: id(row, "customer_id"),
        at: at(row, "date").unwrap(),
        support: row["type"] == "support",
        next_action_at: at(row, "next_action_date"),
    };
    let feedback = |row: &Value| Feedback {
        workspace: data.workspace_id,
        id: id(row, "id"),
        customer: id(row, "customer_id"),
        requested_at: at(row, "requested_at").unwrap(),
        answer: at(row, "answered_at").map(|at| (at, row["rating"].as_i64().unwrap() as i16, None)),
    };
    let customers = data.customers.iter().map(|customer| id(customer, "id")).collect();
    let mut records = Records::of(data.workspace_id, customers);
    records.zone = data.zone;
    records.orders = data.orders.iter().map(order).collect();
    records.interactions = data.interactions.iter().map(interaction).collect();
    records.feedback = data.feedback.iter().map(feedback).collect();
    records
}

/// A number of things, and its share, beside what it was on the day of a snapshot.
fn counted_then(count: usize, all: usize, then: Option<i64>) -> Value {
    let change = change(Some(count as f64), then.map(|then| then as f64));
    json!({ "count": count, "share": rate(count, all), "change": change })
}

/// The sum of a field of the rows of a day that are called so; `None` without such a day.
fn on_day(rows: &[Value], date: Option<NaiveDate>, field: &str, is: impl Fn(&Value) -> bool) -> Option<i64> {
    let date = json!(date?);
    Some(rows.iter().filter(|row| row["date"] == date && is(row)).map(|row| row[field].as_i64().unwrap()).sum())
}

fn segments(data: &Data, now: Time, is_filtered: bool) -> Value {
    let placed = second_segments::of_all(&records(data), now.with_timezone(&data.zone).date_naive());
    let group = |segment: &str| {
        let count = placed.iter().filter(|(.., is)| *is == segment).count();
        let of_all =
            || on_day(&data.segment_snapshots, data.snapshot_date, "customers", |row| row["segment"] == segment);
        let of_some = || data.previous_segments.iter().filter(|(_, of)| **of == segment).count();
        let then = match is_filtered {
            true => data.snapshot_date.map(|_| of_some() as i64),
            false => of_all(),
        };
        let mut group = counted_then(count, data.customers.len(), then);
        group["segment"] = json!(segment);
        group
    };
    json!({ "complete": true, "since": data.snapshot_date, "groups": SEGMENTS.map(group) })
}

fn health(data: &Data, period: &Period, now: Time, is_filtered: bool) -> Value {
    let (records, today) = (records(data), now.with_timezone(&data.zone).date_naive());
    // A score without a band counts as none.
    let score = |id: &Uuid| second_health::of(&records, *id, today).filter(|health| health.band().is_some());
    let scores: Vec<Option<i16>> = records.customers.iter().map(|id| score(id).map(|health| health.score)).collect();
    let dates = data.band_snapshots.iter().map(|row| row["date"].as_str().unwrap().parse::<NaiveDate>().unwrap());
    let local = |at: Time| at.with_timezone(&period.tz).date_naive();
    let last = local((period.to - Duration::microseconds(1)).max(period.from));
    let is_in = |date: &NaiveDate| *date >= local(period.from) && *date <= last && *date < today;
    let since = dates.filter(is_in).min().filter(|_| !is_filtered);
    let name = |score: Option<i16>| match score {
        None => "none",
        Some(..40) => "at_risk",
        Some(40..70) => "watch",
        Some(70..) => "healthy",
    };
    let band = |band: &str| {
        let count = scores.iter().filter(|score| name(**score) == band).count();
        let then = on_day(&data.band_snapshots, since, "customers", |row| row["band"] == band);
        let mut group = counted_then(count, scores.len(), then);
        group["band"] = json!(band);
        group
    };
    let known: Vec<f64> = scores.iter().flatten().map(|score| f64::from(*score)).collect();
    let then = |field: &str| on_day(&data.band_snapshots, since, field, |row| row["band"] != "none");
    let mean_then = then("customers").filter(|customers| *customers > 0);
    let mean_then = mean_then.map(|customers| then("health").unwrap() as f64 / customers as f64);
    json!({ "since": since, "mean_score": change(mean(&known), mean_then), "by_health": BANDS.map(band) })
}

/// The last ten answers.
pub fn latest_answers(data: &Data) -> Value {
    let mut answers: Vec<&Value> = data.feedback.iter().filter(|feedback| !feedback["answered_at"].is_null()).collect();
    answers.sort_by_key(|answer| Reverse((at(answer, "answered_at"), answer["id"].as_str())));
    answers.into_iter().take(10).map(|answer| answer["id"].clone()).collect()
}

/// The report on themes, without its quotes.
pub fn themes(data: &Data, (period, before): (&Period, &Period), now: Time) -> Value {
    let before = (before.from, before.to);
    let within = |period| -> Vec<&Value> {
        data.readings.iter().filter(|reading| is_in(reading, "answered_at", period)).collect()
    };
    let (present, then) = (within((period.from, period.to)), within(before));
    let ratings = |readings: &[&Value]| -> Vec<f64> {
        readings.iter().map(|reading| reading["rating"].as_f64().unwrap()).collect()
    };
    let place =
        |reading: &Value, theme: &Value| reading["themes"].as_array().unwrap().iter().position(|id| *id == theme["id"]);
    let (all, comments) = (ratings(&present), present.iter().filter(|reading| reading["commented"] == true).count());
    let all_mean = mean(&all).unwrap_or_default();
    let squares = mean(&all.iter().map(|rating| rating * rating).collect::<Vec<_>>()).unwrap_or_default();
    let deviation = (squares - all_mean * all_mean).max(0.0).sqrt();
    let mut told: Vec<(f64, Value)> = Vec::new();
    for theme in data.themes.iter().filter(|theme| theme["listed"] == true) {
        let of = |readings: &[&'_ Value]| readings.iter().filter(|reading| place(reading, theme).is_some()).count();
        let (mine, others): (Vec<&Value>, Vec<&Value>) =
            present.iter().partition(|reading| place(reading, theme).is_some());
        if mine.len() < 2 {
            continue;
        }
        let (n, m) = (mine.len() as f64, mean(&ratings(&mine)).unwrap());
        let d = if deviation > 1e-9 { (n * (m - all_mean) / ((n + 10.0) * deviation)).abs() } else { 0.0 };
        let words = if theme["key"].as_str().unwrap().contains(' ') { 2.0 } else { 1.0 };
        let weight = n * (comments as f64 / n).ln().max(0.1) * words * (1.0 + d);
        let moods =
            mine.iter().map(|reading| reading["moods"][place(reading, theme).unwrap()].as_f64().unwrap() / 100.0);
        told.push((
            weight,
            json!({
                "id": theme["id"], "label": theme["label"], "count": mine.len(), "share": rate(mine.len(), comments),
                "mean_rating": m, "sentiment": mean(&moods.collect::<Vec<_>>()),
                "change": change(Some(n), Some(of(&then) as f64)),
                "impact": mean(&ratings(&others)).map(|without| all_mean - without),
                "query": format!(
                    "/dev/crm/feedback?theme={}&answered_at[gte]={}&answered_at[lt]={}",
                    theme["id"].as_str().unwrap(),
                    period.from.to_rfc3339_opts(SecondsFormat::AutoSi, true),
                    period.to.to_rfc3339_opts(SecondsFormat::AutoSi, true),
                ),
            }),
        ));
    }
    // What weighs the same but for the last digits is in the order of the ids.
    told.sort_by_key(|(weight, theme)| {
        (Reverse((weight * 1e9).round() as i64), theme["id"].as_str().unwrap().to_owned())
    });
    json!({
        "as_of": now, "period": described(period), "answers": all.len(), "comments": comments, "mean_rating": mean(&all),
        "themes": told.into_iter().map(|(_, theme)| theme).collect::<Vec<_>>(),
    })
}

/// What happened last: of each kind the twenty last, and of these the twenty last.
fn activity(data: &Data) -> Vec<Value> {
    let text = |row: &Value, field: &str| row[field].as_str().unwrap_or_default().to_owned();
    let last = |rows: &[Value], by: &str| -> Vec<Value> {
        let mut rows = rows.to_vec();
        rows.sort_by_key(|row| Reverse((at(row, by), text(row, "id"))));
        rows.into_iter().take(20).collect()
    };
    let mut all: Vec<Value> = Vec::new();
    let mut tell = |rows: Vec<Value>, kind: &str, [lead, customer, summary]: [&str; 3]| {
        all.extend(rows.iter().map(|row| json!({
            "at": row["created_at"], "type": kind, "id": row["id"], "lead_id": row[lead], "customer_id": row[customer],
            "summary": row[summary],
        })));
    };
    tell(last(&data.leads, "created_at"), "lead_created", ["id", "", "name"]);
    tell(last(&data.customers, "created_at"), "customer_created", ["", "id", "name"]);
    tell(last(&data.orders, "created_at"), "order_created", ["", "customer_id", ""]);
    // Of interactions those that were made last, whatever time they bear.
    tell(last(&data.lead_interactions, ""), "lead_interaction", ["lead_id", "", "type"]);
    tell(last(&data.interactions, ""), "customer_interaction", ["", "customer_id", "subject"]);
    last(&all, "at")
}
