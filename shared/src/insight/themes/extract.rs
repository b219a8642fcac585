//! Reading a comment: its language, and its phrases with their sentiment.

use std::collections::BTreeMap;

use super::english::{self, Part};
use super::language::{self, Language, Vocabulary};
use super::mood;
use super::phrase::Phrase;
use super::tokens::{Sentence, Token, sentences};

/// The most characters of a word; longer tokens are ignored.
const LONGEST: usize = 40;
/// The number of bytes of a comment that are read.
const READ: usize = 8_000;
/// Remains of markup, which are ignored.
const MARKUP: [&str; 9] = ["amp", "quot", "nbsp", "lt", "gt", "br", "https", "http", "www"];

/// The language and the phrases of a comment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// The language of the comment.
    pub language: Language,
    /// Whether the comment was long enough to detect the language reliably.
    pub sure: bool,
    /// The phrases in the order of their keys, each key once.
    pub phrases: Vec<Phrase>,
}

/// Reads a comment. A comment that is too short to detect its language is read in the `usual` language.
pub fn read(comment: &str, usual: Language) -> Reading {
    let comment = head(comment);
    let (language, sure) = language::detect(comment, usual);
    let mut phrases = BTreeMap::<String, Occurrences>::new();
    for sentence in sentences(comment) {
        let words = words(&sentence, language);
        let mood = (language == Language::En).then(|| mood::of(sentence.text));
        for candidate in candidates(&words, language.vocabulary()) {
            phrases.entry(candidate.key.clone()).or_insert_with(|| Occurrences::new(&candidate)).add(&candidate, mood);
        }
    }
    let phrases = phrases.into_iter().map(|(key, occurrences)| occurrences.phrase(key)).collect();
    Reading { language, sure, phrases }
}

/// The most frequent language of the comments that are long enough to detect it.
pub fn usual<'a>(comments: impl IntoIterator<Item = &'a str>) -> Language {
    let mut counts = BTreeMap::<Language, usize>::new();
    for comment in comments {
        if let (language, true) = language::detect(head(comment), Language::En) {
            *counts.entry(language).or_default() += 1;
        }
    }
    let most = counts.into_iter().max_by_key(|(language, count)| (*count, std::cmp::Reverse(*language)));
    most.map_or(Language::En, |(language, _)| language)
}

fn head(comment: &str) -> &str {
    let mut end = comment.len().min(READ);
    while !comment.is_char_boundary(end) {
        end -= 1;
    }
    &comment[..end]
}

/// One occurrence of a phrase.
struct Candidate {
    key: String,
    form: String,
    firm: bool,
    name: bool,
}

/// All occurrences of a phrase in a comment.
struct Occurrences {
    form: String,
    firm: bool,
    name: bool,
    moods: i64,
    count: i64,
    has_mood: bool,
}

impl Occurrences {
    fn new(candidate: &Candidate) -> Self {
        Self { form: candidate.form.clone(), firm: false, name: false, moods: 0, count: 0, has_mood: false }
    }

    fn add(&mut self, candidate: &Candidate, mood: Option<i16>) {
        self.firm |= candidate.firm;
        self.name |= candidate.name;
        self.moods += i64::from(mood.unwrap_or(0));
        self.has_mood |= mood.is_some();
        self.count += 1;
    }

    fn phrase(self, key: String) -> Phrase {
        let mean = i16::try_from(self.moods / self.count.max(1)).unwrap_or(0);
        Phrase { key, form: self.form, firm: self.firm, name: self.name, mood: self.has_mood.then_some(mean) }
    }
}

/// The role of a word in phrases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// Not part of any phrase.
    Stop,
    /// A stop word that is followed by a noun.
    Determiner,
    /// A noun.
    Noun,
    /// A word that may be a noun elsewhere.
    Loose,
    /// A word before a noun.
    Modifier,
    /// A judging word before a noun; only fixed phrases such as "smart home" contain one.
    Opinion,
}

struct Word {
    lower: String,
    stem: String,
    form: String,
    role: Role,
    name: bool,
    joined: bool,
    apart: bool,
}

impl Word {
    fn is_nominal(&self) -> bool {
        self.role == Role::Noun
    }
}

/// The words of a sentence with their roles.
fn words(sentence: &Sentence<'_>, language: Language) -> Vec<Word> {
    let vocabulary = language.vocabulary();
    let tokens = split_elided(&sentence.tokens, vocabulary);
    let shouted = is_shouted(&tokens);
    let parts = (language == Language::En).then(|| english::parts(&tokens));
    let mut words = Vec::with_capacity(tokens.len());
    for (position, token) in tokens.iter().enumerate() {
        let text = without_possessive(token.text);
        let lower = text.to_lowercase().replace('’', "'");
        let capital = text.chars().next().is_some_and(char::is_uppercase);
        let name = capital && position > 0 && !shouted;
        let part = parts.as_ref().map(|parts| parts[position]);
        let role = role(&lower, part, name && language == Language::De, vocabulary);
        words.push(Word {
            stem: vocabulary.stem(&lower).into_owned(),
            form: form(text, &lower, name || (capital && language == Language::De && !shouted)),
            role,
            name: name && language != Language::De,
            joined: token.joined,
            apart: token.apart,
            lower,
        });
    }
    detect_nouns(&mut words, language, vocabulary);
    words
}

/// Splits elisions: "l'hôtel" is two words.
fn split_elided<'a>(tokens: &[Token<'a>], vocabulary: &Vocabulary) -> Vec<Token<'a>> {
    let mut split = Vec::with_capacity(tokens.len());
    for token in tokens {
        let halves = token.text.split_once(['\'', '’']);
        match halves {
            Some((before, after))
                if vocabulary.elided.contains(&before.to_lowercase().as_str()) && !after.is_empty() =>
            {
                split.push(Token { text: before, ..*token });
                split.push(Token { text: after, joined: false, apart: false });
            }
            _ => split.push(*token),
        }
    }
    split
}

/// Whether the sentence is mostly in capitals, so that capitals do not mark names.
fn is_shouted(tokens: &[Token<'_>]) -> bool {
    let letters =
        |is: fn(char) -> bool| tokens.iter().flat_map(|token| token.text.chars()).filter(|letter| is(*letter)).count();
    letters(char::is_uppercase) > letters(char::is_lowercase)
        || (tokens.len() > 3
            && tokens.iter().all(|token| token.text.chars().next().is_some_and(|first| !first.is_lowercase())))
}

fn without_possessive(word: &str) -> &str {
    word.strip_suffix("'s").or_else(|| word.strip_suffix("’s")).unwrap_or(word)
}

fn form(text: &str, lower: &str, keeps_case: bool) -> String {
    if keeps_case { text.to_owned() } else { lower.to_owned() }
}

fn role(lower: &str, part: Option<Part>, noun: bool, vocabulary: &Vocabulary) -> Role {
    let length = lower.chars().count();
    if vocabulary.determiners.contains(&lower) {
        return Role::Determiner;
    }
    let is_word = length > 1
        && length <= LONGEST
        && lower.chars().any(char::is_alphabetic)
        && !lower.contains('\'')
        && !MARKUP.contains(&lower);
    // Lists of stop words contain nouns, such as "room" and "system" in English; the tagger decides.
    let stop = vocabulary.stop.contains(lower) && !matches!(part, Some(Part::Noun | Part::Adjective));
    if !is_word || lower.starts_with(|first: char| first.is_ascii_digit()) || vocabulary.apart.contains(lower) {
        return Role::Stop;
    }
    // "petit" can describe anything, but "petit déjeuner" is a phrase.
    if part.is_none() && vocabulary.is_generic(lower) {
        return Role::Opinion;
    }
    if stop {
        return Role::Stop;
    }
    match part {
        Some(Part::Noun | Part::Unknown) if mood::valence(lower).abs() >= 2.2 => Role::Opinion,
        Some(Part::Noun | Part::Unknown) => Role::Noun,
        Some(Part::Adjective) if judges(lower, vocabulary) => Role::Opinion,
        Some(Part::Adjective) => Role::Modifier,
        Some(Part::Verb) => Role::Loose,
        Some(Part::Number | Part::Other) => Role::Stop,
        None if noun => Role::Noun,
        None => Role::Loose,
    }
}

fn judges(lower: &str, vocabulary: &Vocabulary) -> bool {
    vocabulary.stop.contains(lower) || vocabulary.is_generic(lower) || mood::valence(lower).abs() >= 0.3
}

/// Changes the role of words to `Noun` where their position in the sentence shows one.
fn detect_nouns(words: &mut [Word], language: Language, vocabulary: &Vocabulary) {
    for position in 0..words.len() {
        if words[position].role != Role::Loose {
            continue;
        }
        let (before, here, after) = (&words[..position], &words[position], words.get(position + 1));
        let continues = after.is_some_and(|next| !next.apart && !matches!(next.role, Role::Stop | Role::Determiner));
        let is_noun = match language {
            // "the cleaning was", but neither "the playing children" nor "that works".
            Language::En => {
                before.last().is_some_and(|last| {
                    last.role == Role::Determiner && !here.apart && last.lower != "that" && last.lower != "this"
                }) && !after.is_some_and(|next| !next.apart && matches!(next.role, Role::Noun | Role::Determiner))
            }
            _ => {
                let opened = before
                    .iter()
                    .rev()
                    .find(|word| !vocabulary.is_generic(&word.lower) && !is_degree(word))
                    .is_some_and(|word| word.role == Role::Determiner);
                opened && !vocabulary.is_generic(&here.lower) && (vocabulary.noun_first || !continues)
            }
        };
        if is_noun {
            words[position].role = Role::Noun;
        }
    }
}

fn is_degree(word: &Word) -> bool {
    matches!(
        word.lower.as_str(),
        "très" | "plus" | "muy" | "más" | "molto" | "più" | "muito" | "mais" | "sehr" | "heel" | "erg"
    )
}

/// All occurrences of phrases in a sentence.
fn candidates(words: &[Word], vocabulary: &Vocabulary) -> Vec<Candidate> {
    let mut found = Vec::new();
    for (position, word) in words.iter().enumerate() {
        // Every word is counted, since phrases are weighed by the other occurrences of their words.
        if !matches!(word.role, Role::Stop | Role::Determiner) {
            found.push(candidate(
                &words[position..=position],
                word.is_nominal() && vocabulary.stands_alone(&word.lower),
            ));
        }
        for length in 2..=3 {
            let Some(run) = words.get(position..position + length) else { break };
            if run[1..].iter().any(|word| word.apart) {
                break;
            }
            found.extend(compound(run, words.get(position.wrapping_sub(1)), words.get(position + length), vocabulary));
        }
        found.extend(linked(&words[position..], vocabulary));
    }
    found
}

/// A run of words that form a compound noun.
fn compound(run: &[Word], before: Option<&Word>, after: Option<&Word>, vocabulary: &Vocabulary) -> Option<Candidate> {
    let (last, modifiers) = run.split_last()?;
    let is_part = run[0].joined || after.is_some_and(|word| word.joined);
    if run[1..].iter().all(|word| word.joined) && !is_past(&run[0].lower) {
        let has_content = run.iter().any(|word| !matches!(word.role, Role::Stop | Role::Determiner));
        let is_whole = !is_part && run.iter().all(|word| word.lower.chars().any(char::is_alphabetic));
        let adjective = matches!(last.role, Role::Modifier | Role::Opinion)
            || after.is_some_and(|next| next.role == Role::Noun && !next.apart);
        return (has_content && is_whole).then(|| candidate(run, !adjective));
    }
    if is_part {
        return None;
    }
    if run.len() == 2
        && matches!(run[0].role, Role::Loose | Role::Noun)
        && vocabulary.particles.contains(&last.lower.as_str())
    {
        if is_past(&run[0].lower) {
            return None;
        }
        // "the set up", but not "the laptop in", which continues.
        let noun = run[0].role == Role::Loose
            && !run[0].apart
            && before.is_some_and(|word| matches!(word.role, Role::Determiner | Role::Modifier | Role::Opinion));
        return Some(candidate(run, noun));
    }
    let modified = modifiers.iter().all(|word| matches!(word.role, Role::Noun | Role::Modifier | Role::Opinion));
    let weak = |word: &&Word| word.role == Role::Opinion || vocabulary.is_generic(&word.lower);
    let weak = run.iter().filter(weak).count();
    (last.role == Role::Noun && modified && weak < run.len()).then(|| candidate(run, weak == 0))
}

/// Whether a verb is a past form: "built in" and "locked in" are not nouns.
fn is_past(verb: &str) -> bool {
    verb.ends_with("ed")
        || matches!(verb, "built" | "made" | "came" | "went" | "got" | "took" | "gave" | "found" | "kept")
}

/// Two nouns that a word such as "of" links. In English the phrase has the same key as the compound.
fn linked(words: &[Word], vocabulary: &Vocabulary) -> Option<Candidate> {
    let (first, rest) = words.split_first()?;
    let links = rest.iter().take_while(|word| !word.apart && vocabulary.links.contains(&word.lower.as_str())).count();
    let determiner = rest.get(links).is_some_and(|word| word.role == Role::Determiner && !vocabulary.noun_first);
    let second = rest.get(links + usize::from(determiner))?;
    if links == 0 || !first.is_nominal() || second.apart || !matches!(second.role, Role::Noun | Role::Loose) {
        return None;
    }
    if vocabulary.is_generic(&first.lower) || (vocabulary.noun_first && vocabulary.is_generic(&second.lower)) {
        return None;
    }
    if vocabulary.noun_first {
        let mut form = String::new();
        for word in &words[..=links] {
            form += &word.form;
            form.push(if vocabulary.elided.contains(&word.lower.as_str()) { '\'' } else { ' ' });
        }
        form += &second.form;
        return Some(Candidate { key: format!("{} {}", first.stem, second.stem), form, firm: true, name: false });
    }
    if second.role != Role::Noun {
        return None;
    }
    let form = format!("{} {} {}", first.form, rest[0].form, second.form);
    Some(Candidate { key: format!("{} {}", second.stem, first.stem), form, firm: true, name: false })
}

fn candidate(run: &[Word], firm: bool) -> Candidate {
    let mut key = String::new();
    let mut form = String::new();
    for (position, word) in run.iter().enumerate() {
        if position > 0 {
            key.push(' ');
            form.push(if word.joined { '-' } else { ' ' });
        }
        key.push_str(&word.stem);
        form.push_str(&word.form);
    }
    Candidate { key, form, firm, name: run.iter().all(|word| word.name) }
}
