//! Names of people, companies and things, without characters that mislead a reader.

mod greeting;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};

use super::{Fault, Field, check_text};
use crate::values::cell::{Cell, Cells};

/// The name of a person, a company, a workspace, an API key, …: at most 200 characters on one line.
///
/// Names appear in other people's lists, emails and pages. So a name must not contain characters that change
/// the direction of the text around it, line separators or noncharacters, and has at least one visible
/// character. Marks that scripts need (ZWNJ, ZWJ, LRM, RLM) are allowed inside a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, sqlx::Type)]
#[serde(transparent)]
#[sqlx(transparent)]
pub struct Name(String);

impl Name {
    /// The most characters of a name.
    pub const MAX: usize = 200;

    /// Makes a whole name from its parts; `None` without parts. Names in Chinese, Japanese or Korean letters have
    /// the family name first.
    ///
    /// # Errors
    /// A [`Fault`] if the name is too long.
    pub fn join(first: Option<&Self>, last: Option<&Self>) -> Result<Option<Self>, Fault> {
        let joined = match (first, last) {
            (Some(first), Some(last)) if is_east_asian(&first.0) && is_east_asian(&last.0) => {
                format!("{} {}", last.0, first.0)
            }
            (Some(first), Some(last)) => format!("{} {}", first.0, last.0),
            (Some(part), None) | (None, Some(part)) => return Ok(Some(part.clone())),
            (None, None) => return Ok(None),
        };
        Self::from_text(&joined).map(Some)
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
            return Err(Fault::new("invalid", "must contain a visible character"));
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

/// Whether all letters of a name are Chinese, Japanese or Korean.
fn is_east_asian(name: &str) -> bool {
    let is_letter = |c: char| {
        matches!(c, '\u{1100}'..='\u{11ff}' | '\u{2e80}'..='\u{2fdf}' | '\u{3005}'..='\u{3007}' | '\u{3040}'..='\u{30ff}'
            | '\u{3130}'..='\u{318f}' | '\u{31f0}'..='\u{31ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}'
            | '\u{ac00}'..='\u{d7af}' | '\u{f900}'..='\u{faff}' | '\u{ff66}'..='\u{ff9f}' | '\u{20000}'..='\u{323af}')
    };
    name.chars().any(is_letter) && name.chars().all(|c| is_letter(c) || c.is_whitespace() || c == '・')
}

/// Trims whitespace and the invisible marks ZWNJ, ZWJ, LRM and RLM.
pub fn trim(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || matches!(c, '\u{200c}'..='\u{200f}'))
}

/// Whether [`trim`] leaves nothing of a text.
pub fn is_blank(text: &str) -> bool {
    trim(text).is_empty()
}

/// Directional embeddings, overrides and isolates, line and paragraph separators, and noncharacters.
fn is_misleading(c: char) -> bool {
    matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{fdd0}'..='\u{fdef}')
        || u32::from(c) & 0xfffe == 0xfffe
}

/// Whether the character combines with the letter before it.
fn is_mark(c: char) -> bool {
    use GeneralCategory as Is;
    matches!(c.general_category(), Is::NonspacingMark | Is::SpacingMark | Is::EnclosingMark)
}

fn is_visible(c: char) -> bool {
    use GeneralCategory as Is;
    // Letters and symbols without a visible glyph.
    let is_empty =
        matches!(c, '\u{115f}' | '\u{1160}' | '\u{2800}' | '\u{3164}' | '\u{ffa0}' | '\u{e0000}'..='\u{e0fff}');
    let category = c.general_category();
    let is_space = matches!(category, Is::SpaceSeparator | Is::LineSeparator | Is::ParagraphSeparator);
    !is_empty && !is_mark(c) && !is_space && !matches!(category, Is::Control | Is::Format | Is::Surrogate)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_has_no_misleading_characters() {
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
    fn a_name_has_a_visible_character() {
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
    fn directional_marks_are_trimmed_at_the_ends_of_a_name() {
        let name = Name::from_json(Value::from(" \u{200f}\u{200e} Ann\u{200d}B \u{200c}\u{200f}\t")).unwrap();
        assert_eq!(name.as_ref(), "Ann\u{200d}B");
        assert_eq!(Name::from_text("\u{200e} \u{200d}").unwrap_err().code, "required");
        assert_eq!(Name::from_text("\u{2060} Ann Smith").unwrap().greeting(None), "Ann");
    }

    proptest! {
        #[test]
        fn an_accepted_name_is_accepted_again_unchanged(text in "\\PC{0,20}") {
            if let Ok(name) = Name::from_text(&text) {
                prop_assert_eq!(Name::from_text(name.as_ref()).unwrap(), name);
            }
        }
    }
}
