//! What the second computations of figures have in common: counting, adding, sorting, and the calendar.

use chrono::{Datelike, Days, Duration, NaiveDate};
use rand::RngExt;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use shared::insight::period::{Interval, Period};
use shared::values::{Field, Time};

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

/// A period as callers ask for one, in one of some time zones.
pub fn parameters(random: &mut StdRng, now: Time) -> Vec<(String, String)> {
    let mut parameters = Vec::new();
    let mut give = |name: &str, value: String| parameters.push((name.to_owned(), value));
    let from = now - Duration::minutes(random.random_range(0..400 * 24 * 60));
    match random.random_range(0..4) {
        0 => {}
        1 => give("from", from.to_rfc3339()),
        2 => give("from", from.date_naive().to_string()),
        _ => {
            give("from", from.to_rfc3339());
            give("to", (from + Duration::minutes(random.random_range(0..300 * 24 * 60))).to_rfc3339());
        }
    }
    let zones = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Pacific/Apia", "Australia/Lord_Howe"];
    give("tz", zones[random.random_range(0..zones.len())].to_owned());
    give("interval", ["day", "week", "month"][random.random_range(0..3)].to_owned());
    parameters
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

/// The first date of the interval in which a time is, by the calendar of the period's time zone.
pub fn date_of(at: Time, period: &Period) -> NaiveDate {
    let date = at.with_timezone(&period.tz).date_naive();
    match period.interval {
        Interval::Day => date,
        Interval::Week => date - Days::new(u64::from(date.weekday().num_days_from_monday())),
        Interval::Month => date.with_day(1).unwrap(),
    }
}

/// The first dates of all intervals of a period.
pub fn dates(period: &Period) -> Vec<NaiveDate> {
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
pub fn start(date: NaiveDate, period: &Period) -> Time {
    let noon_before = (date - Days::new(1)).and_hms_opt(6, 0, 0).unwrap().and_utc();
    let quarters = (0..).map(|quarter| noon_before + Duration::minutes(15 * quarter));
    let mut quarters = quarters.skip_while(|at| at.with_timezone(&period.tz).date_naive() < date);
    quarters.next().unwrap()
}

pub fn by_interval(rows: &[&Value], period: &Period) -> Value {
    let of = |date: NaiveDate| {
        let count = rows.iter().filter(|row| date_of(at(row, "created_at").unwrap(), period) == date).count();
        json!({ "start": start(date, period), "count": count })
    };
    Value::Array(dates(period).into_iter().map(of).collect())
}

pub fn described(period: &Period) -> Value {
    json!({ "from": period.from, "to": period.to, "interval": period.interval, "tz": period.tz.name() })
}
