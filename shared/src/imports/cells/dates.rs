//! Dates as people and spreadsheets of all countries write them: `31.12.2025`, `3/31/2024, 10:15 AM`,
//! `31 mars 2024`, Excel's serial numbers.

mod clock;

use std::borrow::Cow;

use chrono::{DateTime, Duration, NaiveDate, NaiveTime};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization;

use self::clock::Clock;
use super::ambiguous;
use crate::imports::dictionary::{dictionary, normal};
use crate::string_enum;
use crate::values::dates::{in_range, instant_of};
use crate::values::{Fault, Time};

string_enum! {
    /// The order of the parts of a date.
    DateOrder {
        /// Day, month, year.
        Dmy = "dmy",
        /// Month, day, year.
        Mdy = "mdy",
        /// Year, month, day.
        Ymd = "ymd",
    }
}

/// How ambiguous dates of a column are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DateForm {
    /// The order of dates with dots, if it is known.
    pub dotted: Option<DateOrder>,
    /// The order of other dates, if it is known.
    pub other: Option<DateOrder>,
}

/// The orders of the dates of a column that allow one reading.
#[derive(Debug, Clone, Copy, Default)]
pub struct DateEvidence {
    dotted: Orders,
    other: Orders,
}

#[derive(Debug, Clone, Copy, Default)]
struct Orders {
    first: Option<DateOrder>,
    differ: bool,
}

impl Orders {
    fn add(&mut self, order: DateOrder) {
        self.differ |= self.first.is_some_and(|first| first != order);
        self.first = self.first.or(Some(order));
    }

    fn settled(self) -> Option<DateOrder> {
        self.first.filter(|_| !self.differ)
    }
}

impl DateEvidence {
    /// Adds a cell.
    pub fn add(&mut self, text: &str) {
        if let Some((Parts::Three(date), _)) = written(&clean(text))
            && let [order] = date.orders().as_slice()
        {
            let orders = if date.separator == '.' { &mut self.dotted } else { &mut self.other };
            orders.add(*order);
        }
    }

    /// The order of the column's dates. Dates with dots have the day first where nothing else is known, since
    /// nobody writes the month first with them; `years_first` in languages that may write the year first.
    pub fn form(self, years_first: bool) -> DateForm {
        let usual = (!self.dotted.differ && !years_first).then_some(DateOrder::Dmy);
        DateForm { dotted: self.dotted.settled().or(usual), other: self.other.settled() }
    }
}

/// Reads a date with or without a time. A time without an offset is in the time zone, and a date without a time
/// is its midnight there.
///
/// # Errors
/// The fault of text that is no date, or that allows two readings.
pub fn read(text: &str, form: DateForm, tz: Tz) -> Result<Time, Fault> {
    if text.as_bytes().get(4) == Some(&b'-')
        && let Ok(time) = DateTime::parse_from_rfc3339(text)
    {
        return in_range(time.to_utc());
    }
    let text = clean(text);
    let (date, clock) = match written(&text) {
        Some(written) => written,
        None => return number(&text, tz).ok_or_else(invalid).and_then(in_range),
    };
    let date = match date {
        Parts::Date(date) => date,
        Parts::Three(date) => date.read(form)?,
    };
    in_range(clock.instant(date, tz))
}

/// Whether the text is a date, in whatever order.
pub fn is_date(text: &str) -> bool {
    let text = clean(text);
    written(&text).is_some_and(|(date, _)| match date {
        Parts::Date(_) => true,
        Parts::Three(date) => !date.orders().is_empty(),
    }) || number(&text, Tz::UTC).is_some()
}

fn invalid() -> Fault {
    Fault::new("invalid", "must be a date such as 2024-01-15 or 15 January 2024")
}

/// The text without marks of width.
fn clean(text: &str) -> Cow<'_, str> {
    let text = text.trim();
    if text.is_ascii() { Cow::Borrowed(text) } else { Cow::Owned(text.nfkc().collect()) }
}

/// A date as it is written.
enum Parts {
    /// A date with one reading.
    Date(NaiveDate),
    /// Three numbers.
    Three(ThreeNumbers),
}

/// A date of three numbers, of which the first has no four digits.
struct ThreeNumbers {
    numbers: [u32; 3],
    /// Whether the last number has four digits.
    has_long_year: bool,
    separator: char,
}

impl ThreeNumbers {
    /// The date, if the numbers are in this order.
    fn date(&self, order: DateOrder) -> Option<NaiveDate> {
        let [a, b, c] = self.numbers;
        let (year, month, day) = match order {
            DateOrder::Dmy => (c, b, a),
            DateOrder::Mdy => (c, a, b),
            DateOrder::Ymd if self.has_long_year => return None,
            DateOrder::Ymd => (a, b, c),
        };
        let year = i32::try_from(year).ok()?;
        let year = match (self.has_long_year, year) {
            (true, year) => year,
            // As spreadsheets do: 30 to 99 are of the last century.
            (false, 30..) => 1900 + year,
            (false, year) => 2000 + year,
        };
        NaiveDate::from_ymd_opt(year, month, day)
    }

    /// The orders in which the numbers are a date.
    fn orders(&self) -> Vec<DateOrder> {
        let orders = DateOrder::ALL.iter().copied();
        orders.filter(|order| self.date(*order).is_some()).collect()
    }

    fn read(&self, form: DateForm) -> Result<NaiveDate, Fault> {
        let order = if self.separator == '.' { form.dotted } else { form.other };
        let dates: Vec<NaiveDate> = self.orders().iter().filter_map(|order| self.date(*order)).collect();
        let settled = order.and_then(|order| self.date(order));
        match (settled, dates.as_slice()) {
            (_, []) => Err(invalid()),
            (Some(date), _) => Ok(date),
            (None, [first, rest @ ..]) if rest.iter().all(|date| date == first) => Ok(*first),
            (None, _) => Err(ambiguous("may be a date with the day or the month first; set date_order=dmy or mdy")),
        }
    }
}

/// Splits a text into a date and a time of the day.
fn written(text: &str) -> Option<(Parts, Clock)> {
    let (date, rest) = of_numbers(text).or_else(|| of_words(text)).or_else(|| of_signs(text))?;
    Some((date, Clock::parse(rest)?))
}

/// Takes a number of at most so many digits from the beginning of a text.
fn take_number(text: &str, max: usize) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    (1..=max).contains(&end).then(|| text.split_at(end))
}

/// `2024-03-31`, `31.12.2025`, `3/31/24`, `2024. 3. 31.`
fn of_numbers(text: &str) -> Option<(Parts, &str)> {
    let (first, rest) = take_number(text, 4)?;
    let separator = rest.chars().next().filter(|c| matches!(c, '-' | '/' | '.'))?;
    let (second, rest) = take_number(rest[1..].trim_start(), 2)?;
    let (third, rest) = take_number(rest.strip_prefix(separator)?.trim_start(), 4)?;
    let rest = if separator == '.' { rest.strip_prefix('.').unwrap_or(rest) } else { rest };
    let number = |text: &str| text.parse::<u32>().ok();
    let numbers = [number(first)?, number(second)?, number(third)?];
    let date = match (first.len(), third.len()) {
        (4, 1 | 2) => Parts::Date(NaiveDate::from_ymd_opt(first.parse().ok()?, numbers[1], numbers[2])?),
        (1 | 2, 4) => Parts::Three(ThreeNumbers { numbers, has_long_year: true, separator }),
        (1 | 2, 2) => Parts::Three(ThreeNumbers { numbers, has_long_year: false, separator }),
        _ => return None,
    };
    Some((date, rest))
}

/// `31 Mar 2024`, `31. März 2024`, `March 31, 2024`, `31 de marzo de 2024`, `31-Mar-24`
fn of_words(text: &str) -> Option<(Parts, &str)> {
    let (mut day, mut month, mut year) = (None, None, None);
    let mut rest = text;
    while day.is_none() || month.is_none() || year.is_none() {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || matches!(c, ',' | '.' | '-' | '/'));
        if let Some((digits, after)) = take_number(rest, 4) {
            let number: u32 = digits.parse().ok()?;
            match digits.len() {
                4 if year.is_none() => year = Some(number),
                1 | 2 if day.is_none() => day = Some(number),
                // The last of three parts, after the day and the month.
                2 if year.is_none() && month.is_some() => year = Some(if number < 30 { 2000 } else { 1900 } + number),
                _ => return None,
            }
            rest = after;
            if digits.len() < 3 {
                rest = ["st", "nd", "rd", "th", "er", "º", "ª"]
                    .iter()
                    .find_map(|ending| {
                        rest.strip_prefix(ending).filter(|rest| !rest.starts_with(char::is_alphanumeric))
                    })
                    .unwrap_or(rest);
            }
            continue;
        }
        let end = rest.find(|c: char| !c.is_alphabetic() && !is_mark(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        let name = normal(word);
        match dictionary().month(&name) {
            Some(number) if month.is_none() => month = Some(number),
            _ if is_filler(&name) => {}
            _ => return None,
        }
        rest = after;
    }
    let date = NaiveDate::from_ymd_opt(i32::try_from(year?).ok()?, month?, day?)?;
    // Russian and Bulgarian dates end with "г." for the year.
    let rest = rest.trim_start().strip_prefix("г.").unwrap_or(rest);
    Some((Parts::Date(date), rest))
}

fn is_mark(c: char) -> bool {
    unicode_normalization::char::is_combining_mark(c)
}

/// Words without meaning in a date: prepositions, and the days of the week in English.
fn is_filler(name: &str) -> bool {
    matches!(
        name,
        "de" | "del"
            | "of"
            | "den"
            | "der"
            | "le"
            | "mon"
            | "tue"
            | "wed"
            | "thu"
            | "fri"
            | "sat"
            | "sun"
            | "monday"
            | "tuesday"
            | "wednesday"
            | "thursday"
            | "friday"
            | "saturday"
            | "sunday"
    )
}

/// `2024年3月31日`, `2024년 3월 31일`
fn of_signs(text: &str) -> Option<(Parts, &str)> {
    let mut rest = text;
    let mut numbers = [0; 3];
    for (number, signs) in numbers.iter_mut().zip([['年', '년'], ['月', '월'], ['日', '일']]) {
        let (digits, after) = take_number(rest.trim_start(), 4)?;
        *number = digits.parse().ok()?;
        rest = after.trim_start().strip_prefix(signs)?;
    }
    let [year, month, day] = numbers;
    Some((Parts::Date(NaiveDate::from_ymd_opt(i32::try_from(year).ok()?, month, day)?), rest))
}

/// A date that is one number: `20240331`, an Excel serial, or seconds or milliseconds since 1970.
fn number(text: &str, tz: Tz) -> Option<Time> {
    let (whole, fraction) = text.split_once(['.', ',']).unwrap_or((text, "0"));
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_digits(whole) || !is_digits(fraction) {
        return None;
    }
    let is_whole = fraction.bytes().all(|byte| byte == b'0');
    match whole.len() {
        // From 1954 to 2119; shorter numbers could be anything.
        5 => {
            let serial: i64 = whole.parse().ok().filter(|days| (20_000..80_000).contains(days))?;
            let day: f64 = format!("0.{fraction}").parse().ok()?;
            let midnight = NaiveDate::from_ymd_opt(1899, 12, 30)?.and_time(NaiveTime::MIN) + Duration::days(serial);
            Some(instant_of(midnight + Duration::seconds((day * 86_400.0).round() as i64), tz))
        }
        8 if is_whole && text == whole => {
            let date = NaiveDate::parse_from_str(whole, "%Y%m%d").ok()?;
            (1900..2200).contains(&chrono::Datelike::year(&date)).then(|| instant_of(date.and_time(NaiveTime::MIN), tz))
        }
        10 => DateTime::from_timestamp(whole.parse().ok()?, 0),
        13 if is_whole => DateTime::from_timestamp_millis(whole.parse().ok()?),
        14 if text == whole => {
            let local = chrono::NaiveDateTime::parse_from_str(whole, "%Y%m%d%H%M%S").ok()?;
            Some(instant_of(local, tz))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
