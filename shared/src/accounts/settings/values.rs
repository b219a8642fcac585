//! Field types of settings.

use chrono::{NaiveTime, Timelike};
use chrono_tz::Tz;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use utoipa::openapi::{Object, ObjectBuilder, Type};

use crate::values::dates::zone;
use crate::values::hours::time_of_day;
use crate::values::json_schema::Shape;
use crate::values::{Fault, Field};

/// A time of day: `HH:MM`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalTime(NaiveTime);

impl LocalTime {
    /// The time of day.
    pub fn get(self) -> NaiveTime {
        self.0
    }
}

impl Default for LocalTime {
    /// 02:00
    fn default() -> Self {
        Self(NaiveTime::from_hms_opt(2, 0, 0).unwrap_or_default())
    }
}

impl Field for LocalTime {
    fn from_text(text: &str) -> Result<Self, Fault> {
        let time = time_of_day(text);
        time.map(Self).ok_or_else(|| Fault::new("invalid", "must be a time of day from 00:00 to 23:59"))
    }
}

impl Serialize for LocalTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:02}:{:02}", self.0.hour(), self.0.minute()))
    }
}

impl<'de> Deserialize<'de> for LocalTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::from_text(&text).map_err(|fault| serde::de::Error::custom(fault.message))
    }
}

impl Shape for LocalTime {
    fn shape() -> Object {
        ObjectBuilder::new().schema_type(Type::String).pattern(Some("^([01][0-9]|2[0-3]):[0-5][0-9]$")).build()
    }
}

/// A time zone of the IANA database, such as `Europe/Berlin`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeZone(Tz);

impl TimeZone {
    /// The time zone.
    pub fn get(self) -> Tz {
        self.0
    }
}

impl Default for TimeZone {
    /// UTC
    fn default() -> Self {
        Self(Tz::UTC)
    }
}

impl Field for TimeZone {
    fn from_text(text: &str) -> Result<Self, Fault> {
        Ok(Self(zone(text)?))
    }
}

impl Serialize for TimeZone {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.name())
    }
}

impl<'de> Deserialize<'de> for TimeZone {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::from_text(&text).map_err(|fault| serde::de::Error::custom(fault.message))
    }
}

impl Shape for TimeZone {
    fn shape() -> Object {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some("A name from the IANA time zone database."))
            .build()
    }
}

/// A whole number from `MIN` to `MAX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Whole<const MIN: u32, const MAX: u32>(u32);

impl<const MIN: u32, const MAX: u32> Whole<MIN, MAX> {
    /// The number.
    pub fn get(self) -> u32 {
        self.0
    }
}

impl<const MIN: u32, const MAX: u32> Field for Whole<MIN, MAX> {
    const IS_STRING: bool = false;

    fn from_text(text: &str) -> Result<Self, Fault> {
        let number = f64::from_text(text)?;
        if number.fract() != 0.0 {
            return Err(Fault::new("invalid", "must be a whole number"));
        }
        if !(f64::from(MIN)..=f64::from(MAX)).contains(&number) {
            return Err(Fault::new("out_of_range", format!("must be from {MIN} to {MAX}")));
        }
        Ok(Self(number as u32))
    }

    fn from_json(value: Value) -> Result<Self, Fault> {
        match value {
            Value::Number(number) => Self::from_text(&number.to_string()),
            _ => Err(Fault::new("invalid", "must be a number")),
        }
    }
}

impl<const MIN: u32, const MAX: u32> Shape for Whole<MIN, MAX> {
    fn shape() -> Object {
        let number = ObjectBuilder::new().schema_type(Type::Integer);
        number.minimum(Some(i64::from(MIN))).maximum(Some(i64::from(MAX))).build()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_of_day_is_hours_and_minutes() {
        assert_eq!(serde_json::to_value(LocalTime::from_text("23:59").unwrap()).unwrap(), "23:59");
        for wrong in ["24:00", "7:00", "07:60", "07:00:00", "0700", "+7:00", "", "noon"] {
            assert!(LocalTime::from_text(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_time_zone_is_a_name_of_the_iana_database() {
        assert_eq!(serde_json::to_value(TimeZone::from_text("Europe/Berlin").unwrap()).unwrap(), "Europe/Berlin");
        for wrong in ["Berlin", "CEST", "+01:00", "Europe/Atlantis", ""] {
            assert!(TimeZone::from_text(wrong).is_err(), "{wrong}");
        }
    }
}
