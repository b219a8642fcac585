//! Parts of speech in English sentences.

use std::sync::{Arc, LazyLock};

use harper_brill::{BrillTagger, FreqDict, Tagger, UPOS, brill_tagger};

use super::tokens::Token;

static TAGGER: LazyLock<Arc<BrillTagger<FreqDict>>> = LazyLock::new(brill_tagger);

/// The part of speech of a word, as far as themes need it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Noun,
    Adjective,
    Verb,
    Number,
    /// A word that the tagger does not know: a name, or a new thing.
    Unknown,
    /// Any other part of speech, such as conjunctions and adverbs.
    Other,
}

/// Words before an -ing form that is a verb: "still learning", "is playing", "love listening".
const BEFORE_VERB: [&str; 33] = [
    "i", "am", "is", "are", "was", "were", "be", "been", "being", "i'm", "it's", "she's", "he's", "we're", "they're",
    "you're", "still", "just", "not", "now", "always", "love", "enjoy", "like", "hate", "keep", "keeps", "kept",
    "start", "started", "by", "after", "while",
];
/// Words after an -ing form that is a verb: "learning how", "playing it".
const AFTER_VERB: [&str; 22] = [
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

/// The part of speech of a word that the tagger does not know, by its ending.
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
    let after = lower.get(position + 1);
    before.is_some_and(|word| BEFORE_VERB.contains(&word.as_str()))
        || after.is_some_and(|word| AFTER_VERB.contains(&word.as_str()))
}
