//! Periods with a name, such as `last_month`.

use chrono::{Days, NaiveDate};
use chrono_tz::Tz;

use super::calendar::{Interval, instant_of, local, start_of};
use crate::string_enum;
use crate::values::Time;

string_enum! {
    /// A period of the calendar of the time zone. Those of the present end now.
    NamedPeriod {
        /// The present day, up to now.
        Today = "today",
        /// The last 7 days, including today, up to now.
        Last7Days = "last_7_days",
        /// The last 30 days, including today, up to now.
        Last30Days = "last_30_days",
        /// The present month, up to now.
        ThisMonth = "this_month",
        /// The previous month.
        LastMonth = "last_month",
        /// The present quarter, up to now.
        ThisQuarter = "this_quarter",
        /// The previous quarter.
        LastQuarter = "last_quarter",
        /// The present year, up to now.
        ThisYear = "this_year",
        /// The previous year.
        LastYear = "last_year",
    }
}

/// How a named period follows from the present day.
#[derive(Debug, Clone, Copy)]
enum Shape {
    /// This many days, including the present one.
    Days(u64),
    /// The present interval.
    This(Interval),
    /// The previous interval.
    Last(Interval),
}

/// The start and the end of a period.
pub(super) type Bounds = (Time, Time);

impl NamedPeriod {
    fn shape(self) -> Shape {
        match self {
            Self::Today => Shape::This(Interval::Day),
            Self::Last7Days => Shape::Days(7),
            Self::Last30Days => Shape::Days(30),
            Self::ThisMonth => Shape::This(Interval::Month),
            Self::LastMonth => Shape::Last(Interval::Month),
            Self::ThisQuarter => Shape::This(Interval::Quarter),
            Self::LastQuarter => Shape::Last(Interval::Quarter),
            Self::ThisYear => Shape::This(Interval::Year),
            Self::LastYear => Shape::Last(Interval::Year),
        }
    }

    /// The bounds of the period.
    pub(super) fn bounds(self, now: Time, tz: Tz) -> Bounds {
        let today = local(now, tz).date();
        match self.shape() {
            Shape::Days(days) => (start_of(days_before(today, days - 1), tz), now),
            Shape::This(interval) => (start_of(interval.first_date(today), tz), now),
            Shape::Last(interval) => {
                let first = interval.first_date(today);
                (start_of(interval.previous_date(first, tz), tz), start_of(first, tz))
            }
        }
    }

    /// The calendar period before it. That of a present day, month, quarter or year ends at the same local
    /// day and time.
    pub(super) fn previous(self, now: Time, tz: Tz) -> Bounds {
        let time = local(now, tz);
        let today = time.date();
        match self.shape() {
            Shape::Days(days) => {
                (start_of(days_before(today, 2 * days - 1), tz), start_of(days_before(today, days - 1), tz))
            }
            Shape::This(interval) => {
                let first = interval.first_date(today);
                let end = instant_of(interval.one_earlier(time, tz), tz).min(start_of(first, tz));
                (start_of(interval.previous_date(first, tz), tz), end)
            }
            Shape::Last(interval) => {
                let first = interval.previous_date(interval.first_date(today), tz);
                (start_of(interval.previous_date(first, tz), tz), start_of(first, tz))
            }
        }
    }
}

fn days_before(date: NaiveDate, days: u64) -> NaiveDate {
    date.checked_sub_days(Days::new(days)).unwrap_or(date)
}
