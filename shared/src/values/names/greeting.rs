//! The name by which an email greets a person: the first name, without titles, in usual capitals.
//!
//! Names come from people and other systems: `MR. JON YANG`, `Yang, Jon`, `Frau Dr. Weber`. Where the
//! first name is not certain, the whole name is the greeting, as it is written.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use serde::Deserialize;

use super::{Name, is_east_asian, is_mark, is_visible};
use crate::values::fold::fold;

impl Name {
    /// The name in the greeting of an email: the first name, or else the first name in the whole name.
    pub fn greeting(&self, first_name: Option<&Self>) -> String {
        let given = first_name.and_then(|name| given(&name.0));
        given.or_else(|| first(&self.0)).unwrap_or_else(|| self.0.clone())
    }
}

/// The first names in a field for them, without titles and suffixes.
fn given(text: &str) -> Option<String> {
    let words = words(text);
    let begin = titles(&words);
    let end = words.iter().rposition(|word| !WORDS.is_title(word) && !WORDS.is_suffix(word))?;
    let words: Vec<String> = words.get(begin..=end)?.iter().map(|word| in_usual_capitals(word)).collect();
    (!words.is_empty()).then(|| words.join(" "))
}

/// The first name in a whole name; `None` if it is not certain.
fn first(text: &str) -> Option<String> {
    if is_east_asian(text) {
        return None;
    }
    let mut parts = text.split([',', '，', '、']);
    let name = words(parts.next()?);
    let mut is_titled = false;
    // `Yang, Jon`, but not `Jon Yang, PhD`.
    for part in parts {
        let words = words(part);
        let begin = titles(&words);
        is_titled |= begin > 0;
        let named: Vec<&str> = words[begin..].iter().copied().filter(|word| !WORDS.is_suffix(word)).collect();
        if !named.is_empty() {
            return first_of(&named, false, text);
        }
    }
    let begin = titles(&name);
    is_titled |= begin > 0;
    match &name[begin..] {
        // A title and a family name.
        [_] if is_titled => None,
        named => first_of(named, is_titled, text),
    }
}

/// The first of the words that name a person, if it is a first name.
fn first_of(words: &[&str], is_titled: bool, text: &str) -> Option<String> {
    let (first, others) = words.split_first()?;
    let is_initial = first.chars().filter(|c| c.is_alphabetic()).count() == 1 && has_case(first);
    // `van der Berg` is a family name, and `Van Morrison` is not.
    let begins_family = WORDS.is_particle(first)
        && (is_titled
            || others.first().is_some_and(|next| WORDS.is_particle(next))
            || (!first.contains(char::is_uppercase) && text.contains(char::is_uppercase)));
    // `Mr. and Mrs. Smith`
    let are_several = is_titled && others.iter().any(|word| WORDS.is_title(word) && !WORDS.is_suffix(word));
    let is_unclear = !others.is_empty() && (is_initial || begins_family || are_several);
    let is_name = first.contains(char::is_alphabetic) && !is_unclear;
    is_name.then(|| in_usual_capitals(first))
}

/// The words of a name, without quotes and brackets. A title may be joined to the next word: `Dr.Jon`.
fn words(text: &str) -> Vec<&str> {
    let is_around = |c: char| matches!(c, ';' | '"' | '“' | '”' | '„' | '«' | '»' | '(' | ')' | '<' | '>' | ',');
    let mut words = Vec::new();
    for word in text.split_whitespace() {
        let mut word = word.trim_matches(is_around);
        if !word.contains(is_visible) {
            continue;
        }
        while let Some((at, _)) = word.match_indices('.').next()
            && at + 1 < word.len()
            && !WORDS.is_title(word)
            && !WORDS.is_suffix(word)
            && WORDS.is_title(&word[..=at])
        {
            words.push(&word[..=at]);
            word = &word[at + 1..];
        }
        words.push(word);
    }
    words
}

/// How many words at the beginning are titles.
fn titles(words: &[&str]) -> usize {
    let mut at = 0;
    loop {
        at += match words.get(at..).unwrap_or_default() {
            [one, other, ..] if WORDS.is_title(&format!("{one} {other}")) => 2,
            [one, ..] if WORDS.is_title(one) => 1,
            _ => return at,
        };
    }
}

/// Corrects a word in capitals or in small letters alone. Others stay as they are written: `McDonald`.
fn in_usual_capitals(word: &str) -> String {
    let (has_capitals, has_small) = (word.contains(char::is_uppercase), word.contains(char::is_lowercase));
    if has_capitals == has_small || !is_plain(word) || is_initials(word) {
        return word.to_owned();
    }
    // The small letter of `İ` has a dot of its own.
    let small = if has_capitals { word.replace('İ', "i").to_lowercase() } else { word.to_owned() };
    capitalized(&small)
}

/// Whether a word is written with letters, hyphens and apostrophes. Dots stand only after single letters, so
/// that the part of an address before the `@` stays as it is.
fn is_plain(word: &str) -> bool {
    let is_letter = |c: char| c.is_alphabetic() || is_mark(c) || is_hyphen(c) || is_apostrophe(c);
    let has_dots = word.trim_end_matches('.').contains('.');
    word.split('.').all(|part| part.chars().all(is_letter) && (!has_dots || part.chars().count() <= 1))
}

/// Whether a word in capitals is initials rather than a name: `JJ`.
fn is_initials(word: &str) -> bool {
    word.len() <= 3 && word.bytes().all(|byte| byte.is_ascii_uppercase() && !b"AEIOUY".contains(&byte))
}

/// Begins a word in small letters, and each of its parts, with a capital: `Jean-Luc`, `O'Brien`, `McDonald`.
fn capitalized(word: &str) -> String {
    let mut capitalized = String::with_capacity(word.len());
    let mut begins = true;
    for (at, c) in word.char_indices() {
        let begins_here = begins && c.is_alphabetic() || is_after_mc(word, at);
        capitalized.push(if begins_here { capital(c) } else { c });
        begins = match c {
            c if is_apostrophe(c) => is_after_prefix(word, at),
            c => is_hyphen(c) || c == '.',
        };
    }
    capitalized
}

/// Whether an apostrophe follows a single letter that belongs to a longer name, as in `O'Brien`.
fn is_after_prefix(word: &str, at: usize) -> bool {
    let before = word[..at].rsplit(|c| is_hyphen(c) || c == '.').next().unwrap_or_default();
    before.chars().count() == 1 && word[at..].chars().count() > 3
}

/// Whether the letter follows `mc` at the beginning of a longer name.
fn is_after_mc(word: &str, at: usize) -> bool {
    at == 2 && word.starts_with("mc") && word.chars().count() >= 5
}

/// The capital of a letter, or the letter itself if it has no capital of its own. Georgian has capitals, but does
/// not begin names with them.
fn capital(c: char) -> char {
    let mut capitals = c.to_uppercase();
    match (capitals.next(), capitals.next()) {
        (Some(capital), None) if capital.to_lowercase().eq([c]) && !matches!(c, '\u{10d0}'..='\u{10ff}') => capital,
        _ => c,
    }
}

fn has_case(word: &str) -> bool {
    word.contains(|c: char| c.is_uppercase() || c.is_lowercase())
}

fn is_hyphen(c: char) -> bool {
    matches!(c, '-' | '\u{2010}' | '\u{2011}')
}

fn is_apostrophe(c: char) -> bool {
    matches!(c, '\'' | '’' | 'ʼ' | '‘')
}

/// The words of `config/names.toml`, folded.
struct Words {
    titles: HashSet<String>,
    suffixes: HashSet<String>,
    particles: HashSet<String>,
}

static WORDS: LazyLock<Words> = LazyLock::new(|| {
    let lists: Lists = toml::from_str(include_str!("../../../../config/names.toml")).unwrap_or_default();
    Words { titles: folded(&lists.titles), suffixes: folded(&lists.suffixes), particles: folded(&lists.particles) }
});

/// The file. Each table has lists of words.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Lists {
    titles: HashMap<String, Vec<String>>,
    suffixes: HashMap<String, Vec<String>>,
    particles: HashMap<String, Vec<String>>,
}

fn folded(lists: &HashMap<String, Vec<String>>) -> HashSet<String> {
    lists.values().flatten().map(|word| fold(word).into_owned()).collect()
}

impl Words {
    fn is_title(&self, word: &str) -> bool {
        is_in(&self.titles, word)
    }

    fn is_suffix(&self, word: &str) -> bool {
        is_in(&self.suffixes, word)
    }

    fn is_particle(&self, word: &str) -> bool {
        is_in(&self.particles, word)
    }
}

/// Whether a word is listed, as it is or without its final dot.
fn is_in(words: &HashSet<String>, word: &str) -> bool {
    let word = fold(word);
    words.contains(&*word) || word.strip_suffix('.').is_some_and(|word| words.contains(word))
}

#[cfg(test)]
mod tests;
