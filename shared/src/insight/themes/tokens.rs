//! Splitting a comment into sentences and words.

use unicode_segmentation::UnicodeSegmentation;

/// A word of a sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token<'a> {
    /// The word as it was written; words joined by hyphens are separate tokens.
    pub text: &'a str,
    /// Whether a hyphen joins the word to the previous one.
    pub joined: bool,
    /// Whether punctuation separates the word from the previous one: a comma, a bracket.
    pub apart: bool,
}

/// A sentence and its words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sentence<'a> {
    /// The sentence as it was written.
    pub text: &'a str,
    /// The words.
    pub tokens: Vec<Token<'a>>,
}

/// The sentences of a text that contain words.
pub(super) fn sentences(text: &str) -> Vec<Sentence<'_>> {
    let mut found = Vec::new();
    let mut current = Open::at(0);
    for (start, piece) in text.split_word_bound_indices() {
        if piece.chars().any(char::is_alphanumeric) {
            current.word(start, piece, &mut found, text);
        } else if piece.contains(['.', '!', '?', '\n', '\r', '…', '。', '！', '？', '•']) {
            current.end(start + piece.len(), &mut found, text);
        } else if piece == "-" || piece == "‐" || piece == "‑" {
            current.hyphen(start);
        } else if !piece.chars().all(char::is_whitespace) {
            current.apart = true;
        } else {
            current.space();
        }
    }
    current.end(text.len(), &mut found, text);
    found
}

/// The sentence that is being read.
struct Open<'a> {
    start: usize,
    tokens: Vec<Token<'a>>,
    /// The end of the last word, if nothing followed it yet.
    end_of_word: Option<usize>,
    /// Whether a hyphen directly follows the last word.
    hyphen: bool,
    apart: bool,
}

impl<'a> Open<'a> {
    fn at(start: usize) -> Self {
        Self { start, tokens: Vec::new(), end_of_word: None, hyphen: false, apart: false }
    }

    /// Splits "fun.It", which is one word to Unicode like "e.g": a missing space still ends the sentence.
    fn word(&mut self, start: usize, piece: &'a str, found: &mut Vec<Sentence<'a>>, text: &'a str) {
        let mut offset = 0;
        while let Some(dot) = piece[offset..].find(['.', ':']).map(|dot| dot + offset) {
            let (before, after) = (&piece[offset..dot], &piece[dot + 1..]);
            let is_word = |part: &str| part.chars().take(2).filter(|letter| letter.is_alphabetic()).count() == 2;
            if !(is_word(before) && is_word(after)) {
                break;
            }
            self.push(start + offset, before);
            self.end(start + dot + 1, found, text);
            offset = dot + 1;
        }
        self.push(start + offset, &piece[offset..]);
    }

    fn push(&mut self, start: usize, text: &'a str) {
        self.tokens.push(Token { text, joined: self.hyphen, apart: self.apart && !self.tokens.is_empty() });
        self.end_of_word = Some(start + text.len());
        self.hyphen = false;
        self.apart = false;
    }

    fn hyphen(&mut self, start: usize) {
        self.hyphen = self.end_of_word == Some(start);
        self.apart |= !self.hyphen;
        self.end_of_word = None;
    }

    /// A hyphen with a space on either side is a dash.
    fn space(&mut self) {
        self.apart |= self.hyphen;
        self.hyphen = false;
        self.end_of_word = None;
    }

    fn end(&mut self, end: usize, found: &mut Vec<Sentence<'a>>, text: &'a str) {
        let done = std::mem::replace(self, Self::at(end));
        if !done.tokens.is_empty() {
            found.push(Sentence { text: text[done.start..end].trim(), tokens: done.tokens });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<Vec<String>> {
        let mark = |token: &Token<'_>| match (token.joined, token.apart) {
            (true, _) => format!("-{}", token.text),
            (_, true) => format!(",{}", token.text),
            _ => token.text.to_owned(),
        };
        sentences(text).iter().map(|sentence| sentence.tokens.iter().map(mark).collect()).collect()
    }

    #[test]
    fn sentences_end_even_if_the_space_is_missing() {
        assert_eq!(
            words("Great fun.It works, well! 3.5 stars"),
            [vec!["Great", "fun"], vec!["It", "works", ",well"], vec!["3.5", "stars"]]
        );
    }

    #[test]
    fn a_hyphen_joins_words_and_a_dash_separates_them() {
        assert_eq!(words("The set-up - easy"), [vec!["The", "set", "-up", ",easy"]]);
        assert_eq!(words("It's the hotel’s wi-fi"), [vec!["It's", "the", "hotel’s", "wi", "-fi"]]);
    }
}
