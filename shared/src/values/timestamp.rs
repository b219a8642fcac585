//! Points in time as text, written without the general formatter, whose cost shows in large files.

use std::fmt::{self, Display, Formatter};

use chrono::{DateTime, Datelike, SecondsFormat, Timelike, Utc};

/// Displays a time in RFC 3339, in UTC and microseconds: `2026-01-15T10:00:00.000000Z`.
#[derive(Debug, Clone, Copy)]
pub struct Micros(pub DateTime<Utc>);

impl Display for Micros {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.plain() {
            Some(text) => f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?),
            None => f.write_str(&self.0.to_rfc3339_opts(SecondsFormat::Micros, true)),
        }
    }
}

impl Micros {
    /// The text of a time in a year of four digits that is in no leap second.
    fn plain(self) -> Option<[u8; 27]> {
        let time = self.0.naive_utc();
        let year = u32::try_from(time.year()).ok().filter(|year| *year <= 9_999)?;
        let micros = time.nanosecond() / 1_000;
        if micros >= 1_000_000 {
            return None;
        }
        let mut text = *b"0000-00-00T00:00:00.000000Z";
        let parts = [
            (0..4, year),
            (5..7, time.month()),
            (8..10, time.day()),
            (11..13, time.hour()),
            (14..16, time.minute()),
            (17..19, time.second()),
            (20..26, micros),
        ];
        for (place, mut number) in parts {
            for digit in text[place].iter_mut().rev() {
                *digit += (number % 10) as u8;
                number /= 10;
            }
        }
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_time_is_written_as_by_the_general_formatter(seconds in -100_000_000_000_i64..300_000_000_000, nanos in 0_u32..2_000_000_000) {
            if let Some(time) = DateTime::from_timestamp(seconds, nanos) {
                prop_assert_eq!(Micros(time).to_string(), time.to_rfc3339_opts(SecondsFormat::Micros, true));
            }
        }
    }
}
