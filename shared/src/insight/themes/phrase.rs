//! A phrase that a comment contains.

use serde::{Deserialize, Serialize};

/// A phrase of one to three words that a comment contains.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Stored", into = "Stored")]
pub struct Phrase {
    /// The stems of its words, with a space between them: what all its inflections share.
    pub key: String,
    /// The phrase as it was typed, in lower case where that is not its own.
    pub form: String,
    /// Whether it stands as a noun here.
    pub firm: bool,
    /// Whether it is written as a name here.
    pub name: bool,
    /// The mood of its sentences in hundredths, from -100 to 100, if the language has a lexicon.
    pub mood: Option<i16>,
}

/// A phrase as it is stored, by the hundred thousand: its key, its form where that is another, 1 for
/// firm and 2 for a name, and its mood.
#[derive(Serialize, Deserialize)]
struct Stored(String, Option<String>, u8, Option<i16>);

impl From<Phrase> for Stored {
    fn from(Phrase { key, form, firm, name, mood }: Phrase) -> Self {
        let form = (form != key).then_some(form);
        Self(key, form, u8::from(firm) | u8::from(name) << 1, mood)
    }
}

impl From<Stored> for Phrase {
    fn from(Stored(key, form, is, mood): Stored) -> Self {
        Self { form: form.unwrap_or_else(|| key.clone()), key, firm: is & 1 > 0, name: is & 2 > 0, mood }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phrase_is_stored_in_few_letters() {
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
