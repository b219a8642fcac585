//! Guards against CSV injection: an apostrophe before text that a spreadsheet would run as a formula.
//!
//! A spreadsheet may read a file with another separator than the comma. Every line break and every
//! separator in a cell then starts a new cell. Therefore each such segment of a cell is guarded, not
//! only its start. Guards do not change where segments start or which of them are formulas, so
//! removing them restores the text.

use std::borrow::Cow;

use memchr::{memchr, memchr3};

/// Guards the cells of a file with this delimiter.
#[derive(Debug, Clone, Copy)]
pub(super) struct Guard {
    pub(super) delimiter: u8,
}

impl Guard {
    /// Writes a guard before each formula of a cell.
    pub(super) fn cell(self, text: &str) -> Cow<'_, str> {
        // An apostrophe of the text must not be mistaken for a guard.
        self.guarded(text, |segment| segment.apostrophes > 0 || !segment.is_number())
    }

    /// Adds the missing guards to a cell of an uploaded file.
    pub(super) fn file_cell(self, text: &str) -> Cow<'_, str> {
        self.guarded(text, |segment| segment.apostrophes == 0 && !segment.is_number())
    }

    fn guarded(self, text: &str, needs_guard: impl Fn(&Segment<'_>) -> bool) -> Cow<'_, str> {
        if self.is_plain(text) {
            return Cow::Borrowed(text);
        }
        let formulas = self.segments(text).filter(|segment| segment.is_formula() && needs_guard(segment));
        let mut guarded = String::new();
        let mut copied = 0;
        for Segment { at, .. } in formulas {
            guarded.push_str(&text[copied..at]);
            guarded.push('\'');
            copied = at;
        }
        if guarded.is_empty() {
            return Cow::Borrowed(text);
        }
        guarded.push_str(&text[copied..]);
        Cow::Owned(guarded)
    }

    /// Whether a cell obviously needs no guard, which is true for most cells of an export.
    fn is_plain(self, text: &str) -> bool {
        let starts_plain = match text.as_bytes().first().copied() {
            None => return true,
            Some(first) => !matches!(first, b'=' | b'+' | b'-' | b'@' | b'\t' | b'\r' | b'\'' | FULL_WIDTH),
        };
        // Without a branch per byte, so that the compiler can vectorize the loop.
        starts_plain && !text.bytes().fold(false, |found, byte| found | self.is_separator(byte))
    }

    /// Whether a byte starts a segment: a line break, or a usual separator other than the file's own.
    fn is_separator(self, byte: u8) -> bool {
        let usual = (byte == b'\t') | (byte == b',') | (byte == b';') | (byte == b'|');
        (byte == b'\n') | (byte == b'\r') | (usual & (byte != self.delimiter))
    }

    fn segments(self, text: &str) -> impl Iterator<Item = Segment<'_>> {
        let separators = text.bytes().enumerate().filter(move |(_, byte)| self.is_separator(*byte));
        std::iter::once((0, None)).chain(separators.map(|(i, byte)| (i + 1, Some(byte)))).map(|(at, separator)| {
            let rest = text[at..].trim_start_matches('\'');
            Segment { at, apostrophes: text.len() - at - rest.len(), separator, rest }
        })
    }
}

/// Removes the guards of a cell of a file with this delimiter.
pub fn unguard(text: &str, delimiter: u8) -> Cow<'_, str> {
    if memchr(b'\'', text.as_bytes()).is_none() {
        return Cow::Borrowed(text);
    }
    let segments = Guard { delimiter }.segments(text);
    let guards = segments.filter(|segment| segment.apostrophes > 0 && segment.is_formula());
    let mut bare = String::new();
    let mut kept = 0;
    for Segment { at, .. } in guards {
        bare.push_str(&text[kept..at]);
        kept = at + 1;
    }
    if kept == 0 {
        return Cow::Borrowed(text);
    }
    bare.push_str(&text[kept..]);
    Cow::Owned(bare)
}

/// The first byte of the full-width forms.
const FULL_WIDTH: u8 = 0xef;

/// A part of a cell that a spreadsheet may read as a cell of its own.
struct Segment<'t> {
    at: usize,
    /// The number of leading apostrophes.
    apostrophes: usize,
    /// The separator before the segment; `None` at the start of the cell.
    separator: Option<u8>,
    /// The text from after the apostrophes to the end of the cell.
    rest: &'t str,
}

impl Segment<'_> {
    /// Whether a spreadsheet would run the segment.
    fn is_formula(&self) -> bool {
        // The file doubles quotes; two quotes at the start of a cell read as an empty quoted part.
        let bare = if self.separator.is_some() { self.rest.trim_start_matches('"') } else { self.rest };
        match bare.chars().next() {
            Some('=' | '@' | '＝' | '＠') => true,
            Some('\t' | '\r') => self.separator.is_none(),
            Some('+' | '-' | '＋' | '－') => {
                // Lists begin like this, too. A harmful formula has a call or a reference, perhaps in the
                // next cell of the file.
                self.separator.is_none()
                    || self.runs_into_the_next_cell()
                    || memchr3(b'(', b'!', b'|', self.text().as_bytes()).is_some()
            }
            _ => false,
        }
    }

    /// Whether a spreadsheet that splits at the separator before the segment reads on beyond its cell. A cell
    /// with a line break is quoted, and no formula goes on after the quote.
    fn runs_into_the_next_cell(&self) -> bool {
        !matches!(self.separator, None | Some(b'\n' | b'\r')) && self.text().len() == self.rest.len()
    }

    /// The text of the segment, for a spreadsheet that splits at the separator before it.
    fn text(&self) -> &str {
        let end = match self.separator {
            None => None,
            Some(separator) => memchr3(separator, b'\n', b'\r', self.rest.as_bytes()),
        };
        &self.rest[..end.unwrap_or(self.rest.len())]
    }

    /// Whether the segment is a number, or a phone number with an optional extension.
    fn is_number(&self) -> bool {
        let Some(unsigned) = self.text().strip_prefix(['+', '-', '＋', '－']) else { return false };
        let end = unsigned.find(|c: char| c.is_alphabetic() || c == '#').unwrap_or(unsigned.len());
        let (number, rest) = unsigned.split_at(end);
        let number = number.trim_end_matches([';', ',', ' ']);
        let has_digits = number.bytes().any(|byte| byte.is_ascii_digit());
        let is_number = has_digits && number.chars().all(|c| c.is_ascii_digit() || " \u{a0}.,()/-%".contains(c));
        let is_dash = number.bytes().all(|byte| byte == b'-') && rest.is_empty();
        is_dash || (is_number && is_extension(rest))
    }
}

/// Whether the text after the digits is empty, an extension or an exponent.
fn is_extension(text: &str) -> bool {
    const WORDS: [&str; 6] = ["extension", "extn", "ext", "x", "#", "e"];
    if text.is_empty() {
        return true;
    }
    let text = text.to_ascii_lowercase();
    let digits = WORDS
        .iter()
        .find_map(|word| text.strip_prefix(word))
        .map(|rest| rest.trim_start_matches(|c| ".:= +-".contains(c)));
    digits.is_some_and(|digits| !digits.is_empty() && digits.trim_end().bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::records::csv::CsvRows;
    use crate::values::cell::Cells;

    const COMMA: Guard = Guard { delimiter: b',' };

    fn guard(text: &str) -> Cow<'_, str> {
        COMMA.cell(text)
    }

    fn guard_file_cell(text: &str) -> Cow<'_, str> {
        COMMA.file_cell(text)
    }

    fn unguard(text: &str) -> Cow<'_, str> {
        super::unguard(text, b',')
    }

    #[test]
    fn formulas_are_guarded_and_numbers_are_not() {
        for (text, cell) in [
            ("=1+1", "'=1+1"),
            ("@cmd", "'@cmd"),
            ("＝1+1", "'＝1+1"),
            ("＠cmd", "'＠cmd"),
            ("\tx", "'\tx"),
            ("\r=1", "'\r'=1"),
            ("-2+3*cmd|' /C calc'!A0", "'-2+3*cmd|' /C calc'!A0"),
            ("+A1", "'+A1"),
            ("'=1", "''=1"),
            ("''@x", "'''@x"),
            ("'+1 415", "''+1 415"),
            ("a\n=1", "a\n'=1"),
            ("a;@x;'=y", "a;'@x;''=y"),
            ("a|\"=1", "a|'\"=1"),
            ("a,=1", "a,=1"),
            ("a\t+cmd|' /C calc'!A0", "a\t'+cmd|' /C calc'!A0"),
            ("a;+SUM(1,2)", "a;'+SUM(1,2)"),
            ("a;-x!A1", "a;'-x!A1"),
            ("a;+cmd", "a;'+cmd"),
            ("a;+cmd;b", "a;+cmd;b"),
            ("Buy:\n- milk\n- eggs (six)", "Buy:\n- milk\n'- eggs (six)"),
            ("Call\n+1 (415) 555-0103", "Call\n+1 (415) 555-0103"),
            ("+1 (555) 010-9999", "+1 (555) 010-9999"),
            ("+1 415 555 0103 ext. 9", "+1 415 555 0103 ext. 9"),
            ("+1 415 555 0103 x9", "+1 415 555 0103 x9"),
            ("+14155550103;ext=9", "+14155550103;ext=9"),
            ("+49 (0)30/1234-0 #12", "+49 (0)30/1234-0 #12"),
            ("+1 ext. =9+x", "'+1 ext. =9+x"),
            ("+1 ext", "'+1 ext"),
            ("-12.5", "-12.5"),
            ("-1,234.56", "-1,234.56"),
            ("-1.5E-7", "-1.5E-7"),
            ("-5 %", "-5 %"),
            ("-", "-"),
            ("O'Neil", "O'Neil"),
            ("'t Hooft", "'t Hooft"),
            ("", ""),
        ] {
            assert_eq!(guard(text), cell);
            assert_eq!(unguard(cell), text);
        }
    }

    #[test]
    fn the_separator_of_the_file_itself_starts_no_segment() {
        for (delimiter, text, cell) in [
            (b';', "a;=1", "a;=1"),
            (b';', "a,=1", "a,'=1"),
            (b';', "a\t=1", "a\t'=1"),
            (b'\t', "a\t=1,=2", "a\t=1,'=2"),
            (b'|', "a|=1;=2", "a|=1;'=2"),
            (b'|', "a;+cmd", "a;'+cmd"),
            (b'|', "a;+49 30 123", "a;+49 30 123"),
            (b';', "+1 415 555 0103, ext. 9", "+1 415 555 0103, ext. 9"),
        ] {
            assert_eq!(Guard { delimiter }.cell(text), cell);
            assert_eq!(super::unguard(cell, delimiter), text);
        }
    }

    #[test]
    fn cells_of_a_file_keep_their_guards() {
        for (text, cell) in [("=1", "'=1"), ("'=1", "'=1"), ("a;'@x;=y", "a;'@x;'=y"), ("'+1", "'+1")] {
            assert_eq!(guard_file_cell(text), cell);
            assert_eq!(unguard(cell), unguard(text));
        }
    }

    #[test]
    fn guards_take_linear_time() {
        for word in [";+", ";'=", "\n-", "|\"", ";''", "\t+(", "\r=;@"] {
            let text = word.repeat(1 << 19);
            assert_eq!(unguard(&guard(&text)), text);
        }
    }

    fn exported(rows: &[[&str; 2]], delimiter: u8) -> Vec<u8> {
        let mut csv = CsvRows::delimited(Vec::new(), delimiter);
        for row in rows {
            csv.row(row.iter().copied());
        }
        csv.into_bytes().unwrap()
    }

    /// Whether the cell would do harm in a spreadsheet that splits a file with this delimiter at another one.
    fn is_dangerous(cell: &str, delimiter: u8) -> bool {
        let does_harm = |text: &str| text.contains('!') || (text.contains('(') && text.contains(['a', '=', '@']));
        // The next cell may follow: it does no harm after a number, but it may after a name.
        let formula = cell.split('"').next().unwrap_or_default();
        let own = formula.split([',', char::from(delimiter)]).next().unwrap_or_default();
        cell.starts_with(['=', '@', '＝', '＠'])
            || (cell.starts_with(['+', '-', '＋', '－'])
                && (does_harm(own) || (own.contains('a') && does_harm(formula))))
    }

    const HOSTILE: &str = "['=+@＝－\\-0-9a(!,;|\" \t\r\n]{0,12}";

    proptest! {
        #[test]
        fn any_text_survives_a_round_trip(text in HOSTILE) {
            for delimiter in *b",;|\t" {
                let guarded = Guard { delimiter }.cell(&text).into_owned();
                prop_assert_eq!(super::unguard(&guarded, delimiter), text.as_str());
            }
            let cell = guard_file_cell(&text).into_owned();
            prop_assert_eq!(unguard(&cell), unguard(&text));
        }

        #[test]
        fn any_characters_survive_a_round_trip(text in "\\PC{0,20}") {
            let guarded = guard(&text).into_owned();
            prop_assert_eq!(unguard(&guarded), text);
        }

        #[test]
        fn no_cell_is_a_formula_under_any_separator(
            first in HOSTILE, second in HOSTILE, after in HOSTILE, own in prop::sample::select(b",;|\t".to_vec())
        ) {
            let rows = [[first.as_str(), &second], [&after, "x"]];
            let file = exported(&rows, own);
            // A number at the start of a row is at its start with any separator.
            let starts_plain = rows.iter().all(|row| !row[0].starts_with(['+', '-', '＋', '－']) || Guard { delimiter: own }.cell(row[0]) != row[0]);
            for separator in *b",;|\t" {
                let mut reader = csv::ReaderBuilder::new();
                let reader = reader.has_headers(false).flexible(true).delimiter(separator);
                for record in reader.from_reader(file.as_slice()).records() {
                    for cell in &record.unwrap() {
                        prop_assert!(!is_dangerous(cell, own) || (!starts_plain && cell.starts_with(['+', '-', '＋', '－'])),
                            "{cell:?} under {:?} in {:?}", char::from(separator), String::from_utf8_lossy(&file));
                    }
                }
            }
        }

        #[test]
        fn json_survives_a_round_trip(key in HOSTILE, value in HOSTILE) {
            let map = serde_json::Map::from_iter([(key, serde_json::Value::from(value))]);
            let mut csv = CsvRows::with_capacity(0);
            csv.json(&serde_json::to_string(&map).unwrap());
            csv.end();
            let file = csv.into_bytes().unwrap();
            let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(file.as_slice());
            let cell = reader.records().next().unwrap().unwrap()[0].to_owned();
            prop_assert_eq!(serde_json::from_str::<serde_json::Map<_, _>>(&unguard(&cell)).unwrap(), map);
        }
    }
}
