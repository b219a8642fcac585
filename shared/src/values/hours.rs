//! Hours of a day and days of the week.

use std::fmt;

use chrono::{NaiveTime, Timelike, Weekday};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use utoipa::openapi::{Object, ObjectBuilder, Type};

use super::json_schema::Shape;
use super::{Fault, Field};
use crate::string_enum;

/// Parses a time of day in the form `HH:MM`.
pub fn time_of_day(text: &str) -> Option<NaiveTime> {
    let digits = |text: &str| text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
    let (hour, minute) = text.split_once(':').filter(|(hour, minute)| digits(hour) && digits(minute))?;
    NaiveTime::from_hms_opt(hour.parse().ok()?, minute.parse().ok()?, 0)
}

/// Hours of a day in the form `09:00-17:00`. They end before the second time, on the next day if that is not
/// after the first: `22:00-06:00`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hours {
    /// The first time.
    pub from: NaiveTime,
    /// The time at which they end.
    pub to: NaiveTime,
}

impl Hours {
    /// Whether they end on the day after they begin.
    pub fn cross_midnight(self) -> bool {
        self.to <= self.from
    }
}

impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to } = self;
        write!(f, "{:02}:{:02}-{:02}:{:02}", from.hour(), from.minute(), to.hour(), to.minute())
    }
}

impl Field for Hours {
    fn from_text(text: &str) -> Result<Self, Fault> {
        let times = text.split_once('-').and_then(|(from, to)| Some((time_of_day(from)?, time_of_day(to)?)));
        match times {
            Some((from, to)) if from == to => {
                Err(Fault::new("invalid", "must not begin and end at the same time; null is any time"))
            }
            Some((from, to)) => Ok(Self { from, to }),
            None => Err(Fault::new("invalid", "must be two times of day such as 09:00-17:00")),
        }
    }
}

impl Serialize for Hours {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hours {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::from_text(&text).map_err(|fault| serde::de::Error::custom(fault.message))
    }
}

impl Shape for Hours {
    fn shape() -> Object {
        let pattern = "^([01][0-9]|2[0-3]):[0-5][0-9]-([01][0-9]|2[0-3]):[0-5][0-9]$";
        ObjectBuilder::new().schema_type(Type::String).pattern(Some(pattern)).examples(["09:00-17:00"]).build()
    }
}

string_enum! {
    /// A day of the week.
    Day {
        /// Monday.
        Monday = "monday",
        /// Tuesday.
        Tuesday = "tuesday",
        /// Wednesday.
        Wednesday = "wednesday",
        /// Thursday.
        Thursday = "thursday",
        /// Friday.
        Friday = "friday",
        /// Saturday.
        Saturday = "saturday",
        /// Sunday.
        Sunday = "sunday",
    }
}

/// Days of the week, at least one: a list of their names, from Monday on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Days(Vec<Day>);

impl Days {
    /// Whether the day is one of them.
    pub fn contain(&self, day: Weekday) -> bool {
        self.0.iter().any(|listed| *listed as u32 == day.num_days_from_monday())
    }

    fn of(listed: &[Day]) -> Option<Self> {
        let days: Vec<Day> = Day::ALL.iter().copied().filter(|day| listed.contains(day)).collect();
        (!days.is_empty()).then_some(Self(days))
    }
}

impl Field for Days {
    const IS_STRING: bool = false;

    fn from_text(text: &str) -> Result<Self, Fault> {
        let days: Result<Vec<Day>, Fault> = text.split(',').map(|day| Day::from_text(day.trim())).collect();
        Self::of(&days?).ok_or_else(|| Fault::new("required", "must list at least one day"))
    }

    fn from_json(value: Value) -> Result<Self, Fault> {
        let Value::Array(items) = value else { return Err(Fault::new("invalid", "must be an array of days")) };
        let days: Result<Vec<Day>, Fault> = items.into_iter().map(Day::from_json).collect();
        Self::of(&days?).ok_or_else(|| Fault::new("required", "must list at least one day; null is any day"))
    }
}

impl Serialize for Days {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Days {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let days = Vec::<Day>::deserialize(deserializer)?;
        Self::of(&days).ok_or_else(|| serde::de::Error::custom("no day is listed"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn hours_are_two_times_of_day() {
        for text in ["09:00-17:00", "22:00-06:00", "09:00-00:00"] {
            let hours = Hours::from_text(text).unwrap();
            assert_eq!((hours.to_string().as_str(), hours.cross_midnight()), (text, text != "09:00-17:00"));
            assert_eq!(serde_json::from_value::<Hours>(json!(hours)).unwrap(), hours);
        }
        for wrong in ["09:00", "9-17", "09:00 - 17:00", "09:00-24:00", "09:00-09:00", "09:00-17:00-18:00", ""] {
            assert!(Hours::from_text(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn days_are_listed_in_their_order_and_once() {
        let days = Days::from_json(json!(["friday", "monday", "friday"])).unwrap();
        assert_eq!(json!(days), json!(["monday", "friday"]));
        assert!(days.contain(Weekday::Mon) && days.contain(Weekday::Fri) && !days.contain(Weekday::Sun));
        assert_eq!(serde_json::from_value::<Days>(json!(days)).unwrap(), days);
        for wrong in [json!([]), json!(["Monday"]), json!(["funday"]), json!("monday"), json!([1])] {
            assert!(Days::from_json(wrong.clone()).is_err(), "{wrong}");
        }
    }
}
