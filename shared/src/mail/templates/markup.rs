//! From what the engine wrote to the text and the HTML of a mail.
//!
//! The template's own words make paragraphs, lists, buttons and links; inserted values are never more
//! than words, save for the links that the program itself hands to a template.

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

/// A subject as it can stand in a header: one line, without marks, however it was put together.
pub(super) fn one_line(marked: &str) -> String {
    let plain: String = marked.chars().filter(|c| !matches!(*c, BEGIN | END)).collect();
    mail::one_line(&plain)
}

/// A body, of which it is known what the template says and what was inserted.
pub(super) struct Marked<'a> {
    text: String,
    /// Where the inserted values stand, in their order.
    values: Vec<Range<usize>>,
    /// The values that are links, since the program made them.
    links: &'a [&'a str],
}

/// A line of a body, by what it is.
enum Line<'a> {
    Empty,
    /// Behind its `- `.
    Item(Range<usize>),
    /// Its label and its link.
    Button(Range<usize>, &'a str),
    Words(Range<usize>),
}

impl<'a> Marked<'a> {
    /// Reads what the engine wrote.
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

    /// Inserted values are no links, for mail programs neither, save for the program's own.
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

    /// The first of the program's own links in a value, which may say more than the link.
    fn find_link(&self, text: &str) -> Option<(usize, &'a str)> {
        let links = self.links.iter().filter(|link| !link.is_empty());
        links.filter_map(|link| Some((text.find(link)?, *link))).min_by_key(|(at, _)| *at)
    }

    /// How many bytes it has.
    pub fn len(&self) -> usize {
        self.text.len()
    }

    /// Whether a text stands in an inserted value.
    pub fn inserts(&self, text: &str) -> bool {
        self.values.iter().any(|value| self.text[value.clone()].contains(text))
    }

    /// The plain text: a button is its label and its link, and no more than one line in a row is empty.
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

    /// The HTML between the layout's head and foot.
    pub fn to_html(&self) -> String {
        let mut html = String::with_capacity(self.text.len() * 3 / 2);
        // What closes the block that the last line stands in.
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

    /// `[label](link)`, in the template's own words.
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

    /// Whether a byte is of the template, and of no value.
    fn is_own(&self, at: usize) -> bool {
        let next = self.values.partition_point(|value| value.end <= at);
        self.values.get(next).is_none_or(|value| at < value.start)
    }

    /// The value that begins there.
    fn value_at(&self, at: usize) -> Option<&Range<usize>> {
        let place = self.values.binary_search_by_key(&at, |value| value.start).ok()?;
        self.values.get(place)
    }

    /// Where the link ends that begins there, if one does: `http…` of the template's own, or a value that
    /// is a link.
    fn link_at(&self, at: usize, end: usize) -> Option<usize> {
        if let Some(value) = self.value_at(at) {
            return self.links.contains(&&self.text[value.clone()]).then_some(value.end);
        }
        let text = &self.text[at..end];
        let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"))?;
        // What is none is known before its end is looked for: each place is looked at for one link.
        if !self.is_own(at) || !host.starts_with(char::is_alphanumeric) {
            return None;
        }
        let link = text.split(|c: char| c.is_whitespace() || matches!(c, '<' | '>' | '"')).next()?;
        let link = link.trim_end_matches(['.', ',', ';', ':', '!', '?', ')', '\'']);
        Some(at + link.len())
    }

    /// Words with their links.
    fn inline(&self, html: &mut String, words: Range<usize>) {
        let mut begin = words.start;
        let mut places = self.text[words.clone()].match_indices("http").map(|(at, _)| words.start + at);
        while let Some(at) = places.find(|at| *at >= begin) {
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

/// Writes a value into a layout. Jinja's own way makes `&#x2f;` of each slash of a link.
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

/// Text as HTML has it, in its content and in its attributes.
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
