//! Selecting the themes from the phrases that comments share.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::corpus::{Corpus, Shared, least};
use super::language::PARTICLES;

/// A word can be a theme if it is a noun in this share of its comments.
const FIRM: f64 = 0.4;
/// A name in a larger share of comments is the product's own name, which is not a theme of its reviews.
const OWN_NAME: f64 = 0.05;
/// A phrase in a larger share of comments is not specific to any, unless there are only a few comments.
const UBIQUITOUS: f64 = 0.65;
const FEW: f64 = 50.0;
/// A judging or generic word can be in a phrase that contains this share of its occurrences.
const BOUND: f64 = 0.2;
/// The least normalized pointwise mutual information of a phrase's words.
const COHERENT: f64 = 0.1;
/// Two groups are the same theme if more than this share of the smaller group's comments is in both.
const SAME: f64 = 0.7;
/// The share of the larger group's comments, for groups that have no word in common.
const ALWAYS: f64 = 0.9;
/// The last word means the phrase if this share of the word's comments contains the phrase: clock, alarm clock.
const MEANT_BY_HEAD: f64 = 0.4;
/// The same for the words before the last: battery, battery life.
const MEANT_BY_MODIFIER: f64 = 0.5;
/// The share of the "sound" comments that "sound quality" needs to become the label of "sound".
const FACET: f64 = 0.15;
/// The number of comments with average ratings that a theme's ratings are mixed with when it is weighed.
const PRIOR: f64 = 10.0;
/// The most themes of a workspace.
pub(super) const MOST: usize = 300;

/// A theme that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The stems of the phrase.
    pub key: String,
    /// The most frequent form of the phrase.
    pub label: String,
    /// The stems of all phrases of the theme, its own first.
    pub keys: Vec<String>,
    /// The number of comments about the theme.
    pub count: usize,
    /// The significance of the theme.
    pub score: f64,
}

/// Spellings of the same phrase, and phrases merged into it.
#[derive(Debug, Clone)]
struct Group {
    words: Vec<String>,
    keys: Vec<String>,
    firm: usize,
    names: usize,
    forms: BTreeMap<String, usize>,
    comments: Vec<u32>,
}

impl Group {
    fn count(&self) -> usize {
        self.comments.len()
    }

    fn share_firm(&self) -> f64 {
        self.firm as f64 / self.count() as f64
    }

    fn key(&self) -> String {
        self.words.join(" ")
    }

    fn absorb(&mut self, other: &Self) {
        self.keys.extend(other.keys.iter().cloned());
        self.comments = union(&self.comments, &other.comments);
    }

    fn label(&self) -> String {
        self.forms
            .iter()
            .max_by(|(form, count), (other, others)| count.cmp(others).then_with(|| other.cmp(form)))
            .map(|(form, _)| form.clone())
            .unwrap_or_default()
    }
}

/// Selects the themes of a corpus, the most significant first. `silent` are the stems of known names, such as
/// the categories of the feedback, which are not themes.
pub fn choose(corpus: &Corpus, silent: &[Vec<String>]) -> Vec<Found> {
    let least = least(corpus.ratings.len());
    let groups = fold(&corpus.phrases);
    let words = words_of(&groups);
    let all = corpus.ratings.len() as f64;
    let own = own_names(&groups, all);
    let silent: Vec<HashSet<&str>> = silent.iter().map(|name| name.iter().map(String::as_str).collect()).collect();
    let mut eligible: Vec<Group> = groups
        .iter()
        .filter(|group| group.count() >= least && (all < FEW || group.count() as f64 <= all * UBIQUITOUS))
        .filter(|group| !group.words.iter().all(|word| own.contains(word)))
        .filter(|group| !silent.iter().any(|name| group.words.iter().all(|word| name.contains(word.as_str()))))
        .filter(|group| is_thing(group, &words, all))
        .cloned()
        .collect();
    nest(&mut eligible);
    let ratings = ratings_of(corpus.ratings.iter().copied());
    let mut found: Vec<(f64, Group)> =
        eligible.into_iter().map(|group| (score(&group, &corpus.ratings, &ratings), group)).collect();
    found
        .sort_by(|(score, group), (other, others)| other.total_cmp(score).then_with(|| group.words.cmp(&others.words)));
    let mut selected: Vec<(f64, Group)> = Vec::new();
    for (score, group) in found {
        match selected.iter().position(|(_, other)| is_same(&group, other)) {
            Some(same) => selected[same].1.absorb(&group),
            None if selected.len() < MOST => selected.push((score, group)),
            None => (),
        }
    }
    selected.into_iter().map(|(score, group)| theme(score, group)).collect()
}

fn theme(score: f64, group: Group) -> Found {
    Found { key: group.key(), label: group.label(), count: group.count(), keys: group.keys, score }
}

/// Groups phrases that differ only in spaces: "set up", "set-up" and "setup".
fn fold(phrases: &[Shared]) -> Vec<Group> {
    let mut spelled: BTreeMap<String, Vec<&Shared>> = BTreeMap::new();
    for phrase in phrases {
        spelled.entry(phrase.key.replace(' ', "")).or_default().push(phrase);
    }
    spelled.into_values().map(group).collect()
}

fn group(mut same: Vec<&Shared>) -> Group {
    same.sort_by(|one, other| other.comments.len().cmp(&one.comments.len()).then_with(|| one.key.cmp(&other.key)));
    let mut group = Group {
        words: same[0].key.split(' ').map(str::to_owned).collect(),
        keys: Vec::new(),
        firm: 0,
        names: 0,
        forms: BTreeMap::new(),
        comments: Vec::new(),
    };
    for shared in same {
        group.keys.push(shared.key.clone());
        group.firm += shared.firm;
        group.names += shared.names;
        group.comments = union(&group.comments, &shared.comments);
        for (form, count) in &shared.forms {
            *group.forms.entry(form.clone()).or_default() += count;
        }
    }
    group
}

fn words_of(groups: &[Group]) -> HashMap<&str, &Group> {
    groups
        .iter()
        .flat_map(|group| group.keys.iter().filter(|key| !key.contains(' ')).map(move |key| (key.as_str(), group)))
        .collect()
}

/// The names of the product, its parts and its maker.
fn own_names(groups: &[Group], all: f64) -> BTreeSet<String> {
    groups
        .iter()
        .filter(|group| group.words.len() == 1 && group.names as f64 >= 0.35 * group.count() as f64)
        .filter(|group| group.count() as f64 > OWN_NAME * all)
        .flat_map(|group| group.words.iter().cloned())
        .collect()
}

/// Whether a phrase is a noun whose words belong together.
fn is_thing(group: &Group, words: &HashMap<&str, &Group>, all: f64) -> bool {
    if group.words.len() == 1 {
        return group.share_firm() >= FIRM;
    }
    if PARTICLES.contains(&group.words[group.words.len() - 1].as_str()) {
        // A verb and its particle are a noun if they are also used, or written, as one. "laptop in" is not.
        let noun = words.get(group.words[0].as_str()).is_some_and(|word| word.share_firm() >= FIRM);
        return group.firm >= 2 && group.share_firm() >= 0.08 && (!noun || group.keys.len() > 1);
    }
    let counts: Option<Vec<(&Group, f64)>> =
        group.words.iter().map(|word| words.get(word.as_str()).map(|found| (*found, found.count() as f64))).collect();
    let count = group.count() as f64;
    let Some(counts) = counts else { return group.firm > 0 };
    let independent: f64 = counts.iter().map(|(_, count)| (count / all).ln()).sum();
    let together = (count / all).ln();
    // Bouma 2009, generalized to any number of words.
    let coherence =
        if together < 0.0 { (together - independent) / (-together * (counts.len() - 1) as f64) } else { 1.0 };
    let weak = |(word, _): &&(&Group, f64)| word.share_firm() < FIRM;
    let bound = group.share_firm() >= 0.5 || counts.iter().filter(weak).all(|(_, alone)| count >= BOUND * alone);
    bound && coherence >= COHERENT
}

/// Merges phrases with the phrases that they contain, so that no two themes mean the same.
fn nest(groups: &mut Vec<Group>) {
    groups.sort_by(|one, other| {
        let order = other.words.len().cmp(&one.words.len()).then_with(|| other.count().cmp(&one.count()));
        order.then_with(|| one.words.cmp(&other.words))
    });
    let mut numbers: HashMap<Vec<String>, usize> =
        groups.iter().enumerate().map(|(number, group)| (group.words.clone(), number)).collect();
    let counts: Vec<usize> = groups.iter().map(Group::count).collect();
    for long in 0..groups.len() {
        let words = groups[long].words.clone();
        if words.len() == 1 {
            break;
        }
        let takes = |short: usize, share: f64| counts[long] as f64 >= share * counts[short] as f64;
        // "bluetooth speaker" becomes "speaker", but "clock" becomes "alarm clock" if most clocks are.
        let facet = is_facet(&words);
        let head = numbers.get(&words[1..]).copied();
        if let Some(head) = head {
            if takes(head, MEANT_BY_HEAD) {
                merge(groups, head, long);
                numbers.remove(&words[1..]);
            } else if !facet {
                merge(groups, long, head);
                numbers.remove(&words);
                continue;
            }
        }
        let Some(modifier) = numbers.get(&words[..words.len() - 1]).copied() else { continue };
        if takes(modifier, MEANT_BY_MODIFIER) {
            // "milk" means "milk foam", unless other phrases start with "milk".
            if !groups.iter().any(|group| is_rival(&group.words, &words) && numbers.contains_key(&group.words)) {
                merge(groups, modifier, long);
            }
            numbers.remove(&words[..words.len() - 1]);
        } else if facet || head.is_some() || words.len() > 2 {
            // "bulb" occurs only in "light bulb", which becomes "light"; but "room service" is not a "room".
            merge(groups, long, modifier);
            numbers.remove(&words);
            if facet && takes(modifier, FACET) {
                let facet = groups[long].clone();
                groups[modifier].words = facet.words;
                groups[modifier].forms = facet.forms;
            }
        }
    }
    let left: HashSet<usize> = numbers.into_values().collect();
    let mut number = 0..;
    groups.retain(|_| number.next().is_some_and(|number| left.contains(&number)));
}

/// Whether another phrase starts with the same modifier.
fn is_rival(other: &[String], words: &[String]) -> bool {
    let modifier = &words[..words.len() - 1];
    other != words && other.len() > modifier.len() && other.starts_with(modifier)
}

fn merge(groups: &mut [Group], from: usize, into: usize) {
    let absorbed = groups[from].clone();
    groups[into].absorb(&absorbed);
}

fn is_facet(words: &[String]) -> bool {
    const FACETS: [&str; 6] = ["qualiti", "qualit", "kwaliteit", "calid", "qualidad", "qualität"];
    words.len() == 2 && words.iter().any(|word| FACETS.contains(&word.as_str()))
}

fn is_same(one: &Group, other: &Group) -> bool {
    let smaller = one.count().min(other.count()) as f64;
    let common = common(&one.comments, &other.comments) as f64;
    let larger = one.count().max(other.count()) as f64;
    let related = one.words.iter().any(|word| other.words.contains(word));
    // With few comments, unrelated words occur together by chance.
    if related { common >= SAME * smaller } else { smaller >= 5.0 && common >= ALWAYS * larger }
}

/// The ratings of a number of answers.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Ratings {
    /// The number of ratings.
    pub count: f64,
    /// The sum of the ratings.
    pub sum: f64,
    /// The sum of the squares of the ratings.
    pub squares: f64,
}

impl Ratings {
    pub fn mean(&self) -> f64 {
        self.sum / self.count
    }

    fn deviation(&self) -> f64 {
        (self.squares / self.count - self.mean().powi(2)).max(0.0).sqrt()
    }
}

/// The significance of a theme: n · ln(N/n) · w · (1 + |d|).
///
/// `n · ln(N/n)` is the self-information of the theme over its comments, which is also the TF-IDF of its
/// phrase in all comments (Spärck Jones 1972). `w` is 2 for phrases of two or more words, which are more
/// specific than single words (like the C-value of Frantzi et al. 2000). `d` is the difference of the theme's
/// mean rating from that of all answers in standard deviations (Cohen's d), shrunk towards 0 by [`PRIOR`]
/// comments.
pub(super) fn weight(words: usize, theme: &Ratings, comments: f64, all: &Ratings) -> f64 {
    let deviation = all.deviation();
    let apart = (theme.sum - theme.count * all.mean()).abs() / (theme.count + PRIOR);
    let effect = if deviation > 1e-9 { apart / deviation } else { 0.0 };
    theme.count * (comments / theme.count).ln().max(0.1) * words.min(2) as f64 * (1.0 + effect)
}

fn score(group: &Group, ratings: &[u8], all: &Ratings) -> f64 {
    weight(
        group.words.len(),
        &ratings_of(group.comments.iter().map(|number| ratings[*number as usize])),
        all.count,
        all,
    )
}

fn ratings_of(ratings: impl Iterator<Item = u8>) -> Ratings {
    ratings.fold(Ratings::default(), |sums, rating| {
        let rating = f64::from(rating);
        Ratings { count: sums.count + 1.0, sum: sums.sum + rating, squares: sums.squares + rating * rating }
    })
}

/// The union of two sorted lists.
fn union(one: &[u32], other: &[u32]) -> Vec<u32> {
    let mut union = Vec::with_capacity(one.len().max(other.len()));
    let (mut left, mut right) = (one.iter().copied().peekable(), other.iter().copied().peekable());
    loop {
        let next = match (left.peek(), right.peek()) {
            (Some(a), Some(b)) => *a.min(b),
            (Some(a), None) => *a,
            (None, Some(b)) => *b,
            (None, None) => return union,
        };
        left.next_if_eq(&next);
        right.next_if_eq(&next);
        union.push(next);
    }
}

/// The size of the intersection of two sorted lists.
fn common(one: &[u32], other: &[u32]) -> usize {
    let (mut i, mut j, mut count) = (0, 0, 0);
    while i < one.len() && j < other.len() {
        match one[i].cmp(&other[j]) {
            std::cmp::Ordering::Less => i += 1,
            std::cmp::Ordering::Greater => j += 1,
            std::cmp::Ordering::Equal => {
                count += 1;
                i += 1;
                j += 1;
            }
        }
    }
    count
}
