//! What many comments say: how many contain each phrase, and which.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hasher};

use super::phrase::Phrase;

/// Forms of one phrase that are told apart; rarer ones do not become its label.
const FORMS: usize = 64;

/// Counts in how many comments each phrase is, in a few bytes for each.
///
/// Most phrases are said once. Counting them by a hash first means that a [`Corpus`] holds those
/// that are said often, and no others.
#[derive(Debug, Default)]
pub struct Counter {
    counts: HashMap<u64, u32>,
    comments: usize,
}

impl Counter {
    /// Counts the phrases of a comment.
    pub fn add(&mut self, phrases: &[Phrase]) {
        self.comments += 1;
        for phrase in phrases {
            *self.counts.entry(hash(&phrase.key)).or_default() += 1;
        }
    }

    /// How many comments were counted.
    pub fn comments(&self) -> usize {
        self.comments
    }

    fn of(&self, phrase: &Phrase) -> u32 {
        self.counts.get(&hash(&phrase.key)).copied().unwrap_or(0)
    }
}

/// "set up" and "setup" are counted together.
fn hash(key: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.split(' ').for_each(|stem| hasher.write(stem.as_bytes()));
    hasher.finish()
}

/// In how many comments a phrase has to be for a theme: one in 200, but two of a few comments, and
/// no more than 50 of many, since what begins to be said is worth knowing.
pub(super) fn least(comments: usize) -> usize {
    match comments {
        0..100 => 2,
        _ => (comments / 200).clamp(3, 50),
    }
}

/// A phrase that several comments share.
#[derive(Debug, Clone, Default)]
pub(super) struct Shared {
    pub key: String,
    /// How many comments have it as a noun.
    pub firm: usize,
    /// How many have it as a name.
    pub names: usize,
    /// How it is written, and how often.
    pub forms: BTreeMap<String, usize>,
    /// The comments it is in, in order.
    pub comments: Vec<u32>,
}

/// Comments by the phrases they share.
#[derive(Debug)]
pub struct Corpus {
    counter: Counter,
    least: usize,
    numbers: HashMap<String, usize>,
    pub(super) phrases: Vec<Shared>,
    pub(super) ratings: Vec<u8>,
}

impl Corpus {
    /// A corpus of the comments that were counted, and are now added.
    pub fn new(counter: Counter) -> Self {
        let least = least(counter.comments());
        Self { counter, least, numbers: HashMap::new(), phrases: Vec::new(), ratings: Vec::new() }
    }

    /// Adds a comment.
    pub fn add(&mut self, rating: u8, phrases: &[Phrase]) {
        let number = u32::try_from(self.ratings.len()).unwrap_or(u32::MAX);
        self.ratings.push(rating);
        for phrase in phrases {
            if (self.counter.of(phrase) as usize) < (self.least / 10).max(2) {
                continue;
            }
            let shared = self.shared(phrase);
            shared.firm += usize::from(phrase.firm);
            shared.names += usize::from(phrase.name);
            shared.comments.push(number);
            // What stands as a noun is the better label; the rest is for phrases that never do.
            let weight = if phrase.firm || phrase.key.contains(' ') { 1_000 } else { 1 };
            if shared.forms.len() < FORMS || shared.forms.contains_key(&phrase.form) {
                *shared.forms.entry(phrase.form.clone()).or_default() += weight;
            }
        }
    }

    fn shared(&mut self, phrase: &Phrase) -> &mut Shared {
        let number = match self.numbers.get(&phrase.key) {
            Some(number) => *number,
            None => {
                self.numbers.insert(phrase.key.clone(), self.phrases.len());
                self.phrases.push(Shared { key: phrase.key.clone(), ..Shared::default() });
                self.phrases.len() - 1
            }
        };
        &mut self.phrases[number]
    }
}
