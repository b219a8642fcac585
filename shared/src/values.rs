//! The field types: parse once, at the door.
//!
//! A JSON body and a CSV cell go through the same types, so a value that one of them takes is a
//! value the other takes. A type parses from text and from JSON and knows nothing of where it
//! stands; [`Object`](crate::values::json_body::Object) adds the names and gathers all faults of a body.

pub mod cell;
pub mod cron;
mod custom_fields;
pub mod dates;
mod email;
mod email_hash;
pub mod etag;
pub mod every;
pub(crate) mod fold;
pub mod hours;
pub mod json;
pub mod json_body;
pub mod json_schema;
pub mod kind;
mod names;
mod numbers;
pub mod patch;
pub mod search;
pub mod string_enum;
pub mod timestamp;

use std::borrow::Cow;
use std::fmt;

use chrono::{DateTime, NaiveTime, Utc};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;
use uuid::Uuid;

use crate::error::FieldError;
use crate::values::cell::{Cell, Cells};

pub use custom_fields::{CustomFields, depth};
pub(crate) use email::key_domain;
pub use email::{Email, ascii_domain, deliverable, domain, email_key};
pub use email_hash::EmailHash;
pub use names::{Name, is_blank, trim};
pub use numbers::{Money, Quantity, Rating};

/// Why a value was not taken, before it is known which field it was for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// See [`FieldError::code`].
    pub code: &'static str,
    /// See [`FieldError::message`].
    pub message: Cow<'static, str>,
}

impl Fault {
    /// A fault with its code and text.
    pub fn new(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into() }
    }

    /// The fault as one of the named field.
    pub fn of(self, field: impl Into<String>) -> FieldError {
        FieldError::new(field, self.code, self.message)
    }
}

/// A type that a field of a record can have.
pub trait Field: Sized {
    /// Whether it is a string in JSON, of which an empty one says that there is none. For a number or
    /// an object it says nothing, and is refused.
    const IS_STRING: bool = true;

    /// Reads the value from text that is trimmed and not empty: a CSV cell, a query parameter.
    fn from_text(text: &str) -> Result<Self, Fault>;

    /// Reads the value from JSON that is not `null`; for most types a JSON string.
    fn from_json(value: Value) -> Result<Self, Fault> {
        match value {
            Value::String(text) => Self::from_text(text.trim()),
            _ => Err(Fault::new("invalid", "must be a string")),
        }
    }
}

/// A string of at most `MAX` characters, on one line: no control characters at all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, sqlx::Type)]
#[serde(transparent)]
#[sqlx(transparent)]
pub struct Line<const MAX: usize>(String);

/// A string of at most `MAX` characters that may have tabs and line breaks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, sqlx::Type)]
#[serde(transparent)]
#[sqlx(transparent)]
pub struct Text<const MAX: usize>(String);

/// A phone number as people write it: any characters, since extensions and words occur.
pub type Phone = Line<50>;
/// The name of a company.
pub type Company = Name;
/// Notes and descriptions.
pub type Notes = Text<10_000>;
/// What feedback is about, in a word or two.
pub type Category = Line<100>;
/// A postal address, on as many lines as it has.
pub type Address = Text<1_000>;
/// What an interaction was about, how it ended, what is to be done next, how an invoice is paid.
pub type Summary = Line<1_000>;
/// The number under which a tax office knows somebody.
pub type TaxId = Line<50>;
/// The id of a record in the system of a caller.
pub type ExternalId = Line<200>;
/// The id of a request, as in `X-Request-Id`.
pub type RequestId = Line<200>;
/// A point in time, in microseconds.
pub type Time = DateTime<Utc>;

impl<const MAX: usize> Field for Line<MAX> {
    fn from_text(text: &str) -> Result<Self, Fault> {
        check_text(text, MAX, |_| false)?;
        Ok(Self(text.to_owned()))
    }
}

impl<const MAX: usize> Field for Text<MAX> {
    fn from_text(text: &str) -> Result<Self, Fault> {
        check_text(text, MAX, |c| matches!(c, '\t' | '\n' | '\r'))?;
        Ok(Self(text.to_owned()))
    }
}

impl<const MAX: usize> AsRef<str> for Line<MAX> {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl<const MAX: usize> AsRef<str> for Text<MAX> {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

fn check_text(text: &str, max: usize, allowed: impl Fn(char) -> bool) -> Result<(), Fault> {
    if text.is_empty() {
        return Err(Fault::new("required", "must not be empty"));
    }
    // Bytes bound characters from above, so most strings are never counted.
    if text.len() > max && text.chars().count() > max {
        return Err(Fault::new("too_long", format!("must have at most {max} characters")));
    }
    if text.chars().any(|c| c.is_control() && !allowed(c)) {
        return Err(Fault::new("invalid", "must not contain control characters"));
    }
    Ok(())
}

/// A lead's score: a number from 0 to 100.
#[derive(Debug, Clone, Copy, PartialEq, Default, Deserialize, sqlx::Type)]
#[serde(transparent)]
#[sqlx(transparent)]
pub struct Score(f64);

impl Score {
    /// The score as a number from 0 to 100.
    pub fn get(self) -> f64 {
        self.0
    }
}

impl Field for Score {
    const IS_STRING: bool = false;

    fn from_text(text: &str) -> Result<Self, Fault> {
        Self::from_number(number_from_text(text)?)
    }

    fn from_json(value: Value) -> Result<Self, Fault> {
        Self::from_number(f64::from_json(value)?)
    }
}

impl Score {
    fn from_number(number: f64) -> Result<Self, Fault> {
        if !(0.0..=100.0).contains(&number) {
            return Err(Fault::new("out_of_range", "must be between 0 and 100"));
        }
        // Not -0.0, which would be written as such.
        Ok(Self(number + 0.0))
    }
}

impl Serialize for Score {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize_number(self.0, serializer)
    }
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Writes a number that came in whole as a whole number: `75`, not `75.0`.
pub(crate) fn serialize_number<S: Serializer>(number: f64, serializer: S) -> Result<S::Ok, S::Error> {
    const EXACT: f64 = 9_007_199_254_740_992.0; // 2^53, up to which f64 holds every integer
    if number.fract() == 0.0 && number.abs() <= EXACT {
        serializer.serialize_i64(number as i64)
    } else {
        serializer.serialize_f64(number)
    }
}

/// Text that is a decimal number as JSON would write it, with a leading `+` or zeros allowed.
fn number_from_text(text: &str) -> Result<f64, Fault> {
    let decimal = text.chars().all(|c| c.is_ascii_digit() || "+-.eE".contains(c));
    match text.parse::<f64>() {
        Ok(number) if decimal && number.is_finite() => Ok(number),
        _ => Err(Fault::new("invalid", "must be a number")),
    }
}

impl Field for f64 {
    const IS_STRING: bool = false;

    fn from_text(text: &str) -> Result<Self, Fault> {
        number_from_text(text)
    }

    fn from_json(value: Value) -> Result<Self, Fault> {
        value.as_f64().ok_or_else(|| Fault::new("invalid", "must be a number"))
    }
}

impl Field for bool {
    const IS_STRING: bool = false;

    fn from_text(text: &str) -> Result<Self, Fault> {
        match text {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(Fault::new("invalid", "must be true or false")),
        }
    }

    fn from_json(value: Value) -> Result<Self, Fault> {
        value.as_bool().ok_or_else(|| Fault::new("invalid", "must be true or false"))
    }
}

impl Field for String {
    fn from_text(text: &str) -> Result<Self, Fault> {
        check_text(text, usize::MAX, |_| false)?;
        Ok(text.to_owned())
    }
}

impl Field for Uuid {
    fn from_text(text: &str) -> Result<Self, Fault> {
        // The hyphenated form only: what goes out is what comes in.
        match Uuid::try_parse(text) {
            Ok(id) if text.len() == 36 => Ok(id),
            _ => Err(Fault::new("invalid", "must be a UUID")),
        }
    }
}

impl Field for DateTime<Utc> {
    /// RFC 3339, or a bare date, which is its midnight in UTC.
    fn from_text(text: &str) -> Result<Self, Fault> {
        let time = match DateTime::parse_from_rfc3339(text) {
            Ok(time) => Some(time.to_utc()),
            Err(_) => dates::bare_date(text).map(|date| date.and_time(NaiveTime::MIN).and_utc()),
        };
        let invalid = "must be a date and time such as 2024-01-15T10:00:00Z, or a date such as 2024-01-15";
        dates::in_range(time.ok_or_else(|| Fault::new("invalid", invalid))?)
    }
}

impl<const MAX: usize> Cell for Line<MAX> {
    fn write(&self, cells: &mut impl Cells) {
        cells.text(&self.0);
    }
}

impl<const MAX: usize> Cell for Text<MAX> {
    fn write(&self, cells: &mut impl Cells) {
        cells.text(&self.0);
    }
}

impl Cell for Score {
    fn write(&self, cells: &mut impl Cells) {
        cells.number(self);
    }
}
