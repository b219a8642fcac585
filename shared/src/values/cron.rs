//! Cron expressions of five fields, and when they run in a time zone.
//!
//! An expression with a fixed hour runs once on each date that it names: right after a clock change that
//! skips its time, and the first time when its time comes twice. An expression whose hour begins with `*`
//! follows elapsed time: it runs at each instant whose local time it names. No crate evaluates both in this
//! way: where the minute is not fixed, they let the fixed hour be skipped, or run twice.

use std::borrow::Cow;
use std::ops::RangeInclusive;

use chrono::{Datelike, Days, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, TimeZone, Timelike};
use chrono_tz::Tz;
use utoipa::openapi::{Object, ObjectBuilder, Type};

use super::dates::{instant_of, start_of};
use super::json_schema::Shape;
use super::{Fault, Field, Time};

/// The longest expression.
const MAX_LENGTH: usize = 200;
/// How many dates are searched. The rarest, a February 29 that is a certain day of the week, returns after
/// 40 years at the latest.
const HORIZON_DAYS: usize = 366 * 41;

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// A cron expression: minute, hour, day of the month, month, day of the week.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cron {
    text: String,
    minutes: Values,
    hours: Values,
    days: Values,
    months: Values,
    weekdays: Values,
}

/// When something runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot {
    /// The instant.
    pub at: Time,
    /// The local date that it is for. A clock change around midnight can move the instant to another date.
    pub date: NaiveDate,
}

impl Cron {
    /// The expression.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The first slot after an instant, if there is one within 40 years.
    pub fn next(&self, after: Time, zone: Tz) -> Option<Slot> {
        match self.hours.is_any {
            true => self.next_elapsed(after, zone),
            false => self.next_fixed(after, zone),
        }
    }

    /// The first slot after an instant of an expression with a fixed hour.
    fn next_fixed(&self, after: Time, zone: Tz) -> Option<Slot> {
        // Later local times have later slots, or the same one. That of the instant's own local time is no later.
        let local = after.with_timezone(&zone).naive_local();
        let dates = local.date().iter_days().take(HORIZON_DAYS).filter(|date| self.has_date(*date));
        let times = dates.flat_map(|date| self.times().map(move |time| date.and_time(time)));
        let mut slots = times.skip_while(|time| *time <= local).filter_map(|time| slot_of(time, zone));
        slots.find(|slot| slot.at > after)
    }

    /// The first slot after an instant of an expression that follows elapsed time.
    fn next_elapsed(&self, after: Time, zone: Tz) -> Option<Slot> {
        let end = local_time(after, zone).date() + Days::new(HORIZON_DAYS as u64);
        let seconds = i64::from(local_time(after, zone).second());
        let mut at =
            after - TimeDelta::nanoseconds(after.timestamp_subsec_nanos().into()) + TimeDelta::seconds(60 - seconds);
        loop {
            let local = local_time(at, zone);
            let date = local.date();
            if date > end {
                return None;
            }
            at = if !self.has_date(date) {
                start_of(date + Days::new(1), zone).max(at + TimeDelta::minutes(1))
            } else if !self.hours.has(local.hour()) {
                ahead(at, 60 - local.minute(), zone)
            } else if !self.minutes.has(local.minute()) {
                let next = (local.minute()..60).find(|minute| self.minutes.has(*minute)).unwrap_or(60);
                ahead(at, next - local.minute(), zone)
            } else {
                return Some(Slot { at, date });
            }
        }
    }

    /// Its times of day, in order.
    fn times(&self) -> impl Iterator<Item = NaiveTime> + use<> {
        let (hours, minutes) = (self.hours, self.minutes);
        (0..24).filter(move |hour| hours.has(*hour)).flat_map(move |hour| {
            let minutes = (0..60).filter(move |minute| minutes.has(*minute));
            minutes.filter_map(move |minute| NaiveTime::from_hms_opt(hour, minute, 0))
        })
    }

    /// Whether it runs on a date. With both day fields given, either suffices.
    fn has_date(&self, date: NaiveDate) -> bool {
        let day = self.days.has(date.day());
        let weekday = self.weekdays.has(date.weekday().num_days_from_sunday());
        let either = !self.days.is_any && !self.weekdays.is_any;
        self.months.has(date.month()) && if either { day || weekday } else { day && weekday }
    }

    /// Whether there is a date on which it runs.
    fn ever_runs(&self) -> bool {
        NaiveDate::default().iter_days().take(HORIZON_DAYS).any(|date| self.has_date(date))
    }
}

fn local_time(at: Time, zone: Tz) -> NaiveDateTime {
    at.with_timezone(&zone).naive_local()
}

/// The slot of a local time: the first instant with it, or the instant of the clock change that skips it. `None`
/// for a time of a date that the time zone skips altogether.
fn slot_of(time: NaiveDateTime, zone: Tz) -> Option<Slot> {
    let (at, date) = (instant_of(time, zone), time.date());
    let is_of_date = |at: Time| local_time(at, zone).date() == date;
    (is_of_date(at) || is_of_date(at - TimeDelta::nanoseconds(1))).then_some(Slot { at, date })
}

/// An instant so many minutes ahead, or one minute if the clocks change until then.
fn ahead(at: Time, minutes: u32, zone: Tz) -> Time {
    let there = at + TimeDelta::minutes(minutes.into());
    let offset = |at: Time| zone.offset_from_utc_datetime(&at.naive_utc());
    if offset(at) == offset(there) { there } else { at + TimeDelta::minutes(1) }
}

/// The values of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Values {
    /// A bit for each value.
    bits: u64,
    /// Whether the field begins with `*`.
    is_any: bool,
}

impl Values {
    fn has(self, value: u32) -> bool {
        self.bits >> value & 1 == 1
    }

    /// Sunday is 0 or 7.
    fn with_sunday(self) -> Self {
        Self { bits: (self.bits | self.bits >> 7) & 0x7f, ..self }
    }
}

/// What a field can have.
struct Part {
    name: &'static str,
    range: RangeInclusive<u32>,
    /// The names of the values, beginning with the least one.
    words: &'static [&'static str],
}

impl Field for Cron {
    fn from_text(text: &str) -> Result<Self, Fault> {
        if text.len() > MAX_LENGTH {
            return Err(Fault::new("too_long", format!("must have at most {MAX_LENGTH} characters")));
        }
        let parts: Vec<&str> = text.split_ascii_whitespace().collect();
        let &[minute, hour, day, month, weekday] = parts.as_slice() else {
            return Err(invalid("must have five fields: minute, hour, day of the month, month, day of the week"));
        };
        let cron = Self {
            text: parts.join(" "),
            minutes: Part { name: "minute", range: 0..=59, words: &[] }.parse(minute)?,
            hours: Part { name: "hour", range: 0..=23, words: &[] }.parse(hour)?,
            days: Part { name: "day of the month", range: 1..=31, words: &[] }.parse(day)?,
            months: Part { name: "month", range: 1..=12, words: &MONTHS }.parse(month)?,
            weekdays: Part { name: "day of the week", range: 0..=7, words: &WEEKDAYS }.parse(weekday)?.with_sunday(),
        };
        if cron.ever_runs() { Ok(cron) } else { Err(Fault::new("never", "never runs: there is no such date")) }
    }
}

impl Part {
    /// Parses a list of values, ranges and steps.
    fn parse(&self, text: &str) -> Result<Values, Fault> {
        let mut bits = 0;
        for item in text.split(',') {
            let (range, step) = match item.split_once('/') {
                None => (item, None),
                Some((range, step)) => (range, Some(self.step(step)?)),
            };
            let (first, last) = self.range_of(range, step.is_some())?;
            (first..=last).step_by(step.unwrap_or(1)).for_each(|value| bits |= 1 << value);
        }
        Ok(Values { bits, is_any: text.starts_with('*') })
    }

    /// The first and the last value of a range. A single value with a step begins a range.
    fn range_of(&self, text: &str, has_step: bool) -> Result<(u32, u32), Fault> {
        let most = if self.words.len() == WEEKDAYS.len() { 6 } else { *self.range.end() };
        let (first, last) = match text.split_once('-') {
            _ if text == "*" => (*self.range.start(), most),
            Some((first, last)) => (self.value(first)?, self.value(last)?),
            None if has_step => (self.value(text)?, most),
            None => (self.value(text)?, self.value(text)?),
        };
        // A range up to Sunday.
        let last = if last == 0 && first > 0 && most == 6 { 7 } else { last };
        match first <= last {
            true => Ok((first, last)),
            false => Err(invalid(format!("has a range of the {} that ends before it begins: {text}", self.name))),
        }
    }

    fn value(&self, text: &str) -> Result<u32, Fault> {
        let word = self.words.iter().zip(*self.range.start()..).find(|(word, _)| word.eq_ignore_ascii_case(text));
        let number = || text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten();
        let value = word.map(|(_, value)| value).or_else(number).filter(|value| self.range.contains(value));
        value.ok_or_else(|| {
            let (first, last) = (self.range.start(), self.range.end());
            invalid(format!("must have a {} from {first} to {last}, not {text:?}", self.name))
        })
    }

    fn step(&self, text: &str) -> Result<usize, Fault> {
        let step = text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten();
        step.filter(|step| (1..=59).contains(step))
            .ok_or_else(|| invalid(format!("must have a step of the {} from 1 to 59, not {text:?}", self.name)))
    }
}

fn invalid(message: impl Into<Cow<'static, str>>) -> Fault {
    Fault::new("invalid", message)
}

impl Shape for Cron {
    fn shape() -> Object {
        ObjectBuilder::new().schema_type(Type::String).max_length(Some(MAX_LENGTH)).build()
    }
}

#[cfg(test)]
mod tests;
