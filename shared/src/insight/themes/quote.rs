//! Quotes of comments: the excerpt of a comment, and the choice of comments.

use super::language::Language;
use super::tokens::{Sentence, sentences};

/// The most characters of an excerpt.
const LONGEST: usize = 220;
/// An excerpt of fewer characters is extended by a neighboring sentence.
const SHORT: usize = 60;
/// The most quotes of a theme.
const QUOTES: usize = 3;

/// The part of a comment that is about a theme: the sentence with one of its phrases, truncated around the
/// phrase if it is long.
pub(super) fn excerpt(comment: &str, keys: &[String], language: Language) -> String {
    let sentences = sentences(comment);
    let found =
        sentences.iter().enumerate().find_map(|(number, sentence)| Some((number, find(sentence, keys, language)?)));
    let Some((number, word)) = found else { return truncated(comment.trim(), 0) };
    let (mut first, mut last) = (number, number);
    let whole = |first: usize, last: usize| span(comment, &sentences[first], &sentences[last]);
    if whole(first, last).chars().count() < SHORT {
        if last + 1 < sentences.len() && whole(first, last + 1).chars().count() <= LONGEST {
            last += 1;
        } else if first > 0 && whole(first - 1, last).chars().count() <= LONGEST {
            first -= 1;
        }
    }
    let text = whole(first, last);
    let offset = (word.as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
    truncated(text, offset)
}

/// The first word in the sentence of one of the phrases.
fn find<'a>(sentence: &Sentence<'a>, keys: &[String], language: Language) -> Option<&'a str> {
    let vocabulary = language.vocabulary();
    let stems: Vec<String> = sentence
        .tokens
        .iter()
        .map(|token| {
            let lower = token.text.to_lowercase();
            let word = lower.rsplit(['\'', '’']).find(|part| part.chars().count() > 1).unwrap_or(&lower);
            vocabulary.stem(word).into_owned()
        })
        .collect();
    let starts = |words: &[&str]| stems.windows(words.len()).position(|window| window == words);
    keys.iter().find_map(|key| {
        let words: Vec<&str> = key.split(' ').collect();
        // Two nouns may have a word between them, or be in reverse order.
        let position = starts(&words).or_else(|| {
            let all = words.iter().all(|word| stems.iter().any(|stem| stem == word));
            (all && words.len() > 1).then(|| stems.iter().position(|stem| stem == words[0])).flatten()
        })?;
        sentence.tokens.get(position).map(|token| token.text)
    })
}

/// The text from one sentence to another.
fn span<'a>(comment: &'a str, first: &Sentence<'a>, last: &Sentence<'a>) -> &'a str {
    let start = first.text.as_ptr() as usize - comment.as_ptr() as usize;
    let end = last.text.as_ptr() as usize - comment.as_ptr() as usize + last.text.len();
    comment.get(start..end).unwrap_or(comment)
}

/// Truncates a text between words to about [`LONGEST`] characters around an offset, and replaces line breaks
/// and runs of spaces by single spaces.
fn truncated(text: &str, offset: usize) -> String {
    let words: Vec<(usize, &str)> =
        text.split_whitespace().map(|word| (word.as_ptr() as usize - text.as_ptr() as usize, word)).collect();
    let length =
        |from: usize, to: usize| words[from..to].iter().map(|(_, word)| word.chars().count() + 1).sum::<usize>();
    let centre = words.iter().rposition(|(start, _)| *start <= offset).unwrap_or(0);
    let (mut from, mut to) = (centre, (centre + 1).min(words.len()));
    loop {
        let (left, right) =
            (from > 0 && length(from - 1, to) <= LONGEST, to < words.len() && length(from, to + 1) <= LONGEST);
        match (left, right) {
            (true, true) if centre - from > to - centre => to += 1,
            (true, _) => from -= 1,
            (false, true) => to += 1,
            (false, false) => break,
        }
    }
    let mut kept = words[from..to].iter().map(|(_, word)| *word).collect::<Vec<_>>().join(" ");
    if kept.chars().count() > LONGEST {
        kept = kept.chars().take(LONGEST).collect();
        kept.push('…');
    }
    if from > 0 {
        kept.insert(0, '…');
    }
    if to < words.len() {
        kept.push('…');
    }
    kept
}

/// Picks the candidates to quote, and returns their indexes. The first is the one whose rating is nearest to
/// the theme's mean; the next ones have other ratings if possible. No two are similar.
pub(super) fn pick(candidates: &[(i16, String)], mean: f64) -> Vec<usize> {
    let mut picked: Vec<usize> = Vec::new();
    while picked.len() < QUOTES {
        let next = (0..candidates.len())
            .filter(|index| {
                picked.iter().all(|other| other != index && !is_alike(&candidates[*other].1, &candidates[*index].1))
            })
            .min_by(|one, other| {
                let rank = |index: usize| {
                    let (rating, text) = &candidates[index];
                    let again = picked.iter().filter(|other| candidates[**other].0 == *rating).count();
                    let length = text.chars().count();
                    let short = usize::from(length < 30);
                    (again, short, (f64::from(*rating) - mean).abs())
                };
                let ((a, b, c), (d, e, f)) = (rank(*one), rank(*other));
                a.cmp(&d).then(b.cmp(&e)).then(c.total_cmp(&f)).then(one.cmp(other))
            });
        match next {
            Some(index) => picked.push(index),
            None => break,
        }
    }
    picked
}

fn is_alike(one: &str, other: &str) -> bool {
    let words = |text: &str| text.split_whitespace().map(str::to_lowercase).collect::<std::collections::BTreeSet<_>>();
    let (one, other) = (words(one), words(other));
    2 * one.intersection(&other).count() > one.union(&other).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(keys: &[&str]) -> Vec<String> {
        keys.iter().map(|key| (*key).to_owned()).collect()
    }

    #[test]
    fn an_excerpt_is_the_sentence_about_the_theme() {
        let comment = "Bought it last week for my mother, who was not sure about it. The sound quality is amazing for such a small box, honestly! Would buy again.";
        let quoted = excerpt(comment, &keys(&["sound qualiti"]), Language::En);
        assert_eq!(quoted, "The sound quality is amazing for such a small box, honestly!");
    }

    #[test]
    fn a_short_sentence_is_extended_and_a_long_one_truncated_around_the_phrase() {
        assert_eq!(
            excerpt("Nice.\nGreat  sound.\nEasy to carry.", &keys(&["sound"]), Language::En),
            "Great sound. Easy to carry."
        );
        let long = format!("{} the sound {}", "word ".repeat(100), "after ".repeat(100));
        let quoted = excerpt(&long, &keys(&["sound"]), Language::En);
        assert!(quoted.starts_with('…') && quoted.ends_with('…') && quoted.contains("the sound"), "{quoted}");
        assert!(quoted.chars().count() <= LONGEST + 2);
    }

    #[test]
    fn quotes_differ_in_rating_and_in_words() {
        let candidates = [
            (5, "The sound is great and fills the whole room".to_owned()),
            (5, "the sound is great and fills the whole room".to_owned()),
            (5, "Loud, clear, and deep enough for parties outside".to_owned()),
            (1, "Sound stopped working after two weeks of use".to_owned()),
        ];
        assert_eq!(pick(&candidates, 4.6), [0, 3, 2]);
    }
}
