//! The phrases of many comments, and the comments that contain each phrase.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hasher};

use super::phrase::Phrase;

/// The most forms counted for a phrase; further ones cannot become its label.
const FORMS: usize = 64;

/// Counts the comments that contain each phrase, in a few bytes per phrase.
///
/// Most phrases occur once. Counting them by a hash first keeps rare phrases out of the [`Corpus`].
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

    /// The number of counted comments.
    pub fn comments(&self) -> usize {
        self.comments
    }

    fn of(&self, phrase: &Phrase) -> u32 {
        self.counts.get(&hash(&phrase.key)).copied().unwrap_or(0)
    }
}

/// Ignores spaces, so that "set up" and "setup" are counted together.
fn hash(key: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.split(' ').for_each(|stem| hasher.write(stem.as_bytes()));
    hasher.finish()
}

/// The number of comments that a theme needs: one in 200, at least two or three, and at most 50, so that new
/// topics become themes early.
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
    /// The number of comments in which the phrase is a noun.
    pub firm: usize,
    /// The number of comments in which the phrase is a name.
    pub names: usize,
    /// The weight of each spelling.
    pub forms: BTreeMap<String, usize>,
    /// The comments that contain the phrase, in order.
    pub comments: Vec<u32>,
}

/// The phrases that comments share.
#[derive(Debug)]
pub struct Corpus {
    counter: Counter,
    least: usize,
    numbers: HashMap<String, usize>,
    pub(super) phrases: Vec<Shared>,
    pub(super) ratings: Vec<u8>,
}

impl Corpus {
    /// Creates a corpus for the counted comments, which are then added.
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
            // A noun makes the better label; other forms only matter for phrases that are never a noun.
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
