//! Dates as instants: the midnight of a date in a time zone.

use chrono::{DateTime, Duration, NaiveDate, NaiveDateTime, NaiveTime, TimeZone, Utc};
use chrono_tz::Tz;

use super::{Fault, Field, Time};

/// Parses the IANA name of a time zone.
///
/// # Errors
/// A [`Fault`] for any other text.
pub fn zone(text: &str) -> Result<Tz, Fault> {
    text.parse().map_err(|_| Fault::new("invalid", "must be a time zone such as Europe/Berlin"))
}

/// Parses a time, or a bare date, which is its midnight in the time zone.
///
/// # Errors
/// A [`Fault`] for any other text.
pub fn time_in(text: &str, tz: Tz) -> Result<Time, Fault> {
    match bare_date(text) {
        Some(date) => in_range(start_of(date, tz)),
        None => Time::from_text(text),
    }
}

/// A date in the form `YYYY-MM-DD`. The parser also takes blanks and signs.
pub(super) fn bare_date(text: &str) -> Option<NaiveDate> {
    let is_part = |(at, byte): (usize, u8)| if at == 4 || at == 7 { byte == b'-' } else { byte.is_ascii_digit() };
    let is_date = text.len() == 10 && text.bytes().enumerate().all(is_part);
    if is_date { NaiveDate::parse_from_str(text, "%Y-%m-%d").ok() } else { None }
}

/// Checks that PostgreSQL, JSON and CSV all hold a time: four-digit years, microseconds, and no leap second,
/// which becomes the first one after it.
pub(crate) fn in_range(time: Time) -> Result<Time, Fault> {
    DateTime::from_timestamp_micros(time.timestamp_micros())
        .filter(|time| (1..=9999).contains(&chrono::Datelike::year(time)))
        .ok_or_else(|| Fault::new("out_of_range", "must have a year from 1 to 9999"))
}

/// The first instant of a date in a time zone. If a clock change skips midnight, that is the instant of the
/// change; if midnight occurs twice, the first.
pub fn start_of(date: NaiveDate, tz: Tz) -> Time {
    instant_of(date.and_time(NaiveTime::MIN), tz)
}

/// The first instant with a local time, or the instant of the clock change that skips it.
pub fn instant_of(local: NaiveDateTime, tz: Tz) -> Time {
    match tz.from_local_datetime(&local).earliest() {
        Some(instant) => instant.to_utc(),
        None => after_gap(local, tz),
    }
}

/// The instant of the clock change that skips a local time.
fn after_gap(local: NaiveDateTime, tz: Tz) -> Time {
    // No offset is as large as a day, so the instant is between these.
    let (mut before, mut after) = (local.and_utc() - Duration::days(2), local.and_utc() + Duration::days(2));
    while after - before > Duration::seconds(1) {
        let middle = before + Duration::seconds((after - before).num_seconds() / 2);
        match tz.from_utc_datetime(&middle.naive_utc()).naive_local() < local {
            true => before = middle,
            false => after = middle,
        }
    }
    DateTime::<Utc>::from_timestamp(after.timestamp(), 0).unwrap_or(after)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_date_is_its_midnight_in_the_time_zone() {
        for (text, tz, time) in [
            ("2026-01-15", Tz::UTC, "2026-01-15T00:00:00Z"),
            ("2026-01-15", Tz::Europe__Berlin, "2026-01-14T23:00:00Z"),
            ("2026-07-15", Tz::Europe__Berlin, "2026-07-14T22:00:00Z"),
            ("2026-07-15", Tz::America__New_York, "2026-07-15T04:00:00Z"),
            // Midnight was skipped.
            ("2018-11-04", Tz::America__Sao_Paulo, "2018-11-04T03:00:00Z"),
            ("2026-01-15T10:00:00+01:00", Tz::America__New_York, "2026-01-15T09:00:00Z"),
        ] {
            assert_eq!(time_in(text, tz), Time::from_text(time), "{text} {tz}");
        }
        for text in ["2026-02-30", "2026-1-15", "+026-01-15", " 2026-01-15", "today", "0000-01-01"] {
            assert!(time_in(text, Tz::Europe__Berlin).is_err(), "{text}");
        }
        assert_eq!(zone("Europe/Berlin"), Ok(Tz::Europe__Berlin));
        assert!(zone("Berlin").is_err() && zone("").is_err());
    }
}
