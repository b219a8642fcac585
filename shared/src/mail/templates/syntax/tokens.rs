//! Splits a template into tags and tokens, exactly as the engine does.

use std::fmt;

use super::Fault;

/// Operators, the longest first.
const OPERATORS: [&str; 22] = [
    "==", "!=", "<=", ">=", "//", "**", "<", ">", "=", "+", "-", "*", "/", "%", "~", "|", ".", ",", "(", ")", "[", "]",
];

/// A token of a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// A variable, a filter or a keyword.
    Name(&'a str),
    /// Text with its quotes.
    Text(&'a str),
    /// A decimal number.
    Number(&'a str),
    /// An operator or a punctuation mark.
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
    /// Whether the tag is a statement.
    pub is_block: bool,
    /// The offset of the tag.
    pub at: usize,
    /// The tokens with their offsets in the template.
    pub tokens: Vec<(usize, Token<'a>)>,
    /// The offset of the tag's end.
    pub end: usize,
}

/// A template and how far it has been read.
pub(super) struct Source<'a> {
    text: &'a str,
    position: usize,
}

impl<'a> Source<'a> {
    pub fn new(text: &'a str) -> Self {
        Self { text, position: 0 }
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.position..).unwrap_or_default()
    }

    /// Returns the next tag; skips comments.
    pub fn next_tag(&mut self) -> Result<Option<Tag<'a>>, Fault> {
        loop {
            let Some(found) = self.rest().find('{') else { return Ok(None) };
            self.position += found;
            let at = self.position;
            let kind = self.text.as_bytes().get(at + 1);
            let Some(kind @ (b'{' | b'%' | b'#')) = kind else {
                self.position += 1;
                continue;
            };
            self.position += 2;
            if self.rest().starts_with(['-', '+']) {
                self.position += 1;
            }
            if *kind == b'#' {
                let end = self.rest().find("#}").ok_or_else(|| Fault::new(at, "this comment is not closed"))?;
                self.position += end + 2;
                continue;
            }
            let is_block = *kind == b'%';
            let tokens = self.tokens(at, if is_block { "%}" } else { "}}" })?;
            return Ok(Some(Tag { is_block, at, tokens, end: self.position }));
        }
    }

    /// The tokens up to the end of a tag that begins at `at`.
    fn tokens(&mut self, at: usize, end: &str) -> Result<Vec<(usize, Token<'a>)>, Fault> {
        let mut tokens = Vec::new();
        // Inside brackets, a tag does not end.
        let mut brackets = 0_usize;
        loop {
            let rest = self.rest();
            self.position += rest.len() - rest.trim_start_matches([' ', '\t', '\n', '\r', '\u{c}']).len();
            let rest = self.rest();
            let trimmed = rest.strip_prefix(['-', '+']).filter(|rest| rest.starts_with(end));
            if brackets == 0 && (rest.starts_with(end) || trimmed.is_some()) {
                self.position += end.len() + usize::from(trimmed.is_some());
                return Ok(tokens);
            }
            if rest.is_empty() {
                return Err(Fault::new(at, "this tag is not closed"));
            }
            let token = self.token()?;
            match token {
                Token::Operator("(" | "[") => brackets += 1,
                Token::Operator(")" | "]") => {
                    brackets = brackets.checked_sub(1).ok_or_else(|| {
                        Fault::new(self.position, "this closing bracket has no matching opening bracket")
                    })?;
                }
                _ => {}
            }
            tokens.push((self.position, token));
            let (Token::Name(text) | Token::Text(text) | Token::Number(text) | Token::Operator(text)) = token;
            self.position += text.len();
        }
    }

    fn token(&self) -> Result<Token<'a>, Fault> {
        let rest = self.rest();
        let cut = |length: usize| rest.get(..length).unwrap_or(rest);
        let bytes = rest.as_bytes();
        match bytes.first() {
            Some(b'\'' | b'"') => {
                let length =
                    text_length(bytes).ok_or_else(|| Fault::new(self.position, "this text has no closing quote"))?;
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
                    .ok_or_else(|| Fault::new(self.position, format!("unexpected character {found:?}")))
            }
        }
    }

    /// Digits, with an optional fraction. After a dot the engine reads digits only.
    fn number(&self) -> Result<Token<'a>, Fault> {
        let rest = self.rest();
        let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
        let mut length = digits(rest);
        let is_index = self.position > 0 && self.text.as_bytes().get(self.position - 1) == Some(&b'.');
        let fraction = rest.get(length..).and_then(|rest| rest.strip_prefix('.')).map_or(0, digits);
        if fraction > 0 && !is_index {
            length += 1 + fraction;
        }
        let is_cut_off = rest
            .as_bytes()
            .get(length)
            .is_some_and(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.') && !is_index);
        if is_cut_off || length > 18 {
            return Err(Fault::new(self.position, "this number is invalid"));
        }
        Ok(Token::Number(rest.get(..length).unwrap_or(rest)))
    }
}

/// The length of text with its quotes. A backslash escapes the next byte.
fn text_length(bytes: &[u8]) -> Option<usize> {
    let quote = *bytes.first()?;
    let mut is_escaped = false;
    for (index, byte) in bytes.iter().enumerate().skip(1) {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            byte if *byte == quote => return Some(index + 1),
            _ => {}
        }
    }
    None
}
