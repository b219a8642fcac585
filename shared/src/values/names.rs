//! Names of people, companies and things: what they may not contain, since it misleads whoever reads them.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};

use super::{Fault, Field, check_text};
use crate::values::cell::{Cell, Cells};

/// The name of a person, a company, a workspace, an API key, …: at most 200 characters on one line.
///
/// Names stand in other people's lists, emails and pages. So characters that turn the direction of the text
/// around them, that begin a new line, or that are no characters are rejected, and a name has at least one
/// character that can be seen. Marks that scripts need (ZWNJ, ZWJ, LRM, RLM) stay inside of a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, sqlx::Type)]
#[serde(transparent)]
#[sqlx(transparent)]
pub struct Name(String);

impl Name {
    /// The most characters of a name.
    pub const MAX: usize = 200;

    /// The name by which an email speaks to somebody: its first word.
    pub fn first(&self) -> &str {
        self.0.split_whitespace().find(|word| word.chars().any(is_visible)).unwrap_or(&self.0)
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Field for Name {
    fn from_text(text: &str) -> Result<Self, Fault> {
        let text = trim(text);
        check_text(text, Self::MAX, |_| false)?;
        if let Some(found) = text.chars().find(|c| is_misleading(*c)) {
            let code = u32::from(found);
            return Err(Fault::new("invalid", format!("must not contain the character U+{code:04X}")));
        }
        if !text.chars().any(is_visible) {
            return Err(Fault::new("invalid", "must have a character that can be seen"));
        }
        Ok(Self(text.to_owned()))
    }

    fn from_json(value: Value) -> Result<Self, Fault> {
        match value {
            Value::String(text) => Self::from_text(&text),
            _ => Err(Fault::new("invalid", "must be a string")),
        }
    }
}

impl Cell for Name {
    fn write(&self, cells: &mut impl Cells) {
        cells.text(&self.0);
    }
}

/// Text without what cannot be seen at its ends: blanks and the marks ZWNJ, ZWJ, LRM and RLM.
pub fn trim(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || matches!(c, '\u{200c}'..='\u{200f}'))
}

/// Whether a text has nothing but blanks and such marks, and so says nothing.
pub fn is_blank(text: &str) -> bool {
    trim(text).is_empty()
}

/// Embeddings, overrides and isolates of direction, line and paragraph separators, and non-characters.
fn is_misleading(c: char) -> bool {
    matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{fdd0}'..='\u{fdef}')
        || u32::from(c) & 0xfffe == 0xfffe
}

fn is_visible(c: char) -> bool {
    use GeneralCategory as Is;
    // Letters and symbols that look like nothing.
    let is_empty =
        matches!(c, '\u{115f}' | '\u{1160}' | '\u{2800}' | '\u{3164}' | '\u{ffa0}' | '\u{e0000}'..='\u{e0fff}');
    let category = c.general_category();
    let is_mark = matches!(category, Is::NonspacingMark | Is::SpacingMark | Is::EnclosingMark);
    let is_space = matches!(category, Is::SpaceSeparator | Is::LineSeparator | Is::ParagraphSeparator);
    !is_empty && !is_mark && !is_space && !matches!(category, Is::Control | Is::Format | Is::Surrogate)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_misleads_a_reader_is_no_part_of_a_name() {
        for wrong in [
            "\u{202a}",
            "\u{202e}",
            "\u{2066}",
            "\u{2069}",
            "\u{2028}",
            "\u{2029}",
            "\u{fdd0}",
            "\u{ffff}",
            "\u{1fffe}",
        ] {
            let text = format!("Ann{wrong}Smith");
            assert_eq!(Name::from_text(&text).unwrap_err().code, "invalid", "{wrong:?}");
            assert_eq!(Name::from_json(Value::from(text)).unwrap_err().code, "invalid", "{wrong:?}");
        }
    }

    #[test]
    fn a_name_can_be_seen() {
        for wrong in [
            "\u{2060}",
            "\u{ad}",
            "\u{feff}",
            "\u{200b}",
            "\u{3164}",
            "\u{2800}",
            "\u{301}",
            "a\u{200d}".get(1..).unwrap(),
        ] {
            assert!(Name::from_text(wrong).is_err(), "{wrong:?}");
        }
        for name in ["A", "李", "🎉", "?", "نام\u{200c}ها", "👩\u{200d}🚀", "O'Neil"] {
            assert_eq!(Name::from_text(name).unwrap().as_ref(), name);
        }
    }

    #[test]
    fn marks_of_direction_are_blanks_at_the_ends_of_a_name() {
        let name = Name::from_json(Value::from(" \u{200f}\u{200e} Ann\u{200d}B \u{200c}\u{200f}\t")).unwrap();
        assert_eq!(name.as_ref(), "Ann\u{200d}B");
        assert_eq!(Name::from_text("\u{200e} \u{200d}").unwrap_err().code, "required");
        assert_eq!(Name::from_text("\u{2060} Ann Smith").unwrap().first(), "Ann");
    }

    proptest! {
        #[test]
        fn a_name_that_is_accepted_is_accepted_again_as_it_is(text in "\\PC{0,20}") {
            if let Ok(name) = Name::from_text(&text) {
                prop_assert_eq!(Name::from_text(name.as_ref()).unwrap(), name);
            }
        }
    }
}
