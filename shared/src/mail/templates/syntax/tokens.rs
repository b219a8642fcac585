//! The tags of a template and their tokens, as the engine reads them.

use std::fmt;

use super::Fault;

/// Operators, the longest first.
const OPERATORS: [&str; 22] = [
    "==", "!=", "<=", ">=", "//", "**", "<", ">", "=", "+", "-", "*", "/", "%", "~", "|", ".", ",", "(", ")", "[", "]",
];

/// A token of a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// A variable, a filter, a word of the language.
    Name(&'a str),
    /// A text with its quotes.
    Text(&'a str),
    /// A decimal number.
    Number(&'a str),
    /// Anything else that is known.
    Operator(&'a str),
}

impl fmt::Display for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Name(text) | Self::Text(text) | Self::Number(text) | Self::Operator(text)) = self;
        f.write_str(text)
    }
}

/// `{{ … }}` or `{% … %}`.
pub(super) struct Tag<'a> {
    /// Whether it is a statement.
    pub is_block: bool,
    /// Where it begins.
    pub at: usize,
    /// Each with its place in the template.
    pub tokens: Vec<(usize, Token<'a>)>,
    /// Where it ends.
    pub end: usize,
}

/// What of a template is still to be read.
pub(super) struct Source<'a> {
    text: &'a str,
    place: usize,
}

impl<'a> Source<'a> {
    pub fn new(text: &'a str) -> Self {
        Self { text, place: 0 }
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.place..).unwrap_or_default()
    }

    /// The next tag; comments are skipped.
    pub fn next_tag(&mut self) -> Result<Option<Tag<'a>>, Fault> {
        loop {
            let Some(found) = self.rest().find('{') else { return Ok(None) };
            self.place += found;
            let at = self.place;
            let kind = self.text.as_bytes().get(at + 1);
            let Some(kind @ (b'{' | b'%' | b'#')) = kind else {
                self.place += 1;
                continue;
            };
            self.place += 2;
            if self.rest().starts_with(['-', '+']) {
                self.place += 1;
            }
            if *kind == b'#' {
                let end = self.rest().find("#}").ok_or_else(|| Fault::new(at, "this comment has no end"))?;
                self.place += end + 2;
                continue;
            }
            let is_block = *kind == b'%';
            let tokens = self.tokens(at, if is_block { "%}" } else { "}}" })?;
            return Ok(Some(Tag { is_block, at, tokens, end: self.place }));
        }
    }

    /// The tokens up to the end of a tag that begins at `at`.
    fn tokens(&mut self, at: usize, end: &str) -> Result<Vec<(usize, Token<'a>)>, Fault> {
        let mut tokens = Vec::new();
        // An end inside of brackets is none.
        let mut brackets = 0_usize;
        loop {
            let rest = self.rest();
            self.place += rest.len() - rest.trim_start_matches([' ', '\t', '\n', '\r', '\u{c}']).len();
            let rest = self.rest();
            let trimmed = rest.strip_prefix(['-', '+']).filter(|rest| rest.starts_with(end));
            if brackets == 0 && (rest.starts_with(end) || trimmed.is_some()) {
                self.place += end.len() + usize::from(trimmed.is_some());
                return Ok(tokens);
            }
            if rest.is_empty() {
                return Err(Fault::new(at, "this tag has no end"));
            }
            let token = self.token()?;
            match token {
                Token::Operator("(" | "[") => brackets += 1,
                Token::Operator(")" | "]") => {
                    brackets =
                        brackets.checked_sub(1).ok_or_else(|| Fault::new(self.place, "this bracket closes nothing"))?;
                }
                _ => {}
            }
            tokens.push((self.place, token));
            let (Token::Name(text) | Token::Text(text) | Token::Number(text) | Token::Operator(text)) = token;
            self.place += text.len();
        }
    }

    fn token(&self) -> Result<Token<'a>, Fault> {
        let rest = self.rest();
        let cut = |length: usize| rest.get(..length).unwrap_or(rest);
        let bytes = rest.as_bytes();
        match bytes.first() {
            Some(b'\'' | b'"') => {
                let length = text_length(bytes).ok_or_else(|| Fault::new(self.place, "this text has no end"))?;
                Ok(Token::Text(cut(length)))
            }
            Some(byte) if byte.is_ascii_digit() => self.number(),
            Some(byte) if byte.is_ascii_alphabetic() || *byte == b'_' => {
                let length = bytes.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count();
                Ok(Token::Name(cut(length)))
            }
            _ => {
                let operator = OPERATORS.into_iter().find(|operator| rest.starts_with(operator));
                let found = rest.chars().next().unwrap_or_default();
                operator
                    .map(Token::Operator)
                    .ok_or_else(|| Fault::new(self.place, format!("unexpected character {found:?}")))
            }
        }
    }

    /// Digits, and one point between digits; after a dot the engine takes digits alone.
    fn number(&self) -> Result<Token<'a>, Fault> {
        let rest = self.rest();
        let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
        let mut length = digits(rest);
        let is_index = self.place > 0 && self.text.as_bytes().get(self.place - 1) == Some(&b'.');
        let fraction = rest.get(length..).and_then(|rest| rest.strip_prefix('.')).map_or(0, digits);
        if fraction > 0 && !is_index {
            length += 1 + fraction;
        }
        let is_cut_off = rest
            .as_bytes()
            .get(length)
            .is_some_and(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.') && !is_index);
        if is_cut_off || length > 18 {
            return Err(Fault::new(self.place, "this is no number that templates know"));
        }
        Ok(Token::Number(rest.get(..length).unwrap_or(rest)))
    }
}

/// How long a text is with its quotes. A backslash takes the next byte's meaning.
fn text_length(bytes: &[u8]) -> Option<usize> {
    let quote = *bytes.first()?;
    let mut is_escaped = false;
    for (place, byte) in bytes.iter().enumerate().skip(1) {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            byte if *byte == quote => return Some(place + 1),
            _ => {}
        }
    }
    None
}
