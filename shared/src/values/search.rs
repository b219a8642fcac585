//! The words by which `q=` finds a record.

use uuid::Uuid;

use crate::values::Fault;
use crate::values::fold::fold;

/// Returns the words of the given texts as a `tsvector` in its text form.
///
/// A word is a run of letters and digits, without case and accents. Each is prefixed with four characters
/// of the workspace's id, so that one index serves all workspaces and a search reads only its own.
pub fn vector<'a>(workspace_id: Uuid, texts: impl IntoIterator<Item = &'a str>) -> String {
    let scope = scope(workspace_id);
    let mut vector = String::new();
    for text in texts {
        for word in words(&fold(text)) {
            vector.push_str(&scope);
            vector.push_str(start(word));
            vector.push(' ');
        }
    }
    vector
}

/// The most words of a query, and the most characters of each.
const MAX_WORDS: usize = 20;
const MAX_LENGTH: usize = 100;

/// Returns a `tsquery` in its text form: every word of `text` must be the beginning of a word of the record.
///
/// # Errors
/// A [`Fault`] for a text without a word, or with too many or too long ones.
pub fn query(workspace_id: Uuid, text: &str) -> Result<String, Fault> {
    let text = fold(text);
    let mut found: Vec<&str> = Vec::new();
    for word in words(&text) {
        if found.len() == MAX_WORDS {
            return Err(Fault::new("too_long", format!("must have at most {MAX_WORDS} words")));
        }
        if word.chars().nth(MAX_LENGTH).is_some() {
            return Err(Fault::new("too_long", format!("must have words of at most {MAX_LENGTH} characters")));
        }
        found.push(word);
    }
    if found.is_empty() {
        return Err(Fault::new("invalid", "must have at least one letter or digit"));
    }
    // A word that is a prefix of another one is redundant, and would make the search read all its matches.
    found.sort_unstable();
    found.dedup_by(|next, word| {
        let is_longer = next.starts_with(*word);
        if is_longer {
            std::mem::swap(next, word);
        }
        is_longer
    });
    let scope = scope(workspace_id);
    Ok(found.iter().map(|word| format!("{scope}{word}:*")).collect::<Vec<_>>().join(" & "))
}

/// The words of a folded text.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty())
}

/// The part of a word that is stored. A `tsvector` accepts words of up to 2,046 bytes; nobody searches by
/// the end of a longer one.
fn start(word: &str) -> &str {
    const MAX: usize = 255;
    if word.len() <= MAX {
        return word;
    }
    word.char_indices().nth(MAX).map_or(word, |(end, _)| &word[..end])
}

/// The last four digits of the id, which are random in a UUIDv7.
fn scope(workspace_id: Uuid) -> String {
    let mut id = workspace_id.simple().to_string();
    id.split_off(id.len() - 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_runs_of_letters_and_digits_without_case_and_accents() {
        let workspace = Uuid::from_u128(0xabcd);
        assert_eq!(
            vector(workspace, ["Ann O'Neil", "ann@Example.com"]),
            "abcdann abcdo abcdneil abcdann abcdexample abcdcom "
        );
        let decomposed = "Jose\u{301} Mu\u{308}ller-Stra\u{df}e";
        assert_eq!(vector(workspace, [decomposed]), "abcdjose abcdmuller abcdstrasse ");
    }

    #[test]
    fn a_query_has_a_limited_number_of_words_without_redundant_ones() {
        let query = |text: &str| query(Uuid::from_u128(0xabcd), text).map_err(|fault| fault.code);
        assert_eq!(query("exa, Ann"), Ok("abcdann:* & abcdexa:*".into()));
        assert_eq!(query("M\u{fc}LLER"), Ok("abcdmuller:*".into()));
        assert_eq!(query("a ann an b annex a"), Ok("abcdannex:* & abcdb:*".into()));
        for none in ["", " -- ", "\u{301}"] {
            assert_eq!(query(none), Err("invalid"), "{none}");
        }
        let words = |count: usize| (0..count).map(|n| format!("w{n:02}")).collect::<Vec<_>>().join(" ");
        assert_eq!(query(&words(20)).unwrap().matches('&').count(), 19);
        assert_eq!(query(&words(21)), Err("too_long"));
        assert!(query(&"\u{fc}".repeat(100)).is_ok());
        assert_eq!(query(&"\u{fc}".repeat(101)), Err("too_long"));
    }
}
