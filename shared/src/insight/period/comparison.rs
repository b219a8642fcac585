//! The period that a period is compared with.

use chrono::{Duration, Months};
use chrono_tz::Tz;

use super::calendar::{instant_of, local, start_of};
use super::named::Bounds;
use crate::string_enum;
use crate::values::Time;

string_enum! {
    /// What a period is compared with.
    Compare {
        /// The period before it.
        Previous = "previous",
        /// The same local dates a year earlier; 28 February for 29 February.
        YearAgo = "year_ago",
    }
}

/// The period before one that was given by its bounds: the same number of local days, or else the same
/// length, before it.
pub(super) fn previous((from, to): Bounds, tz: Tz) -> Bounds {
    match local_days((from, to), tz) {
        Some(days) if days > 0 => {
            let (start, length) = (local(from, tz), Duration::days(days));
            let is_midnight = start_of(start.date(), tz) == from;
            // A day that skips midnight begins later than others.
            let earlier = if is_midnight {
                start.date().checked_sub_signed(length).map(|date| start_of(date, tz))
            } else {
                start.checked_sub_signed(length).map(|time| instant_of(time, tz))
            };
            (earlier.unwrap_or(from), from)
        }
        _ => (from - (to - from), from),
    }
}

/// The number of local days between two times, if it is whole.
fn local_days((from, to): Bounds, tz: Tz) -> Option<i64> {
    let (start, end) = (local(from, tz), local(to, tz));
    let are_midnights = start_of(start.date(), tz) == from && start_of(end.date(), tz) == to;
    (are_midnights || start.time() == end.time()).then(|| (end.date() - start.date()).num_days())
}

/// The same local dates and times a year earlier.
pub(super) fn year_ago((from, to): Bounds, tz: Tz) -> Bounds {
    (a_year_before(from, tz), a_year_before(to, tz))
}

fn a_year_before(time: Time, tz: Tz) -> Time {
    let now = local(time, tz);
    if start_of(now.date(), tz) == time {
        return now.date().checked_sub_months(Months::new(12)).map_or(time, |date| start_of(date, tz));
    }
    now.checked_sub_months(Months::new(12)).map_or(time, |then| instant_of(then, tz))
}
