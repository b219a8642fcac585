//! The time of the day after a date.

use chrono::{FixedOffset, NaiveDate, NaiveTime, TimeZone};
use chrono_tz::Tz;

use crate::imports::dictionary::normal;
use crate::values::Time;
use crate::values::dates::instant_of;

/// The time of the day, midnight if there is none.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    time: NaiveTime,
    /// The offset, if the time has one.
    offset: Option<FixedOffset>,
}

impl Clock {
    /// Parses what follows a date: `14:05`, `T14:05:00Z`, `, 10:15 AM`, `um 14.05 Uhr`, `14h05`, `+0200`.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim_matches(|c: char| c.is_whitespace() || c == ',');
        let text =
            text.strip_prefix(['T', 't']).filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit())).unwrap_or(text);
        if text.is_empty() {
            return Some(Self { time: NaiveTime::MIN, offset: None });
        }
        let (before, text) = word(text);
        let afternoon = match before {
            "" | "at" | "um" | "kl" | "klo" | "alle" | "às" | "о" | "в" | "o" | "godz" => None,
            half => Some(is_afternoon(half)?),
        };
        let text = text.trim_start_matches(|c: char| c.is_whitespace() || c == '.');
        let (hour, text) = digits(text, 2)?;
        let text = text.strip_prefix([':', '.', 'h', 'H', '時', '시'])?.trim_start();
        let (minute, text) = digits(text, 2)?;
        let text = text.strip_prefix(['分', '분']).unwrap_or(text);
        let (second, text) =
            match text.trim_start().strip_prefix([':', '.']).or_else(|| starts_with_digit(text.trim_start())) {
                Some(rest) => digits(rest, 2)?,
                None => (0, text),
            };
        let text = text.strip_prefix(['秒', '초']).unwrap_or(text);
        let (micros, text) = fraction(text);
        let (after, rest) = word(text.trim_start());
        let (afternoon, rest) = match is_afternoon(after) {
            Some(half) if afternoon.is_none() => (Some(half), rest),
            _ => (afternoon, text),
        };
        let hour = match afternoon {
            None => hour,
            Some(_) if !(1..=12).contains(&hour) => return None,
            Some(is_afternoon) => hour % 12 + if is_afternoon { 12 } else { 0 },
        };
        let time = NaiveTime::from_hms_micro_opt(hour, minute, second, micros)?;
        Some(Self { time, offset: offset(rest.trim())? })
    }

    /// The instant of the time on a day.
    pub fn instant(self, date: NaiveDate, tz: Tz) -> Time {
        let local = date.and_time(self.time);
        let at_offset = self.offset.and_then(|offset| offset.from_local_datetime(&local).single());
        at_offset.map_or_else(|| instant_of(local, tz), |time| time.to_utc())
    }
}

/// Takes a word from the beginning of a text. The dots of `p.m.` belong to it.
fn word(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !(c.is_alphabetic() || c == '.')).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    (word.trim_end_matches('.'), rest)
}

fn is_afternoon(word: &str) -> Option<bool> {
    match normal(word).as_str() {
        "am" | "午前" | "上午" | "오전" => Some(false),
        "pm" | "午後" | "下午" | "오후" => Some(true),
        _ => None,
    }
}

fn digits(text: &str, max: usize) -> Option<(u32, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    if !(1..=max).contains(&end) {
        return None;
    }
    Some((text[..end].parse().ok()?, &text[end..]))
}

fn starts_with_digit(text: &str) -> Option<&str> {
    text.starts_with(|c: char| c.is_ascii_digit()).then_some(text)
}

/// The microseconds of a fraction of a second.
fn fraction(text: &str) -> (u32, &str) {
    let Some(rest) = text.strip_prefix(['.', ',']) else { return (0, text) };
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let micros = format!("{:0<6.6}", &rest[..end]).parse().unwrap_or(0);
    if end == 0 { (0, text) } else { (micros, &rest[end..]) }
}

/// The offset at the end of a time: none, `Z`, `UTC`, `+02:00`, `+0200`, `GMT+2`. `None` for other text.
fn offset(text: &str) -> Option<Option<FixedOffset>> {
    let bare = ["Z", "z", "UTC", "GMT"].iter().find_map(|zone| text.strip_prefix(zone));
    let text = match (bare, text) {
        (None, "" | "Uhr") => return Some(None),
        (Some(""), _) => return Some(FixedOffset::east_opt(0)),
        (bare, text) => bare.unwrap_or(text).trim(),
    };
    let (sign, digits) = match text.strip_prefix('+') {
        Some(digits) => (1, digits),
        None => (-1, text.strip_prefix(['-', '−'])?),
    };
    let digits: String = digits.chars().filter(|c| *c != ':').collect();
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (hours, minutes): (i32, i32) = match digits.len() {
        1 | 2 => (digits.parse().ok()?, 0),
        4 => (digits[..2].parse().ok()?, digits[2..].parse().ok()?),
        _ => return None,
    };
    FixedOffset::east_opt(sign * (hours * 3600 + minutes * 60)).map(Some)
}
