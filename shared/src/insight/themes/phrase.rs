//! Phrases of comments.

use serde::{Deserialize, Serialize};

/// A phrase of one to three words that a comment contains.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Stored", into = "Stored")]
pub struct Phrase {
    /// The stems of the words, separated by spaces, which all inflections share.
    pub key: String,
    /// The phrase as it was written; names keep their capitals, other words are in lower case.
    pub form: String,
    /// Whether the phrase is a noun in the comment.
    pub firm: bool,
    /// Whether the phrase is written as a name in the comment.
    pub name: bool,
    /// The sentiment of its sentences in hundredths, from -100 to 100, if the language has a lexicon.
    pub mood: Option<i16>,
}

/// The compact form in which phrases are stored: the key, the form if it differs, the flags 1 for firm and
/// 2 for a name, and the mood.
#[derive(Serialize, Deserialize)]
struct Stored(String, Option<String>, u8, Option<i16>);

impl From<Phrase> for Stored {
    fn from(Phrase { key, form, firm, name, mood }: Phrase) -> Self {
        let form = (form != key).then_some(form);
        Self(key, form, u8::from(firm) | u8::from(name) << 1, mood)
    }
}

impl From<Stored> for Phrase {
    fn from(Stored(key, form, flags, mood): Stored) -> Self {
        Self { form: form.unwrap_or_else(|| key.clone()), key, firm: flags & 1 > 0, name: flags & 2 > 0, mood }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phrase_is_stored_compactly() {
        let phrase = Phrase { key: "song".into(), form: "Songs".into(), firm: true, name: true, mood: Some(-12) };
        assert_eq!(serde_json::to_string(&phrase).unwrap(), r#"["song","Songs",3,-12]"#);
        let same = Phrase { form: "song".into(), firm: false, name: false, mood: None, ..phrase.clone() };
        assert_eq!(serde_json::to_string(&same).unwrap(), r#"["song",null,0,null]"#);
        for phrase in [phrase, same] {
            let text = serde_json::to_string(&phrase).unwrap();
            assert_eq!(serde_json::from_str::<Phrase>(&text).unwrap(), phrase);
        }
    }
}
