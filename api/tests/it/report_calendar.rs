//! A second computation of periods and their intervals, by looking at each day and each quarter of an hour.

use chrono::{DateTime, Datelike, Days, Duration, Months, NaiveDate, NaiveDateTime, NaiveTime, Utc};
use chrono_tz::Tz;
use serde_json::{Value, json};
use shared::insight::period::{Interval, Period};
use shared::insight::request::Request;
use shared::values::Time;

use crate::report_helpers::{at, time};

/// The first date of the interval in which a date is.
fn first_of(date: NaiveDate, interval: Interval) -> NaiveDate {
    match interval {
        Interval::Day => date,
        Interval::Week => date - Days::new(u64::from(date.weekday().num_days_from_monday())),
        Interval::Month => date.with_day(1).unwrap(),
        Interval::Quarter => date.with_day(1).unwrap().with_month([1, 4, 7, 10][date.month0() as usize / 3]).unwrap(),
        Interval::Year => date.with_ordinal(1).unwrap(),
    }
}

/// The first date of the interval in which a time is, by the calendar of the period's time zone.
pub fn date_of(at: Time, period: &Period) -> NaiveDate {
    first_of(at.with_timezone(&period.tz).date_naive(), period.interval.unwrap_or(Interval::Day))
}

/// The first dates of all intervals of a period.
pub fn dates(period: &Period) -> Vec<NaiveDate> {
    let interval = period.interval.unwrap_or(Interval::Day);
    let (first, last) = (date_of(period.from, period), date_of(period.to - Duration::microseconds(1), period));
    let all = first.iter_days().take_while(|date| *date <= last);
    all.filter(|date| first_of(*date, interval) == *date).collect()
}

/// When a date begins, found by looking at each quarter of an hour.
pub fn start(date: NaiveDate, tz: Tz) -> Time {
    let noon_before = (date - Days::new(1)).and_hms_opt(6, 0, 0).unwrap().and_utc();
    let quarters = (0..).map(|quarter| noon_before + Duration::minutes(15 * quarter));
    let mut quarters = quarters.skip_while(|at| at.with_timezone(&tz).date_naive() < date);
    quarters.next().unwrap()
}

/// The interval that begins on a date.
pub fn interval(first: NaiveDate, period: &Period, now: Time) -> Value {
    let interval = period.interval.unwrap();
    let next = first.iter_days().skip(1).find(|date| first_of(*date, interval) == *date).unwrap();
    let (begins, ends) = (start(first, period.tz), start(next, period.tz));
    let label = match interval {
        Interval::Day => first.to_string(),
        Interval::Week => format!("{}-W{:02}", first.iso_week().year(), first.iso_week().week()),
        Interval::Month => first.to_string()[..7].to_owned(),
        Interval::Quarter => format!("{}-Q{}", first.year(), first.month().div_ceil(3)),
        Interval::Year => first.year().to_string(),
    };
    let partial = begins < period.from || period.to < ends || (begins < now && now < ends);
    json!({ "start": begins, "end": ends, "label": label, "partial": partial })
}

/// The number of rows in each interval.
pub fn by_interval(rows: &[&Value], field: &str, period: &Period, now: Time) -> Value {
    let of = |date: NaiveDate| {
        let count = rows.iter().filter(|row| date_of(at(row, field).unwrap(), period) == date).count();
        let mut row = interval(date, period, now);
        row["count"] = json!(count);
        row
    };
    Value::Array(dates(period).into_iter().map(of).collect())
}

/// The first instant with a local time, or the first one after it, found by looking at each quarter of an hour.
fn instant(local: NaiveDateTime, tz: Tz) -> Time {
    let midnight = (local.date() - Days::new(1)).and_time(NaiveTime::MIN).and_utc();
    let quarters = (0..).map(|quarter| midnight + Duration::minutes(15 * quarter));
    let in_zone = |at: &DateTime<Utc>| at.with_timezone(&tz).naive_local();
    let after = quarters.into_iter().find(|at| in_zone(at) >= local).unwrap();
    // Within the quarter, if the clock did not change in it.
    let exact = after - (in_zone(&after) - local);
    if in_zone(&exact) == local { exact } else { after }
}

fn earlier(at: Time, months: u32, tz: Tz) -> Time {
    let local = at.with_timezone(&tz).naive_local();
    if start(local.date(), tz) == at {
        return start(local.date() - Months::new(months), tz);
    }
    instant(local - Months::new(months), tz)
}

/// Asserts that the periods of a request are what its parameters ask for.
pub fn assert_periods(place: &str, request: &Request, pairs: &[(String, String)], zone: Tz, now: Time) {
    let given = |name: &str| pairs.iter().find(|(of, _)| of == name).map(|(_, value)| value.as_str());
    let tz: Tz = given("tz").map_or(zone, |name| name.parse().unwrap());
    let today = now.with_timezone(&tz).date_naive();
    let bound = |text: &str| match text.parse::<NaiveDate>() {
        Ok(date) => start(date, tz),
        Err(_) => time(text),
    };
    let first = |interval| first_of(today, interval);
    let (month, quarter, year) = (first(Interval::Month), first(Interval::Quarter), first(Interval::Year));
    let begin = |date| start(date, tz);
    let days = |count: u64| begin(today - Days::new(count));
    let back = |date: NaiveDate, months| begin(date - Months::new(months));
    let to = given("to").map_or(now, bound);
    let (from, to, previous) = match given("period") {
        None => {
            let default = instant(to.with_timezone(&tz).naive_local() - Days::new(90), tz);
            (given("from").map_or(default, bound), to, None)
        }
        Some("today") => {
            (days(0), now, Some((days(1), instant(now.with_timezone(&tz).naive_local() - Days::new(1), tz))))
        }
        Some("last_7_days") => (days(6), now, Some((days(13), days(6)))),
        Some("last_30_days") => (days(29), now, Some((days(59), days(29)))),
        Some("this_month") => (begin(month), now, Some((back(month, 1), earlier(now, 1, tz)))),
        Some("this_quarter") => (begin(quarter), now, Some((back(quarter, 3), earlier(now, 3, tz)))),
        Some("this_year") => (begin(year), now, Some((back(year, 12), earlier(now, 12, tz)))),
        Some("last_month") => (back(month, 1), begin(month), Some((back(month, 2), back(month, 1)))),
        Some("last_quarter") => (back(quarter, 3), begin(quarter), Some((back(quarter, 6), back(quarter, 3)))),
        Some("last_year") => (back(year, 12), begin(year), Some((back(year, 24), back(year, 12)))),
        Some(other) => panic!("{other}"),
    };
    let expected = match given("compare") {
        None => None,
        Some("year_ago") => Some((earlier(from, 12, tz), earlier(to, 12, tz))),
        Some(_) => previous.or_else(|| Some((before(from, to, tz), from))),
    };
    let found: Vec<(Time, Time)> = request.periods.iter().map(|period| (period.from, period.to)).collect();
    let expected: Vec<(Time, Time)> = std::iter::once((from, to)).chain(expected).collect();
    assert_eq!(found, expected, "{place}: {pairs:?}");
}

/// The start of the period before, with as many local days, or else of the same length.
fn before(from: Time, to: Time, tz: Tz) -> Time {
    let (begin, end) = (from.with_timezone(&tz).naive_local(), to.with_timezone(&tz).naive_local());
    let days = (end.date() - begin.date()).num_days();
    let (are_midnights, is_midnight) =
        (start(begin.date(), tz) == from && start(end.date(), tz) == to, start(begin.date(), tz) == from);
    match days {
        1.. if is_midnight && (are_midnights || begin.time() == end.time()) => {
            start(begin.date() - Duration::days(days), tz)
        }
        1.. if begin.time() == end.time() => instant(begin - Duration::days(days), tz),
        _ => from - (to - from),
    }
}
