//! The calendar of a time zone: when its days, weeks, months, quarters and years begin.

use chrono::{Datelike, Days, Duration, Months, NaiveDate, NaiveDateTime};
use chrono_tz::Tz;

use crate::string_enum;
use crate::values::Time;

pub use crate::values::dates::{instant_of, start_of};

string_enum! {
    /// The length of a period's intervals.
    Interval {
        /// Calendar days; the default.
        Day = "day",
        /// ISO 8601 weeks, which start on Monday.
        Week = "week",
        /// Calendar months.
        Month = "month",
        /// Quarters, which start in January, April, July and October.
        Quarter = "quarter",
        /// Calendar years.
        Year = "year",
    }
}

impl Interval {
    /// The first date of the interval that contains a date.
    pub fn first_date(self, date: NaiveDate) -> NaiveDate {
        match self {
            Self::Day => Some(date),
            Self::Week => date.checked_sub_days(Days::new(date.weekday().num_days_from_monday().into())),
            Self::Month => date.with_day(1),
            Self::Quarter => NaiveDate::from_ymd_opt(date.year(), date.month0() / 3 * 3 + 1, 1),
            Self::Year => NaiveDate::from_ymd_opt(date.year(), 1, 1),
        }
        .unwrap_or(date)
    }

    /// The first date of the interval after the one that starts on a date.
    pub fn next_date(self, first: NaiveDate) -> Option<NaiveDate> {
        match self {
            Self::Day => first.succ_opt(),
            Self::Week => first.checked_add_days(Days::new(7)),
            Self::Month => first.checked_add_months(Months::new(1)),
            Self::Quarter => first.checked_add_months(Months::new(3)),
            Self::Year => first.checked_add_months(Months::new(12)),
        }
    }

    /// The first date of the interval that ends where the one that starts on a date begins. In a time zone
    /// that skipped a day, that is not always the previous date.
    pub(super) fn previous_date(self, first: NaiveDate, tz: Tz) -> NaiveDate {
        self.first_date(local(start_of(first, tz) - Duration::microseconds(1), tz).date())
    }

    /// The same local time in the previous interval. A day that the previous month does not have becomes its
    /// last day.
    pub(super) fn one_earlier(self, time: NaiveDateTime, tz: Tz) -> NaiveDateTime {
        match self {
            Self::Day => Some(self.previous_date(time.date(), tz).and_time(time.time())),
            Self::Week => time.checked_sub_days(Days::new(7)),
            Self::Month => time.checked_sub_months(Months::new(1)),
            Self::Quarter => time.checked_sub_months(Months::new(3)),
            Self::Year => time.checked_sub_months(Months::new(12)),
        }
        .unwrap_or(time)
    }

    /// The name of the interval that starts on a date, such as `2026-Q4`.
    pub fn label(self, first: NaiveDate) -> String {
        match self {
            Self::Day => first.format("%Y-%m-%d").to_string(),
            Self::Week => first.format("%G-W%V").to_string(),
            Self::Month => first.format("%Y-%m").to_string(),
            Self::Quarter => format!("{}-Q{}", first.format("%Y"), first.month0() / 3 + 1),
            Self::Year => first.format("%Y").to_string(),
        }
    }
}

/// The local date and time of an instant.
pub fn local(time: Time, tz: Tz) -> NaiveDateTime {
    time.with_timezone(&tz).naive_local()
}
