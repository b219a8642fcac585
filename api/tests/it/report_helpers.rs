//! What the second computations of figures have in common: requests, counting, adding and sorting.

use std::collections::HashMap;

use chrono::Duration;
use chrono_tz::Tz;
use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use serde_json::{Value, json};
use shared::insight::filters::FilterBy;
use shared::insight::period::{Compare, Interval, NamedPeriod, Period};
use shared::insight::reports::{Compared, Report};
use shared::insight::request::Request;
use shared::insight::table::Format;
use shared::platform::db;
use shared::values::{Field, Time};
use sqlx::PgConnection;
use uuid::Uuid;

pub use crate::report_calendar::{by_interval, date_of, dates, interval};

pub fn time(text: &str) -> Time {
    Time::from_text(text).unwrap()
}

/// Asserts that two answers are the same, but for the last digits of what was divided.
pub fn assert_same(place: &str, ours: &Value, theirs: &Value) {
    match (ours, theirs) {
        (Value::Object(ours), Value::Object(theirs)) => {
            let (mut names, mut expected): (Vec<_>, Vec<_>) = (ours.keys().collect(), theirs.keys().collect());
            names.sort();
            expected.sort();
            assert_eq!(names, expected, "{place}");
            ours.iter().for_each(|(name, value)| assert_same(&format!("{place}.{name}"), value, &theirs[name]));
        }
        (Value::Array(ours), Value::Array(theirs)) => {
            assert_eq!(ours.len(), theirs.len(), "{place}");
            let pairs = ours.iter().zip(theirs).enumerate();
            pairs.for_each(|(i, (ours, theirs))| assert_same(&format!("{place}[{i}]"), ours, theirs));
        }
        (Value::Number(ours), Value::Number(theirs)) => {
            let (ours, theirs) = (ours.as_f64().unwrap(), theirs.as_f64().unwrap());
            assert!((ours - theirs).abs() <= 1e-9 * theirs.abs().max(1.0), "{place}: {ours} is not {theirs}");
        }
        _ => assert_eq!(ours, theirs, "{place}"),
    }
}

/// The zones of workspaces and requests: with whole and half hours, and with changed rules.
pub const ZONES: [&str; 8] = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Asia/Kolkata",
    "Pacific/Apia",
    "Australia/Lord_Howe",
    "America/Sao_Paulo",
    "Asia/Kathmandu",
];

/// The parameters of a request, as callers give them.
pub type Pairs = Vec<(String, String)>;

/// Random parameters of a report. The values of filters by owner and category are some of these.
pub fn parameters<R: Report>(random: &mut StdRng, now: Time, owners: &[Uuid], categories: &[&str]) -> Pairs {
    let mut pairs = Pairs::new();
    let mut give = |name: &str, value: String| pairs.push((name.to_owned(), value));
    if R::OFFERS.period {
        let from = now - Duration::minutes(random.random_range(0..400 * 24 * 60));
        let to = from + Duration::minutes(random.random_range(0..300 * 24 * 60));
        match random.random_range(0..6) {
            0 => {}
            1 => give("from", from.to_rfc3339()),
            2 => give("from", from.date_naive().to_string()),
            3 => {
                give("from", from.to_rfc3339());
                give("to", to.to_rfc3339());
            }
            4 => {
                give("from", from.date_naive().to_string());
                give("to", (to + Duration::days(1)).date_naive().to_string());
            }
            _ => give("period", NamedPeriod::WORDS.choose(random).unwrap().to_string()),
        }
        if random.random_bool(0.7) {
            give("tz", ZONES.choose(random).unwrap().to_string());
        }
        if random.random_bool(0.5) {
            give("compare", Compare::WORDS.choose(random).unwrap().to_string());
        }
    }
    if R::OFFERS.interval && random.random_bool(0.8) {
        give("interval", Interval::WORDS.choose(random).unwrap().to_string());
    }
    for by in R::OFFERS.filters {
        if random.random_bool(0.7) {
            continue;
        }
        let values: Vec<String> = match by {
            FilterBy::AssignedTo => owners.iter().map(Uuid::to_string).chain(["null".to_owned()]).collect(),
            FilterBy::Category => categories.iter().map(|name| (*name).to_owned()).chain(["null".to_owned()]).collect(),
            _ => by.words().unwrap().iter().map(|word| (*word).to_owned()).collect(),
        };
        for _ in 0..random.random_range(1..=values.len()) {
            give(by.name(), values.choose(random).unwrap().clone());
        }
    }
    pairs
}

pub fn request<R: Report>(pairs: &[(String, String)], zone: Tz, now: Time) -> Request {
    Request::parse(&R::OFFERS, Format::Json, pairs, zone, now).unwrap()
}

pub fn pairs(parameters: &[(&str, &str)]) -> Pairs {
    parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// A report as callers see it.
pub async fn figures<R: Report>(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    now: Time,
    (report, request): (R, &Request),
) -> Value {
    let all = report.compute(connection, workspace_id, now, request).await.unwrap();
    serde_json::to_value(Compared::new(all).unwrap()).unwrap()
}

/// A report with its comparison, from the second computation of the figures of a period.
pub fn compared(request: &Request, of: impl Fn(&Period, &Period) -> Value) -> Value {
    let mut parts = request.with_those_before().map(|(period, before)| of(period, before));
    let mut report = parts.next().unwrap();
    if let Some(comparison) = parts.next() {
        report["comparison"] = comparison;
    }
    report
}

/// The values of each filter of a request.
pub fn filters(pairs: &[(String, String)]) -> HashMap<&str, Vec<&str>> {
    let mut filters: HashMap<&str, Vec<&str>> = HashMap::new();
    for (name, value) in pairs {
        if !["from", "to", "period", "tz", "compare", "interval"].contains(&name.as_str()) {
            filters.entry(name).or_default().push(value);
        }
    }
    filters
}

/// Whether a field has one of the values of a filter, if the request has that filter.
pub fn passes(filters: &HashMap<&str, Vec<&str>>, name: &str, field: Option<&str>) -> bool {
    filters.get(name).is_none_or(|values| values.contains(&field.unwrap_or("null")))
}

/// Makes a workspace with a time zone.
pub async fn insert_workspace(connection: &mut PgConnection, id: Uuid, zone: Tz) {
    sqlx::query("INSERT INTO workspaces (id, name, created_at) VALUES ($1, $2, $3)")
        .bind(id)
        .bind(id.to_string())
        .bind(db::now())
        .execute(&mut *connection)
        .await
        .unwrap();
    sqlx::query("INSERT INTO settings (workspace_id, fields, updated_at) VALUES ($1, $2, $3)")
        .bind(id)
        .bind(json!({ "time_zone": zone.name() }))
        .bind(db::now())
        .execute(connection)
        .await
        .unwrap();
}

pub fn at(row: &Value, field: &str) -> Option<Time> {
    row[field].as_str().map(time)
}

/// Some of the words, each by a chance.
pub fn some<'a>(random: &mut StdRng, words: &[&'a str], chance: f64) -> Vec<&'a str> {
    words.iter().copied().filter(|_| random.random_bool(chance)).collect()
}

pub fn is_in(row: &Value, field: &str, (from, to): (Time, Time)) -> bool {
    at(row, field).is_some_and(|at| from <= at && at < to)
}

pub fn rate(numerator: usize, denominator: usize) -> Value {
    let rate = (denominator > 0).then(|| numerator as f64 / denominator as f64);
    json!({ "numerator": numerator, "denominator": denominator, "rate": rate })
}

pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

pub fn median(values: &[f64]) -> Option<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        n if n % 2 == 1 => Some(values[middle]),
        _ => Some((values[middle - 1] + values[middle]) / 2.0),
    }
}

pub fn spread(values: &[f64]) -> Value {
    json!({ "mean": mean(values), "median": median(values) })
}

pub fn counted<'a>(rows: impl IntoIterator<Item = &'a Value> + Clone, field: &str, words: &[&str]) -> Value {
    let count =
        |word: &&str| (word.to_string(), json!(rows.clone().into_iter().filter(|row| row[field] == **word).count()));
    Value::Object(words.iter().map(count).collect())
}

pub fn described(period: &Period) -> Value {
    json!({ "from": period.from, "to": period.to, "interval": period.interval, "tz": period.tz.name() })
}
