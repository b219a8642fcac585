//! Converts the engine's output to the plain text and the HTML of an email.
//!
//! Only the template's own text forms paragraphs, lists, buttons and links. Inserted values are
//! plain text, except for the links that the program itself passes to a template.

use std::ops::Range;

use minijinja::{AutoEscape, Output, State, Value};

use super::engine::{BEGIN, END};
use super::foreign_links::Cleaner;
use crate::mail;

const P: &str = "<p style=\"margin:0 0 16px\">";
const UL: &str = "<ul style=\"margin:0 0 16px; padding:0 0 0 20px\">";
const LI: &str = "<li style=\"margin:0 0 4px\">";
const A: &str = "color:#1d4ed8";
const BUTTON: &str = "display:inline-block; padding:12px 24px; background:#1d4ed8; color:#ffffff; border-radius:6px; \
                      font-weight:600; text-decoration:none";

/// The subject as one line for a header, without [`BEGIN`] and [`END`].
pub(super) fn one_line(marked: &str) -> String {
    let plain: String = marked.chars().filter(|c| !matches!(*c, BEGIN | END)).collect();
    mail::one_line(&plain)
}

/// A body in which inserted values are distinguished from the template's own text.
pub(super) struct Marked<'a> {
    text: String,
    /// The ranges of the inserted values, in order.
    values: Vec<Range<usize>>,
    /// The inserted values that are links, because the program created them.
    links: &'a [&'a str],
}

enum Line<'a> {
    Empty,
    /// The text after `- `.
    Item(Range<usize>),
    /// The label and the link.
    Button(Range<usize>, &'a str),
    Words(Range<usize>),
}

impl<'a> Marked<'a> {
    /// Parses the engine's output.
    pub fn read(written: &str, links: &'a [&'a str]) -> Self {
        let (mut text, mut values) = (String::with_capacity(written.len()), Vec::new());
        for (i, piece) in written.split(BEGIN).enumerate() {
            let (value, words) = if i == 0 { ("", piece) } else { piece.split_once(END).unwrap_or((piece, "")) };
            if !value.is_empty() {
                values.push(text.len()..text.len() + value.len());
                text.push_str(value);
            }
            text.push_str(words);
        }
        Self { text, values, links }.without_foreign_links()
    }

    /// Removes what mail programs would turn into links from inserted values, except for the
    /// program's links.
    fn without_foreign_links(self) -> Self {
        if !Cleaner::is_needed(&self.text) {
            return self;
        }
        let mut cleaner = Cleaner::new(self.text.len());
        let mut begin = 0;
        for value in &self.values {
            cleaner.push_own(&self.text[begin..value.start]);
            let mut text = &self.text[value.clone()];
            while let Some((at, link)) = self.find_link(text) {
                cleaner.push_value(&text[..at], false);
                cleaner.push_value(link, true);
                text = &text[at + link.len()..];
            }
            cleaner.push_value(text, false);
            begin = value.end;
        }
        cleaner.push_own(&self.text[begin..]);
        let (text, values) = cleaner.finish();
        Self { text, values, ..self }
    }

    /// The first of the program's links in a value, which may contain other text as well.
    fn find_link(&self, text: &str) -> Option<(usize, &'a str)> {
        let links = self.links.iter().filter(|link| !link.is_empty());
        links.filter_map(|link| Some((text.find(link)?, *link))).min_by_key(|(at, _)| *at)
    }

    /// The length in bytes.
    pub fn len(&self) -> usize {
        self.text.len()
    }

    /// Whether an inserted value contains the text.
    pub fn inserts(&self, text: &str) -> bool {
        self.values.iter().any(|value| self.text[value.clone()].contains(text))
    }

    /// The plain text. A button becomes its label and its link; several empty lines become one.
    pub fn to_text(&self) -> String {
        let mut text = String::with_capacity(self.text.len());
        for (range, line) in self.lines() {
            match line {
                Line::Empty if text.is_empty() || text.ends_with("\n\n") => continue,
                Line::Button(label, link) => text.extend([&self.text[label], ": ", link]),
                _ => text.push_str(self.text[range].trim_end()),
            }
            text.push('\n');
        }
        text.truncate(text.trim_end().len());
        text
    }

    /// The HTML to insert into the layout.
    pub fn to_html(&self) -> String {
        let mut html = String::with_capacity(self.text.len() * 3 / 2);
        // The closing tag of the last line's block.
        let mut close = "";
        for (_, line) in self.lines() {
            let (block, end) = match line {
                Line::Empty => ("", ""),
                Line::Item(_) => (UL, "</ul>\n"),
                Line::Button(..) | Line::Words(_) => (P, "</p>\n"),
            };
            if close != end {
                html.extend([close, block]);
            } else if end == "</p>\n" {
                html.push_str("<br>\n");
            }
            close = end;
            match line {
                Line::Empty => {}
                Line::Item(words) => {
                    html.push_str(LI);
                    self.inline(&mut html, words);
                    html.push_str("</li>");
                }
                Line::Button(label, link) => {
                    anchor(&mut html, link, BUTTON, &self.text[label]);
                }
                Line::Words(words) => self.inline(&mut html, words),
            }
        }
        html.push_str(close);
        html.truncate(html.trim_end().len());
        html
    }

    fn lines(&self) -> impl Iterator<Item = (Range<usize>, Line<'_>)> {
        let mut begin = 0;
        self.text.split('\n').map(move |line| {
            let range = begin..begin + line.len();
            begin += line.len() + 1;
            (range.clone(), self.line(range))
        })
    }

    fn line(&self, range: Range<usize>) -> Line<'_> {
        let line = &self.text[range.clone()];
        let words = range.start + (line.len() - line.trim_start().len())..range.start + line.trim_end().len();
        if words.start >= words.end {
            Line::Empty
        } else if self.text[words.clone()].starts_with("- ") && self.is_own(words.start) {
            Line::Item(words.start + 2..words.end)
        } else if let Some((label, link)) = self.button(&words) {
            Line::Button(label, link)
        } else {
            Line::Words(words)
        }
    }

    /// Parses `[label](link)` in the template's own text.
    fn button(&self, line: &Range<usize>) -> Option<(Range<usize>, &str)> {
        let text = &self.text[line.clone()];
        let inner = text.strip_prefix('[')?.strip_suffix(')')?;
        let (at, _) = inner.match_indices("](").find(|(at, _)| self.is_own(line.start + 1 + at))?;
        if !self.is_own(line.start) || !self.is_own(line.end - 1) || at == 0 {
            return None;
        }
        let label = line.start + 1..line.start + 1 + at;
        let link = label.end + 2..line.end - 1;
        (self.link_at(link.start, link.end)? == link.end).then(|| (label, &self.text[link]))
    }

    /// Whether a byte belongs to the template's own text.
    fn is_own(&self, at: usize) -> bool {
        let next = self.values.partition_point(|value| value.end <= at);
        self.values.get(next).is_none_or(|value| at < value.start)
    }

    /// The value that begins at an offset.
    fn value_at(&self, at: usize) -> Option<&Range<usize>> {
        let index = self.values.binary_search_by_key(&at, |value| value.start).ok()?;
        self.values.get(index)
    }

    /// The end of the link that begins at an offset, if one does: `http…` in the template's own
    /// text, or an inserted link.
    fn link_at(&self, at: usize, end: usize) -> Option<usize> {
        if let Some(value) = self.value_at(at) {
            return self.links.contains(&&self.text[value.clone()]).then_some(value.end);
        }
        let text = &self.text[at..end];
        let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"))?;
        // Rejected before the search for the end, so that a body of many `http` is not scanned
        // again for each.
        if !self.is_own(at) || !host.starts_with(char::is_alphanumeric) {
            return None;
        }
        let link = text.split(|c: char| c.is_whitespace() || matches!(c, '<' | '>' | '"')).next()?;
        let link = link.trim_end_matches(['.', ',', ';', ':', '!', '?', ')', '\'']);
        Some(at + link.len())
    }

    /// Writes text with its links.
    fn inline(&self, html: &mut String, words: Range<usize>) {
        let mut begin = words.start;
        let mut candidates = self.text[words.clone()].match_indices("http").map(|(at, _)| words.start + at);
        while let Some(at) = candidates.find(|at| *at >= begin) {
            if let Some(end) = self.link_at(at, words.end) {
                escape(html, &self.text[begin..at]);
                anchor(html, &self.text[at..end], A, &self.text[at..end]);
                begin = end;
            }
        }
        escape(html, &self.text[begin..words.end]);
    }
}

fn anchor(html: &mut String, link: &str, style: &str, label: &str) {
    html.push_str("<a href=\"");
    escape(html, link);
    html.extend(["\" style=\"", style, "\">"]);
    escape(html, label);
    html.push_str("</a>");
}

/// Writes a value into a layout. Jinja's own formatter would escape each slash of a link as
/// `&#x2f;`.
pub(super) fn write_escaped(out: &mut Output, state: &mut State, value: &Value) -> Result<(), minijinja::Error> {
    match (state.auto_escape(), value.as_str()) {
        (AutoEscape::Html, Some(text)) if !value.is_safe() => {
            let mut html = String::with_capacity(text.len());
            escape(&mut html, text);
            Ok(out.write_str(&html)?)
        }
        _ => minijinja::escape_formatter(out, state, value),
    }
}

/// Escapes text for the content and the attributes of HTML.
pub(super) fn escape(html: &mut String, text: &str) {
    let mut rest = text;
    while let Some(at) = rest.find(['&', '<', '>', '"', '\'']) {
        html.push_str(&rest[..at]);
        html.push_str(match rest.as_bytes()[at] {
            b'&' => "&amp;",
            b'<' => "&lt;",
            b'>' => "&gt;",
            b'"' => "&quot;",
            _ => "&#39;",
        });
        rest = &rest[at + 1..];
    }
    html.push_str(rest);
}
