//! What the number formats of a workbook say about its cells.

use std::collections::HashMap;
use std::io::{self, Read};

use chrono::{Duration, NaiveDate};

use super::archive::fault;
use super::xml::{Node, Xml};
use crate::imports::packed::CellKind;

/// The most formats of cells, and of numbers. Excel allows 65,490 formats of cells.
const MAX_FORMATS: usize = 100_000;
/// The longest code of a format, in bytes.
const MAX_CODE: usize = 1_000;
/// The day after the last one that Excel knows, 9999-12-31.
const END_OF_DAYS: f64 = 2_958_466.0;

/// What a number in a cell is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum NumberFormat {
    /// A number.
    #[default]
    Number,
    /// A date, a time or both; whether the format shows a date.
    Date(bool),
    /// A duration such as `26:30`, in days.
    Duration,
    /// A share that is shown in percent.
    Percent,
    /// A number with leading zeros, up to so many digits.
    Padded(usize),
}

/// The number formats of cells, by their style.
#[derive(Debug, Default)]
pub(super) struct Styles {
    formats: Vec<NumberFormat>,
}

impl Styles {
    /// Reads the styles of a workbook.
    pub fn read(document: impl Read) -> io::Result<Self> {
        let mut xml = Xml::new(document);
        let (mut codes, mut ids) = (HashMap::new(), Vec::new());
        let mut in_cells = false;
        loop {
            match xml.next()? {
                Node::Start(element) => match element.name() {
                    b"numFmt" => {
                        let id = element.attribute("numFmtId").and_then(|id| id.parse::<u32>().ok());
                        let code = element.attribute("formatCode").filter(|code| code.len() <= MAX_CODE);
                        if let Some((id, code)) = id.zip(code) {
                            codes.insert(id, NumberFormat::of(&code));
                        }
                    }
                    b"cellXfs" => in_cells = true,
                    b"xf" if in_cells => {
                        let id = element.attribute("numFmtId").and_then(|id| id.parse::<u32>().ok());
                        ids.push(id.unwrap_or(0));
                    }
                    _ => {}
                },
                Node::End(element) if element.name() == b"cellXfs" => in_cells = false,
                Node::End(_) | Node::Text(_) => {}
                Node::Eof => break,
            }
            if codes.len() > MAX_FORMATS || ids.len() > MAX_FORMATS {
                return Err(fault("it has too many formats"));
            }
        }
        let format = |id| codes.get(&id).copied().unwrap_or_else(|| NumberFormat::built_in(id));
        Ok(Self { formats: ids.into_iter().map(format).collect() })
    }

    /// The number format of the style with an index.
    pub fn format(&self, style: usize) -> NumberFormat {
        self.formats.get(style).copied().unwrap_or_default()
    }
}

impl NumberFormat {
    /// The format with a number below 164, whose code files do not contain.
    fn built_in(id: u32) -> Self {
        match id {
            9 | 10 => Self::Percent,
            14..=17 | 22 | 27..=31 | 36 | 50..=54 | 57 | 58 => Self::Date(true),
            18..=21 | 32..=35 | 45 | 47 | 55 | 56 => Self::Date(false),
            46 => Self::Duration,
            _ => Self::Number,
        }
    }

    /// Reads the code of a format, such as `[$-407]d. mmmm yyyy;@`. Its first section is that of positive numbers.
    fn of(code: &str) -> Self {
        let zeros = code.len();
        if zeros > 1 && zeros <= 20 && code.bytes().all(|byte| byte == b'0') {
            return Self::Padded(zeros);
        }
        let mut letters = code.chars();
        let (mut has_date, mut has_time, mut has_month) = (false, false, false);
        while let Some(letter) = letters.next() {
            match letter.to_ascii_lowercase() {
                ';' => break,
                '\\' | '_' | '*' => _ = letters.next(),
                '"' => _ = letters.by_ref().find(|letter| *letter == '"'),
                '[' => {
                    let inner: String = letters.by_ref().take_while(|letter| *letter != ']').collect();
                    let inner = inner.to_ascii_lowercase();
                    let is_unit = |unit: char| !inner.is_empty() && inner.chars().all(|letter| letter == unit);
                    if ['h', 'm', 's'].into_iter().any(is_unit) {
                        return Self::Duration;
                    }
                }
                '%' => return Self::Percent,
                'y' | 'd' => has_date = true,
                'h' | 's' => has_time = true,
                'm' => has_month = true,
                _ => {}
            }
        }
        match (has_date, has_time, has_month) {
            (true, _, _) | (false, false, true) => Self::Date(true),
            (false, true, _) => Self::Date(false),
            (false, false, false) => Self::Number,
        }
    }

    /// The text of a number, and its kind. `is_1904` for workbooks whose days are counted from 1904.
    pub fn write(self, number: &str, is_1904: bool) -> (CellKind, String) {
        let plain = || (CellKind::Number, plain(number));
        let Some(value) = number.trim().parse::<f64>().ok().filter(|value| value.is_finite()) else {
            return (CellKind::Text, number.to_owned());
        };
        match self {
            Self::Number => plain(),
            Self::Percent => (CellKind::Number, decimal(value * 100.0) + "%"),
            Self::Padded(digits) if value >= 0.0 && value.fract() == 0.0 && value < 1e15 => {
                (CellKind::Text, format!("{value:0>digits$.0}"))
            }
            Self::Padded(_) => plain(),
            Self::Date(has_date) => date(value, has_date, is_1904).map_or_else(plain, |text| (CellKind::Text, text)),
            Self::Duration => {
                let seconds = (value.abs() * 86_400.0).round();
                if seconds > 1e12 {
                    return plain();
                }
                let (seconds, sign) = (seconds as u64, if value < 0.0 { "-" } else { "" });
                let (hours, minutes) = (seconds / 3_600, seconds / 60 % 60);
                (CellKind::Text, format!("{sign}{hours}:{minutes:02}:{:02}", seconds % 60))
            }
        }
    }
}

/// A number without an exponent. Whole numbers stay as they are, others have the 15 digits that Excel knows.
fn plain(number: &str) -> String {
    let number = number.trim();
    let digits = number.strip_prefix('-').unwrap_or(number);
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return number.to_owned();
    }
    number.parse().map_or_else(|_| number.to_owned(), decimal)
}

fn decimal(value: f64) -> String {
    let rounded: f64 = format!("{value:.14e}").parse().unwrap_or(value);
    // Zero has no sign.
    format!("{}", if rounded == 0.0 { 0.0 } else { rounded })
}

/// A date, a time or both in ISO 8601, without a time at midnight; `None` if the number is none.
fn date(value: f64, has_date: bool, is_1904: bool) -> Option<String> {
    if !(0.0..END_OF_DAYS).contains(&value) {
        return None;
    }
    let all_millis = (value * 86_400_000.0).round() as i64;
    let (days, millis) = (all_millis.div_euclid(86_400_000), all_millis.rem_euclid(86_400_000));
    let seconds = millis / 1_000;
    let mut time = format!("{:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60);
    if millis % 1_000 != 0 {
        time += &format!(".{:03}", millis % 1_000);
    }
    if days == 0 && (!has_date || !is_1904) {
        return Some(time);
    }
    let first = match days {
        _ if is_1904 => NaiveDate::from_ymd_opt(1904, 1, 1)?,
        // A day that was not: Excel believes that 1900 was a leap year.
        60 => return Some("1900-02-29".to_owned()),
        ..60 => NaiveDate::from_ymd_opt(1899, 12, 31)?,
        _ => NaiveDate::from_ymd_opt(1899, 12, 30)?,
    };
    let date = first.checked_add_signed(Duration::days(days))?;
    Some(if millis == 0 { date.to_string() } else { format!("{date}T{time}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_show_what_a_number_is() {
        for (code, format) in [
            ("General", NumberFormat::Number),
            ("0.00", NumberFormat::Number),
            ("#,##0.00\\ \"days\"", NumberFormat::Number),
            ("#,##0 [$€-407]", NumberFormat::Number),
            ("[Red]0;0", NumberFormat::Number),
            ("0.00E+00", NumberFormat::Number),
            ("0.0%", NumberFormat::Percent),
            ("00000", NumberFormat::Padded(5)),
            ("dd/mm/yyyy", NumberFormat::Date(true)),
            ("[$-407]d. mmmm yyyy;@", NumberFormat::Date(true)),
            ("yyyy\"年\"m\"月\"", NumberFormat::Date(true)),
            ("mmm", NumberFormat::Date(true)),
            ("h:mm AM/PM", NumberFormat::Date(false)),
            ("mm:ss.0", NumberFormat::Date(false)),
            ("[h]:mm:ss", NumberFormat::Duration),
            ("[mm]:ss", NumberFormat::Duration),
        ] {
            assert_eq!(NumberFormat::of(code), format, "{code}");
        }
    }

    #[test]
    fn numbers_are_written_as_their_cells_mean_them() {
        let date = NumberFormat::Date(true);
        for (format, number, text) in [
            (NumberFormat::Number, "75", "75"),
            (NumberFormat::Number, "4.3499999999999996", "4.35"),
            (NumberFormat::Number, "0.30000000000000004", "0.3"),
            (NumberFormat::Number, "4.9151234567E11", "491512345670"),
            (NumberFormat::Number, "1E-3", "0.001"),
            (NumberFormat::Number, "-0.5", "-0.5"),
            (NumberFormat::Number, "12345678901234567890", "12345678901234567890"),
            (NumberFormat::Number, "n/a", "n/a"),
            (NumberFormat::Percent, "0.755", "75.5%"),
            (NumberFormat::Padded(5), "1067", "01067"),
            (NumberFormat::Padded(5), "1067.5", "1067.5"),
            (date, "45306", "2024-01-15"),
            (date, "45306.4375", "2024-01-15T10:30:00"),
            (date, "45306.999999999", "2024-01-16"),
            (date, "1", "1900-01-01"),
            (date, "59", "1900-02-28"),
            (date, "60", "1900-02-29"),
            (date, "61", "1900-03-01"),
            (date, "0.5", "12:00:00"),
            (date, "-1", "-1"),
            (date, "2958466", "2958466"),
            (NumberFormat::Date(false), "0.75001", "18:00:00.864"),
            (NumberFormat::Duration, "1.5", "36:00:00"),
        ] {
            assert_eq!(format.write(number, false).1, text, "{format:?} {number}");
        }
        assert_eq!(date.write("43844", true).1, "2024-01-15");
        assert_eq!(date.write("0", true).1, "1904-01-01");
    }
}
