//! Numbers as people and spreadsheets of all countries write them: `1.234,50`, `$90,000`, `75 %`.

use std::borrow::Cow;

use unicode_normalization::UnicodeNormalization;

use super::ambiguous;
use crate::string_enum;
use crate::values::Fault;

string_enum! {
    /// The decimal separator of numbers.
    Decimal {
        /// The comma: `1.234,50`.
        Comma = "comma",
        /// The point: `1,234.50`.
        Point = "point",
    }
}

impl Decimal {
    fn of(separator: u8) -> Self {
        if separator == b',' { Self::Comma } else { Self::Point }
    }

    fn other(self) -> Self {
        match self {
            Self::Comma => Self::Point,
            Self::Point => Self::Comma,
        }
    }
}

/// How ambiguous numbers are read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NumberForm {
    /// The decimal separator, if it is known.
    pub decimal: Option<Decimal>,
    /// Whether the caller named it. The cells of a column only say which separators they use, so three digits
    /// after the decimal separator may still be a group of a number from elsewhere.
    pub is_given: bool,
}

impl NumberForm {
    /// Numbers as programs write them.
    pub const POINT: Self = Self { decimal: Some(Decimal::Point), is_given: true };
}

/// Returns a number in the form of JSON: `1234.5`.
///
/// # Errors
/// The fault of text that is no number, or that allows two readings.
pub fn read(text: &str, form: NumberForm) -> Result<Cow<'_, str>, Fault> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(Cow::Borrowed(text));
    }
    let number = Number::parse(text).ok_or_else(|| Fault::new("invalid", "must be a number"))?;
    let decimal = match (number.reading, form.decimal) {
        (Reading::Whole, _) => None,
        (Reading::Only(decimal), _) => Some(decimal),
        (Reading::Either(separator), Some(decimal)) if separator != decimal || form.is_given => Some(decimal),
        (Reading::Either(_), _) => {
            return Err(ambiguous("may have a decimal or a thousands separator; set decimal=comma or decimal=point"));
        }
    };
    Ok(Cow::Owned(number.write(decimal)))
}

/// Both readings of an ambiguous number whose separator is this one: with decimals, and whole.
pub fn either(text: &str, decimal: Decimal) -> Option<(String, String)> {
    let number = Number::parse(text)?;
    (number.reading == Reading::Either(decimal)).then(|| (number.write(Some(decimal)), number.write(None)))
}

/// The decimal separator of a number that allows one reading, if it has one.
pub fn evidence(text: &str) -> Option<Decimal> {
    match Number::parse(text)?.reading {
        Reading::Only(decimal) => Some(decimal),
        Reading::Whole | Reading::Either(_) => None,
    }
}

/// A number without currency and percent signs.
struct Number {
    /// The sign, if it is negative.
    is_negative: bool,
    /// Digits and the separators `,` and `.`.
    digits: String,
    exponent: String,
    reading: Reading,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// There is no separator.
    Whole,
    /// This is the decimal separator.
    Only(Decimal),
    /// The only separator may be the decimal one, or that of thousands.
    Either(Decimal),
}

/// The signs and codes of currencies that stand beside amounts.
const CURRENCIES: [&str; 54] = [
    "EUR", "USD", "GBP", "CHF", "JPY", "CNY", "RMB", "KRW", "SEK", "NOK", "DKK", "ISK", "PLN", "CZK", "HUF", "RON",
    "BGN", "TRY", "TL", "RUB", "UAH", "INR", "BRL", "MXN", "ARS", "CLP", "COP", "PEN", "CAD", "AUD", "NZD", "SGD",
    "HKD", "TWD", "THB", "IDR", "MYR", "PHP", "VND", "ZAR", "ILS", "AED", "SAR", "EGP", "KZT", "KR", "ZŁ", "KČ", "FT",
    "LEI", "ГРН", "РУБ", "R$", "US$",
];

impl Number {
    fn parse(text: &str) -> Option<Self> {
        let text: Cow<'_, str> = if text.is_ascii() { text.into() } else { text.nfkc().collect::<String>().into() };
        let (text, in_brackets) = match text.trim().strip_prefix('(').and_then(|rest| rest.strip_suffix(')')) {
            Some(inner) => (inner, true),
            None => (text.trim(), false),
        };
        let bare = without_signs(text);
        let (bare, is_negative) = match bare.strip_prefix(['-', '−', '–']) {
            Some(rest) => (without_signs(rest), true),
            None => (without_signs(bare.strip_prefix('+').unwrap_or(bare)), false),
        };
        let (mantissa, exponent) = match bare.find(['e', 'E']) {
            Some(at) => (&bare[..at], exponent(&bare[at + 1..])?),
            None => (bare, String::new()),
        };
        let (digits, is_grouped) = without_blanks(mantissa)?;
        let reading = reading(&digits, is_grouped)?;
        Some(Self { is_negative: is_negative || in_brackets, digits, exponent, reading })
    }

    fn write(&self, decimal: Option<Decimal>) -> String {
        let mut number = String::with_capacity(self.digits.len() + 1);
        if self.is_negative {
            number.push('-');
        }
        for c in self.digits.chars() {
            match c {
                ',' | '.' if Some(Decimal::of(c as u8)) == decimal => number.push('.'),
                ',' | '.' => {}
                digit => number.push(digit),
            }
        }
        number + &self.exponent
    }
}

/// The text without the currency, the percent sign and the blanks around it.
fn without_signs(mut text: &str) -> &str {
    let is_sign = |c: char| c.is_whitespace() || "$€£¥₩₽₴₺₹₪₫฿₦₱%‰円元원".contains(c);
    loop {
        let before = text;
        text = text.trim_matches(is_sign);
        for code in CURRENCIES {
            text = strip_code(text, code);
        }
        text = text.strip_suffix(",-").or_else(|| text.strip_suffix(".-")).unwrap_or(text);
        if text == before {
            return text;
        }
    }
}

fn strip_code<'t>(text: &'t str, code: &str) -> &'t str {
    let is_code = |part: Option<&str>| part.is_some_and(|part| part.to_uppercase() == code);
    if is_code(text.get(..code.len())) {
        return &text[code.len()..];
    }
    // "руб." and "kr." may have a dot.
    let end = text.strip_suffix('.').filter(|text| text.ends_with(char::is_alphabetic)).unwrap_or(text);
    let start = end.len().checked_sub(code.len());
    match start.filter(|start| is_code(end.get(*start..))) {
        Some(start) => &text[..start],
        None => text,
    }
}

fn exponent(text: &str) -> Option<String> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let is_exponent = !digits.is_empty() && digits.len() <= 3 && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_exponent.then(|| format!("e{text}"))
}

/// The digits without blanks and apostrophes between groups of three; whether there were any.
fn without_blanks(text: &str) -> Option<(String, bool)> {
    let is_blank = |c: char| c.is_whitespace() || matches!(c, '\'' | '’' | '_');
    if !text.contains(is_blank) {
        return Some((text.to_owned(), false));
    }
    let mut groups = text.split(is_blank);
    let first =
        groups.next().filter(|first| (1..=3).contains(&first.len()) && first.bytes().all(|b| b.is_ascii_digit()))?;
    let mut digits = first.to_owned();
    let mut groups = groups.peekable();
    while let Some(group) = groups.next() {
        let whole = if groups.peek().is_some() { group } else { group.split([',', '.']).next()? };
        if whole.len() != 3 {
            return None;
        }
        digits.push_str(group);
    }
    Some((digits, true))
}

/// Which separators the digits have. `is_grouped` if blanks separate thousands, so that no other separator does.
fn reading(digits: &str, is_grouped: bool) -> Option<Reading> {
    if !digits.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b',' | b'.')) {
        return None;
    }
    let separators: Vec<u8> = digits.bytes().filter(|byte| !byte.is_ascii_digit()).collect();
    let Some(&last) = separators.last() else { return (!digits.is_empty()).then_some(Reading::Whole) };
    let decimal = Decimal::of(last);
    let count = |separator: u8| separators.iter().filter(|&&other| other == separator).count();
    let (whole, fraction) = digits.rsplit_once(char::from(last))?;
    let is_groups = |text: &str, separator: u8| is_groups(text, char::from(separator));
    match (separators.len(), count(last)) {
        _ if fraction.is_empty() => None,
        // One separator: three digits after up to three others may be a group.
        (1, _) if fraction.len() == 3 && (1..=3).contains(&whole.len()) && !whole.starts_with('0') && !is_grouped => {
            Some(Reading::Either(decimal))
        }
        (1, _) => Some(Reading::Only(decimal)),
        _ if is_grouped => None,
        // One separator, repeated: groups.
        (all, same) if all == same => is_groups(digits, last).then_some(Reading::Only(decimal.other())),
        // Two separators: groups before the decimal separator.
        (_, 1) => {
            let other = separators.first().copied()?;
            is_groups(whole, other).then_some(Reading::Only(decimal))
        }
        _ => None,
    }
}

/// Whether the digits are groups of three, or, as in India, of two and a last one of three.
fn is_groups(text: &str, separator: char) -> bool {
    let groups: Vec<&str> = text.split(separator).collect();
    let Some((last, rest)) = groups.split_last() else { return false };
    let Some((first, middle)) = rest.split_first() else { return false };
    let by = |size: usize| (1..=size).contains(&first.len()) && middle.iter().all(|group| group.len() == size);
    last.len() == 3 && (by(3) || (by(2) && separator == ','))
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNKNOWN: NumberForm = NumberForm { decimal: None, is_given: false };

    fn of(decimal: Decimal) -> NumberForm {
        NumberForm { decimal: Some(decimal), is_given: false }
    }

    #[test]
    fn numbers_with_one_reading_are_read() {
        for (text, number) in [
            ("75", "75"),
            ("75.5", "75.5"),
            ("75,5", "75.5"),
            (" 80 ", "80"),
            ("75%", "75"),
            ("75 %", "75"),
            ("1.234,56", "1234.56"),
            ("1,234.56", "1234.56"),
            ("1,200,000.00", "1200000.00"),
            ("1.200.000", "1200000"),
            ("12,00,000", "1200000"),
            ("1 234,56", "1234.56"),
            ("1\u{a0}234,56 €", "1234.56"),
            ("1\u{202f}234", "1234"),
            ("1'234.50", "1234.50"),
            ("CHF 1’234.50", "1234.50"),
            ("$1,234.50", "1234.50"),
            ("US$ 12.50", "12.50"),
            ("12,50 EUR", "12.50"),
            ("100 zł", "100"),
            ("99 Kč", "99"),
            ("5.000,00 kr.", "5000.00"),
            ("100,-", "100"),
            ("-12,5", "-12.5"),
            ("(1,234.50)", "-1234.50"),
            ("+7", "+7"),
            ("0,125", "0.125"),
            ("0.125", "0.125"),
            ("1234,567", "1234.567"),
            ("4.91512E+11", "4.91512e+11"),
            ("７５", "75"),
            ("１,２３４.５０", "1234.50"),
            ("10000円", "10000"),
        ] {
            let expected = number.trim_start_matches('+');
            assert_eq!(read(text, UNKNOWN).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn an_ambiguous_number_is_read_only_when_its_column_is_settled() {
        for text in ["1,234", "1.234", "12.500", "$90,000", "100,000 €"] {
            assert_eq!(read(text, UNKNOWN).unwrap_err().code, "ambiguous", "{text}");
        }
        assert_eq!(read("1,234", of(Decimal::Point)).as_deref(), Ok("1234"));
        assert_eq!(read("1.234", of(Decimal::Comma)).as_deref(), Ok("1234"));
        // The column may still have a number of another country.
        assert_eq!(read("1,234", of(Decimal::Comma)).unwrap_err().code, "ambiguous");
        let given = NumberForm { decimal: Some(Decimal::Comma), is_given: true };
        assert_eq!(read("1,234", given).as_deref(), Ok("1.234"));
        // One reading is right whatever the others are.
        assert_eq!(read("1,234.50", of(Decimal::Comma)).as_deref(), Ok("1234.50"));
    }

    #[test]
    fn other_text_is_no_number() {
        for text in [
            "",
            "1test",
            "1.2.3",
            "1.234.56",
            "1,23,4",
            "12 34",
            "abc",
            "5,",
            ",",
            ".",
            "1e",
            "1-2",
            "1/2",
            "--1",
            "1 234 56",
            "1.234,56,7",
        ] {
            assert_eq!(read(text, UNKNOWN).unwrap_err().code, "invalid", "{text:?}");
        }
    }

    #[test]
    fn cells_with_one_reading_are_evidence() {
        for (text, decimal) in [
            ("12,50", Some(Decimal::Comma)),
            ("1.234,5", Some(Decimal::Comma)),
            ("1.234.567", Some(Decimal::Comma)),
            ("12.5", Some(Decimal::Point)),
            ("1,234,567", Some(Decimal::Point)),
            ("1,234", None),
            ("1234", None),
            ("x", None),
        ] {
            assert_eq!(evidence(text), decimal, "{text}");
        }
    }
}
