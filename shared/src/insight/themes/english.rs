//! The parts of speech of an English sentence.

use std::sync::{Arc, LazyLock};

use harper_brill::{BrillTagger, FreqDict, Tagger, UPOS, brill_tagger};

use super::tokens::Token;

static TAGGER: LazyLock<Arc<BrillTagger<FreqDict>>> = LazyLock::new(brill_tagger);

/// What a word is, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Noun,
    Adjective,
    Verb,
    Number,
    /// A word that the tagger has never seen: a name, or a new thing.
    Unknown,
    /// All that connects these, or modifies a verb.
    Other,
}

/// What goes before an -ing form that is a verb: "still learning", "is playing", "love listening".
const BEFORE_VERB: [&str; 33] = [
    "i", "am", "is", "are", "was", "were", "be", "been", "being", "i'm", "it's", "she's", "he's", "we're", "they're",
    "you're", "still", "just", "not", "now", "always", "love", "enjoy", "like", "hate", "keep", "keeps", "kept",
    "start", "started", "by", "after", "while",
];
/// What goes behind one: "learning how", "playing it".
const BEHIND_VERB: [&str; 22] = [
    "the", "a", "an", "my", "our", "your", "his", "her", "their", "this", "that", "it", "them", "me", "us", "you",
    "to", "how", "all", "about", "what", "new",
];

/// The part of speech of each word.
pub(super) fn parts(tokens: &[Token<'_>]) -> Vec<Part> {
    let words: Vec<String> = tokens.iter().map(|token| token.text.replace('’', "'")).collect();
    let tags = TAGGER.tag_sentence(&words);
    let lower: Vec<String> = words.iter().map(|word| word.to_lowercase()).collect();
    let part = |(position, tag): (usize, Option<UPOS>)| {
        let part = tag.map_or_else(|| unknown(&lower[position]), part);
        let gerund = part == Part::Noun && lower[position].ends_with("ing") && lower[position].len() > 5;
        if gerund && is_verb(&lower, position) { Part::Verb } else { part }
    };
    tags.into_iter().enumerate().map(part).collect()
}

fn part(tag: UPOS) -> Part {
    match tag {
        UPOS::NOUN | UPOS::PROPN => Part::Noun,
        UPOS::ADJ => Part::Adjective,
        UPOS::VERB => Part::Verb,
        UPOS::NUM => Part::Number,
        _ => Part::Other,
    }
}

/// A word that the tagger has never seen is a name or a new thing, if it does not end like another part of speech.
fn unknown(lower: &str) -> Part {
    const ADJECTIVES: [&str; 9] = ["ed", "able", "ible", "ful", "less", "ous", "ive", "ish", "est"];
    let ends = |ending: &str| lower.len() > ending.len() + 2 && lower.ends_with(ending);
    if lower.len() > 4 && lower.ends_with("ly") {
        Part::Other
    } else if ADJECTIVES.iter().any(|ending| ends(ending)) {
        Part::Adjective
    } else if lower.contains('\'') || lower == "cannot" {
        Part::Other
    } else {
        Part::Unknown
    }
}

fn is_verb(lower: &[String], position: usize) -> bool {
    let before = position.checked_sub(1).and_then(|before| lower.get(before));
    let behind = lower.get(position + 1);
    before.is_some_and(|word| BEFORE_VERB.contains(&word.as_str()))
        || behind.is_some_and(|word| BEHIND_VERB.contains(&word.as_str()))
}
