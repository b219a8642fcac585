//! Intervals at which something is repeated, as ISO 8601 durations.

use chrono::TimeDelta;
use utoipa::openapi::{Object, ObjectBuilder, Type};

use super::json_schema::Shape;
use super::{Fault, Field};

/// The shortest interval.
const LEAST: TimeDelta = TimeDelta::minutes(1);
/// The longest interval.
const MOST: TimeDelta = TimeDelta::days(3_660);
/// The longest text.
const MAX_LENGTH: usize = 40;

/// An interval of elapsed time, from a minute to 3,660 days: `PT15M`, `P1DT12H`, `P2W`. A day is 24 hours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Every {
    text: String,
    length: TimeDelta,
}

impl Every {
    /// The duration as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// How long the interval is.
    pub fn length(&self) -> TimeDelta {
        self.length
    }
}

impl Field for Every {
    fn from_text(text: &str) -> Result<Self, Fault> {
        let invalid = || {
            Fault::new(
                "invalid",
                "must be an ISO 8601 duration in weeks, days, hours, minutes and seconds, such as PT15M",
            )
        };
        let length = Some(text).filter(|text| text.len() <= MAX_LENGTH).and_then(seconds).ok_or_else(invalid)?;
        match TimeDelta::try_seconds(length).filter(|length| (LEAST..=MOST).contains(length)) {
            Some(length) => Ok(Self { text: text.to_owned(), length }),
            None => Err(Fault::new("out_of_range", "must be from PT1M to P3660D")),
        }
    }
}

/// The seconds of a duration, saturating; `None` for any other text, and for months and years, which have no
/// fixed length.
fn seconds(text: &str) -> Option<i64> {
    let (date, time) = match text.strip_prefix('P')?.split_once('T') {
        Some((date, time)) if !time.is_empty() => (date, time),
        Some(_) => return None,
        None => (text.strip_prefix('P')?, ""),
    };
    if date.is_empty() && time.is_empty() {
        return None;
    }
    let date = sum(date, &[('W', 7 * 86_400), ('D', 86_400)])?;
    Some(date.saturating_add(sum(time, &[('H', 3_600), ('M', 60), ('S', 1)])?))
}

/// The sum of whole numbers, each with one of these units, in their order.
fn sum(mut text: &str, units: &[(char, i64)]) -> Option<i64> {
    let mut sum: i64 = 0;
    for (unit, seconds) in units {
        if let Some((number, rest)) = text.split_once(*unit) {
            let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
            let number: i64 = is_number.then(|| number.parse().unwrap_or(i64::MAX))?;
            sum = sum.saturating_add(number.saturating_mul(*seconds));
            text = rest;
        }
    }
    text.is_empty().then_some(sum)
}

impl Shape for Every {
    fn shape() -> Object {
        ObjectBuilder::new().schema_type(Type::String).max_length(Some(MAX_LENGTH)).build()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_elapsed_time() {
        for (text, seconds) in [
            ("PT1M", 60),
            ("PT90S", 90),
            ("PT1H30M", 5_400),
            ("P1D", 86_400),
            ("P1DT12H", 129_600),
            ("P2W", 1_209_600),
            ("P1W1D", 691_200),
            ("P3660D", 316_224_000),
        ] {
            assert_eq!(Every::from_text(text).unwrap().length(), TimeDelta::seconds(seconds), "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "P",
            "PT",
            "P1DT",
            "1D",
            "PT1H30",
            "P1M",
            "P1Y",
            "PT1M1H",
            "PT1.5H",
            "-PT5M",
            "PT-5M",
            "pt5m",
            "P1D1W",
            "15 minutes",
        ] {
            assert_eq!(Every::from_text(text).unwrap_err().code, "invalid", "{text}");
        }
        for text in ["PT59S", "PT0M", "P3661D", "P99999999999999999999D", "PT59.5S"] {
            let code = Every::from_text(text).unwrap_err().code;
            assert_eq!(code, if text.contains('.') { "invalid" } else { "out_of_range" }, "{text}");
        }
    }
}
