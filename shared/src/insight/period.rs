//! Periods of reports, divided into the intervals of a time zone's calendar.

mod calendar;
mod comparison;
mod named;
#[cfg(test)]
mod tests;

use chrono::{DateTime, Days, NaiveDate, Utc};
use chrono_tz::Tz;
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use crate::error::{Error, FieldError, Result};
use crate::query::parameters::Parameters;
use crate::values::dates::zone;
use crate::values::{Fault, Field, Time};

use named::Bounds;

pub use calendar::{Interval, instant_of, local, start_of};
pub use comparison::Compare;
pub use named::NamedPeriod;

/// The days of a period without `from`.
pub const DEFAULT_DAYS: u64 = 90;
/// The most intervals of a period.
pub const MAX_INTERVALS: usize = 1_000;

/// A half-open period: `from` is included, `to` is excluded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Period {
    /// The start, included.
    pub from: DateTime<Utc>,
    /// The end, excluded.
    pub to: DateTime<Utc>,
    /// The length of the intervals; `null` in reports that have none.
    pub interval: Option<Interval>,
    /// The IANA name of the time zone of dates and intervals.
    #[serde(serialize_with = "name")]
    #[schema(value_type = String)]
    pub tz: Tz,
    /// The time of the request.
    #[serde(skip)]
    now: Time,
}

/// An interval of a period: a day, week, month, quarter or year of its time zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = ReportInterval)]
pub struct Bucket {
    /// The start of the interval. The first one may start before the period.
    pub start: DateTime<Utc>,
    /// The end of the interval, excluded. The last one may end after the period.
    pub end: DateTime<Utc>,
    /// The name of the interval: `2026`, `2026-Q4`, `2026-10`, `2026-W41` or `2026-10-05`.
    pub label: String,
    /// Whether the start or the end of the period, or the present time, is within the interval, so that it is
    /// not counted as a whole.
    pub partial: bool,
}

/// A bound of a period as callers give it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bound {
    Instant(Time),
    /// The first instant of a date in the period's time zone.
    Date(NaiveDate),
}

/// The parameters of a period.
#[derive(Debug, Clone, Copy)]
pub struct PeriodParameters {
    from: Option<Bound>,
    to: Option<Bound>,
    named: Option<NamedPeriod>,
    interval: Option<Interval>,
    tz: Option<Tz>,
    compare: Option<Compare>,
}

/// A period, and the one that it is compared with.
pub type Compared = (Period, Option<Period>);

fn name<S: Serializer>(tz: &Tz, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(tz.name())
}

impl Bound {
    fn from_text(text: &str) -> Result<Self, Fault> {
        let time = Time::from_text(text)?;
        // No other form has as few characters as a date.
        Ok(if text.len() == "2026-10-05".len() { Self::Date(time.date_naive()) } else { Self::Instant(time) })
    }

    fn instant(self, tz: Tz) -> Time {
        match self {
            Self::Instant(time) => time,
            Self::Date(date) => start_of(date, tz).max(earliest()),
        }
    }
}

impl PeriodParameters {
    /// Takes `from`, `to`, `period`, `tz` and `compare`, and `interval` where the report has intervals.
    pub fn take(parameters: &mut Parameters<'_>, has_intervals: bool) -> Self {
        let taken = Self {
            from: parameters.take_as("from", Bound::from_text),
            to: parameters.take_as("to", Bound::from_text),
            named: parameters.take("period"),
            interval: has_intervals.then(|| parameters.take("interval").unwrap_or(Interval::Day)),
            tz: parameters.take_as("tz", zone),
            compare: parameters.take("compare"),
        };
        if taken.named.is_some() && (taken.from.is_some() || taken.to.is_some()) {
            let message = "must not be given together with `from` or `to`";
            parameters.refuse(FieldError::new("period", "invalid", message));
        }
        taken
    }

    /// The parameters in one form. Callers with the same parameters share a report, although a default `to`
    /// depends on the time of the request.
    pub fn key(&self, workspace_zone: Tz) -> String {
        let Self { from, to, named, interval, tz, compare } = self;
        format!("{from:?} {to:?} {named:?} {interval:?} {} {compare:?}", tz.unwrap_or(workspace_zone).name())
    }

    /// The period, and the one that it is compared with.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the period ends before it starts, or has too many intervals.
    pub fn resolve(&self, workspace_zone: Tz, now: Time) -> Result<Compared> {
        let (tz, interval) = (self.tz.unwrap_or(workspace_zone), self.interval);
        let period =
            |(from, to): Bounds| Period { from: from.max(earliest()), to: to.max(earliest()), interval, tz, now };
        let (from, to) = match self.named {
            Some(named) => named.bounds(now, tz),
            None => self.given_bounds(tz, now),
        };
        if from > to {
            return Err(Error::invalid("from", "out_of_range", "must not be after `to`, which defaults to now"));
        }
        let asked = period((from, to));
        if asked.starts().nth(MAX_INTERVALS).is_some() {
            let message = "would produce more than 1,000 intervals; use a longer interval or a shorter period";
            return Err(Error::invalid("interval", "out_of_range", message));
        }
        let comparison = self.compare.map(|compare| match (compare, self.named) {
            (Compare::Previous, Some(named)) => named.previous(now, tz),
            (Compare::Previous, None) => comparison::previous((asked.from, asked.to), tz),
            (Compare::YearAgo, _) => comparison::year_ago((asked.from, asked.to), tz),
        });
        Ok((asked, comparison.map(period)))
    }

    fn given_bounds(&self, tz: Tz, now: Time) -> Bounds {
        let to = self.to.map_or(now, |to| to.instant(tz));
        let days_before = || {
            let then = local(to, tz).checked_sub_days(Days::new(DEFAULT_DAYS));
            then.map_or(to, |then| instant_of(then, tz)).max(earliest())
        };
        (self.from.map_or_else(days_before, |from| from.instant(tz)), to)
    }

    /// The period before, whatever the period is compared with.
    ///
    /// # Errors
    /// Those of [`PeriodParameters::resolve`].
    pub fn before(&self, workspace_zone: Tz, now: Time) -> Result<Period> {
        let (period, before) = Self { compare: Some(Compare::Previous), ..*self }.resolve(workspace_zone, now)?;
        Ok(before.unwrap_or(period))
    }
}

impl Period {
    /// The intervals that overlap the period. The first may start before it, and the last end after it.
    pub fn buckets(&self) -> Vec<Bucket> {
        let Some(interval) = self.interval else { return Vec::new() };
        let bucket = |(first, start): (NaiveDate, Time)| {
            let end = interval.next_date(first).map_or(self.to, |next| start_of(next, self.tz));
            let is_cut = |by: Time| start < by && by < end;
            let partial = start < self.from || end > self.to || is_cut(self.now);
            Bucket { start, end, label: interval.label(first), partial }
        };
        self.firsts().map(bucket).collect()
    }

    /// The starts of the intervals, for `width_bucket`.
    pub fn bucket_starts(&self) -> Vec<Time> {
        self.starts().collect()
    }

    /// The period before it: the same number of local days, or else the same length.
    pub fn before(&self) -> Self {
        let (from, to) = comparison::previous((self.from, self.to), self.tz);
        Self { from: from.max(earliest()), to, ..self.clone() }
    }

    /// The same period in other intervals.
    fn in_intervals(&self, interval: Interval) -> Self {
        Self { interval: Some(interval), ..self.clone() }
    }

    /// The period in other intervals, from the start of the first one.
    pub fn in_whole(&self, interval: Interval) -> Self {
        let period = self.in_intervals(interval);
        Self { from: period.starts().next().unwrap_or(self.from), ..period }
    }

    /// The bounds of the calendar days that overlap the period: the first date, and the last.
    pub fn dates(&self) -> (NaiveDate, NaiveDate) {
        let last = (self.to - chrono::Duration::microseconds(1)).max(self.from);
        (local(self.from, self.tz).date(), local(last, self.tz).date())
    }

    fn starts(&self) -> impl Iterator<Item = Time> {
        self.firsts().map(|(_, start)| start)
    }

    /// The first date and the first instant of each interval.
    fn firsts(&self) -> impl Iterator<Item = (NaiveDate, Time)> {
        let (tz, from, to) = (self.tz, self.from, self.to);
        let dates = self.interval.map(|interval| {
            let first = interval.first_date(local(from, tz).date());
            std::iter::successors(Some(first), move |date| interval.next_date(*date))
        });
        let is_day = self.interval == Some(Interval::Day);
        dates
            .into_iter()
            .flatten()
            .map(move |date| (date, start_of(date, tz)))
            .take_while(move |(_, start)| *start < to)
            // A time zone may have skipped a day, which has no instant.
            .filter(move |(date, start)| !is_day || local(*start, tz).date() == *date)
    }
}

/// The earliest time that callers can pass.
fn earliest() -> Time {
    NaiveDate::from_ymd_opt(1, 1, 1).and_then(|date| date.and_hms_opt(0, 0, 0)).unwrap_or_default().and_utc()
}
