//! Periods of reports, divided into days, weeks or months of a time zone.

use chrono::{DateTime, Datelike, Days, Duration, Months, NaiveDate, Utc};
use chrono_tz::Tz;
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use crate::error::{Error, Result};
use crate::query::parameters::Parameters;
use crate::string_enum;
use crate::values::Time;
use crate::values::dates::zone;

pub use crate::values::dates::start_of;

/// The days of a period without `from`.
pub const DEFAULT_DAYS: i64 = 90;
/// The most intervals of a period.
pub const MAX_BUCKETS: usize = 1_000;
/// The names of the parameters.
pub const PARAMETERS: [&str; 4] = ["from", "to", "interval", "tz"];

string_enum! {
    /// The length of a period's intervals.
    Interval {
        /// Calendar days; the default.
        Day = "day",
        /// ISO 8601 weeks, which start on Monday.
        Week = "week",
        /// Calendar months.
        Month = "month",
    }
}

/// A half-open period: `from` is included, `to` is excluded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Period {
    /// The start, included.
    pub from: DateTime<Utc>,
    /// The end, excluded.
    pub to: DateTime<Utc>,
    /// The length of the intervals.
    pub interval: Interval,
    /// The IANA name of the time zone of the intervals.
    #[serde(serialize_with = "name")]
    #[schema(value_type = String)]
    pub tz: Tz,
    /// See [`Period::key`].
    #[serde(skip)]
    key: String,
}

/// The parameters of a period.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    from: Option<Time>,
    to: Option<Time>,
    interval: Interval,
    tz: Tz,
}

impl Asked {
    /// Takes [`PARAMETERS`].
    pub fn read(parameters: &mut Parameters<'_>) -> Self {
        Self {
            from: parameters.take("from"),
            to: parameters.take("to"),
            interval: parameters.take("interval").unwrap_or(Interval::Day),
            tz: parameters.take_as("tz", zone).unwrap_or(Tz::UTC),
        }
    }
}

fn name<S: Serializer>(tz: &Tz, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(tz.name())
}

impl Period {
    /// Parses `from`, `to`, `interval` and `tz`. The default is the last 90 days, in days of UTC.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every fault, including unknown parameters.
    pub fn parse(parameters: &[(String, String)], now: Time) -> Result<Self> {
        let mut parameters = Parameters::new(parameters);
        let asked = Asked::read(&mut parameters);
        parameters.finish()?;
        Self::new(asked, now)
    }

    /// Creates the period of these parameters.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the period ends before it starts, or has too many intervals.
    pub fn new(Asked { from, to, interval, tz }: Asked, now: Time) -> Result<Self> {
        let key = format!("{from:?} {to:?} {} {}", interval.as_str(), tz.name());
        let to = to.unwrap_or(now);
        let from = from.unwrap_or(to - Duration::days(DEFAULT_DAYS)).max(earliest());
        if from > to {
            return Err(Error::invalid("from", "out_of_range", "must not be after `to`, which defaults to now"));
        }
        let period = Self { from, to, interval, tz, key };
        if period.starts().nth(MAX_BUCKETS).is_some() {
            let message = "would produce more than 1,000 intervals; use a longer interval or a shorter period";
            return Err(Error::invalid("interval", "out_of_range", message));
        }
        Ok(period)
    }

    /// The parameters in one form. Callers with the same parameters share a report, although a default `to`
    /// depends on the time of the request.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The preceding period of the same length. It never starts before the year 1.
    pub fn before(&self) -> Self {
        let from = (self.from - (self.to - self.from)).max(earliest());
        Self { from, to: self.from, ..self.clone() }
    }

    /// The starts of the intervals that overlap the period, by the calendar of the time zone. The first may be
    /// before the period.
    pub fn buckets(&self) -> Vec<Time> {
        self.starts().collect()
    }

    /// The same period in calendar months.
    pub fn in_months(&self) -> Self {
        Self { interval: Interval::Month, ..self.clone() }
    }

    /// The length in days.
    pub fn days(&self) -> f64 {
        (self.to - self.from).as_seconds_f64() / 86_400.0
    }

    fn starts(&self) -> impl Iterator<Item = Time> {
        let first = self.interval.first_date(self.from.with_timezone(&self.tz).date_naive());
        let dates = std::iter::successors(Some(first), |date| self.interval.next_date(*date));
        let mut last = None;
        // In a time zone that skipped a day, two dates start at the same instant.
        dates
            .map(|date| start_of(date, self.tz))
            .take_while(|start| *start < self.to)
            .filter(move |start| last.replace(*start) != Some(*start))
    }
}

impl Interval {
    /// The first date of the interval that contains a date.
    fn first_date(self, date: NaiveDate) -> NaiveDate {
        match self {
            Self::Day => Some(date),
            Self::Week => date.checked_sub_days(Days::new(date.weekday().num_days_from_monday().into())),
            Self::Month => date.with_day(1),
        }
        .unwrap_or(date)
    }

    /// The first date of the interval after the one that starts on a date.
    fn next_date(self, date: NaiveDate) -> Option<NaiveDate> {
        match self {
            Self::Day => date.succ_opt(),
            Self::Week => date.checked_add_days(Days::new(7)),
            Self::Month => date.checked_add_months(Months::new(1)),
        }
    }
}

/// The earliest time that callers can pass.
fn earliest() -> Time {
    NaiveDate::from_ymd_opt(1, 1, 1).and_then(|date| date.and_hms_opt(0, 0, 0)).unwrap_or_default().and_utc()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::values::Field;

    fn time(text: &str) -> Time {
        Time::from_text(text).unwrap()
    }

    fn parse(parameters: &[(&str, &str)]) -> Result<Period> {
        let parameters: Vec<(String, String)> =
            parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Period::parse(&parameters, time("2026-11-25T13:00:00Z"))
    }

    fn starts(parameters: &[(&str, &str)]) -> Vec<String> {
        let buckets = parse(parameters).unwrap().buckets();
        buckets.into_iter().map(|start| start.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)).collect()
    }

    fn faults(parameters: &[(&str, &str)]) -> Vec<(String, String)> {
        match parse(parameters) {
            Err(Error::Invalid(errors)) => {
                errors.into_iter().map(|error| (error.field, error.code.into_owned())).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn without_parameters_it_is_the_last_90_days() {
        let period = parse(&[]).unwrap();
        assert_eq!((period.from, period.to), (time("2026-08-27T13:00:00Z"), time("2026-11-25T13:00:00Z")));
        assert_eq!((period.interval, period.tz, period.buckets().len()), (Interval::Day, Tz::UTC, 91));
        assert_eq!(
            serde_json::to_value(&period).unwrap(),
            serde_json::json!({ "from": "2026-08-27T13:00:00Z", "to": "2026-11-25T13:00:00Z", "interval": "day", "tz": "UTC" })
        );
    }

    #[test]
    fn the_preceding_period_has_the_same_length_and_ends_where_this_one_starts() {
        let before = parse(&[("from", "2026-01-10"), ("to", "2026-01-20")]).unwrap().before();
        assert_eq!((before.from, before.to), (time("2025-12-31"), time("2026-01-10")));
        let before = parse(&[("from", "0001-01-02"), ("to", "9999-12-31"), ("interval", "month")]);
        assert!(before.is_err(), "that many months are rejected");
    }

    #[test]
    fn all_faults_are_reported_at_once() {
        let wrong = [("from", "soon"), ("tz", "Mars"), ("intervall", "day"), ("interval", "year"), ("interval", "day")];
        let reported = faults(&wrong);
        let reported: Vec<_> = reported.iter().map(|(field, code)| (field.as_str(), code.as_str())).collect();
        assert_eq!(
            reported,
            [
                ("from", "invalid"),
                ("tz", "invalid"),
                ("intervall", "unknown"),
                ("interval", "invalid"),
                ("interval", "duplicate")
            ]
        );
        assert_eq!(faults(&[("from", "2026-11-26")])[0].0, "from");
        assert_eq!(faults(&[("from", "2020-01-01")])[0].0, "interval");
        assert_eq!(parse(&[("from", "2020-01-01"), ("interval", "week")]).unwrap().buckets().len(), 361);
        // An empty period is valid and has no intervals.
        assert_eq!(parse(&[("from", "2026-01-01"), ("to", "2026-01-01")]).unwrap().buckets().len(), 0);
    }

    #[test]
    fn days_have_23_or_25_hours_at_clock_changes() {
        let berlin = ("tz", "Europe/Berlin");
        assert_eq!(
            starts(&[berlin, ("from", "2026-03-28T12:00:00Z"), ("to", "2026-03-30T12:00:00Z")]),
            ["2026-03-27T23:00:00Z", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"]
        );
        assert_eq!(
            starts(&[berlin, ("from", "2026-10-25T00:00:00Z"), ("to", "2026-10-26T00:00:00Z")]),
            ["2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"]
        );
    }

    #[test]
    fn a_day_without_midnight_starts_at_its_first_instant() {
        // Lebanon changes to summer time at midnight.
        let beirut = [("tz", "Asia/Beirut"), ("from", "2025-03-29T12:00:00Z"), ("to", "2025-03-30T12:00:00Z")];
        assert_eq!(starts(&beirut), ["2025-03-28T22:00:00Z", "2025-03-29T22:00:00Z"]);
        // Samoa had no 30 December in 2011.
        let apia = [("tz", "Pacific/Apia"), ("from", "2011-12-29T12:00:00Z"), ("to", "2011-12-31T12:00:00Z")];
        assert_eq!(starts(&apia), ["2011-12-29T10:00:00Z", "2011-12-30T10:00:00Z", "2011-12-31T10:00:00Z"]);
    }

    #[test]
    fn weeks_start_on_monday_and_months_on_the_first() {
        assert_eq!(
            starts(&[("interval", "week"), ("from", "2026-11-22"), ("to", "2026-11-24")]),
            ["2026-11-16T00:00:00Z", "2026-11-23T00:00:00Z"]
        );
        assert_eq!(
            starts(&[("interval", "month"), ("from", "2026-01-31"), ("to", "2026-03-02")]),
            ["2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z"]
        );
    }
}
