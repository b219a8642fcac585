//! The parts of a workbook: its sheets, strings and styles.

use std::collections::HashMap;
use std::io;

use super::archive::{Archive, fault};
use super::strings::Strings;
use super::styles::Styles;
use super::xml::{Node, Xml};
use crate::error::{Error, Result};
use crate::imports::split::MAX_RECORD;

/// The most sheets of a workbook, and relations of a part.
const MAX_SHEETS: usize = 10_000;

/// What a workbook consists of.
#[derive(Debug)]
pub(super) struct Workbook {
    /// The names of the sheets, with the names of their parts.
    pub sheets: Vec<Sheet>,
    /// Whether days are counted from 1904.
    pub is_1904: bool,
    strings: Option<String>,
    styles: Option<String>,
}

/// A sheet of a workbook.
#[derive(Debug)]
pub(super) struct Sheet {
    pub name: String,
    pub part: String,
    is_hidden: bool,
}

/// A part that another part refers to.
struct Relation {
    kind: String,
    part: String,
}

impl Workbook {
    /// Reads what the workbook consists of.
    pub fn read(archive: &Archive) -> io::Result<Self> {
        let main = relations(archive, "")?.into_values().find(|relation| relation.kind == "officeDocument");
        let main = main.map_or_else(|| "xl/workbook.xml".to_owned(), |relation| relation.part);
        let related = relations(archive, &main)?;
        let of_kind =
            |kind: &str| related.values().find(|relation| relation.kind == kind).map(|found| found.part.clone());
        let (strings, styles) = (of_kind("sharedStrings"), of_kind("styles"));
        let mut workbook = Self { sheets: Vec::new(), is_1904: false, strings, styles };
        let mut xml = Xml::new(archive.part(&main)?);
        loop {
            match xml.next()? {
                Node::Start(element) => match element.name() {
                    b"workbookPr" => {
                        let is_1904 = element.attribute("date1904");
                        workbook.is_1904 = is_1904.is_some_and(|is| matches!(is.as_str(), "1" | "true" | "on"));
                    }
                    b"sheet" => {
                        let relation = element.attribute("id").and_then(|id| related.get(&id));
                        let sheet = relation.filter(|relation| relation.kind == "worksheet");
                        if let Some((name, sheet)) = element.attribute("name").zip(sheet) {
                            let is_hidden = element.attribute("state").is_some_and(|state| state != "visible");
                            workbook.sheets.push(Sheet { name, part: sheet.part.clone(), is_hidden });
                        }
                        if workbook.sheets.len() > MAX_SHEETS {
                            return Err(fault("it has too many sheets"));
                        }
                    }
                    _ => {}
                },
                Node::End(_) | Node::Text(_) => {}
                Node::Eof => return Ok(workbook),
            }
        }
    }

    /// The sheet with the name, or the first one that is visible.
    pub fn sheet(&self, name: Option<&str>) -> Result<&Sheet> {
        let Some(name) = name else {
            let visible = self.sheets.iter().find(|sheet| !sheet.is_hidden);
            let empty = || Error::invalid("file", "empty", "is a workbook without a sheet of cells");
            return visible.or(self.sheets.first()).ok_or_else(empty);
        };
        let is_named = |sheet: &&Sheet| sheet.name.trim().to_lowercase() == name.trim().to_lowercase();
        let exact = self.sheets.iter().find(|sheet| sheet.name == name);
        exact.or_else(|| self.sheets.iter().find(is_named)).ok_or_else(|| {
            let names: Vec<&str> = self.sheets.iter().map(|sheet| sheet.name.as_str()).collect();
            let message = format!("is not a sheet of the workbook; its sheets are: {}", names.join(", "));
            Error::invalid("sheet", "unknown", message)
        })
    }

    /// Reads the number formats of the cells.
    pub fn styles(&self, archive: &Archive) -> io::Result<Styles> {
        match &self.styles {
            Some(part) if archive.has(part) => Styles::read(archive.part(part)?),
            _ => Ok(Styles::default()),
        }
    }

    /// Reads the shared strings, each with the runs of its text and without phonetic ones.
    pub fn strings(&self, archive: &Archive, temp_dir: &str) -> Result<Strings> {
        let mut strings = Strings::new(temp_dir);
        let Some(part) = self.strings.as_deref().filter(|part| archive.has(part)) else { return Ok(strings) };
        let mut xml = Xml::new(archive.part(part).map_err(super::damaged)?);
        let mut text = TextRuns::default();
        loop {
            match xml.next().map_err(super::damaged)? {
                Node::Start(element) => match element.name() {
                    b"si" => text = TextRuns::default(),
                    name => text.start(name),
                },
                Node::Text(part) => text.add(&part),
                Node::End(element) => match element.name() {
                    b"si" => strings.push(text.finish().as_bytes())?,
                    name => text.end(name),
                },
                Node::Eof => break,
            }
        }
        strings.finish()?;
        Ok(strings)
    }
}

/// The text of a string, which may have several runs.
#[derive(Debug, Default)]
pub(super) struct TextRuns {
    text: String,
    /// Whether an element `t` is open, and a phonetic run.
    is_open: bool,
    is_phonetic: bool,
}

impl TextRuns {
    pub fn start(&mut self, name: &[u8]) {
        match name {
            b"t" => self.is_open = true,
            b"rPh" => self.is_phonetic = true,
            _ => {}
        }
    }

    pub fn end(&mut self, name: &[u8]) {
        match name {
            b"t" => self.is_open = false,
            b"rPh" => self.is_phonetic = false,
            _ => {}
        }
    }

    /// Adds a part of the text. A record cannot contain more than [`MAX_RECORD`] bytes, so the rest is left out.
    pub fn add(&mut self, part: &str) {
        if self.is_open && !self.is_phonetic && self.text.len() <= MAX_RECORD {
            self.text.push_str(part);
        }
    }

    /// The whole text, and an empty one afterwards.
    pub fn finish(&mut self) -> String {
        let text = std::mem::take(self).text;
        if text.contains("_x") { without_escapes(&text) } else { text }
    }
}

/// Replaces escapes such as `_x000D_`, by which Excel writes characters that XML cannot have.
fn without_escapes(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("_x") {
        plain.push_str(&rest[..at]);
        let code = rest.get(at + 2..at + 6).filter(|_| rest.as_bytes().get(at + 6) == Some(&b'_'));
        let letter = code.and_then(|code| u32::from_str_radix(code, 16).ok()).and_then(char::from_u32);
        match letter {
            Some(letter) => {
                plain.push(letter);
                rest = &rest[at + 7..];
            }
            None => {
                plain.push_str("_x");
                rest = &rest[at + 2..];
            }
        }
    }
    plain + rest
}

/// The parts that a part refers to, by the ids of the references. The archive itself has an empty name.
fn relations(archive: &Archive, part: &str) -> io::Result<HashMap<String, Relation>> {
    let (folder, name) = part.rsplit_once('/').unwrap_or(("", part));
    let folder = if folder.is_empty() { String::new() } else { format!("{folder}/") };
    let list = format!("{folder}_rels/{name}.rels");
    let mut relations = HashMap::new();
    if !archive.has(&list) {
        return Ok(relations);
    }
    let mut xml = Xml::new(archive.part(&list)?);
    loop {
        match xml.next()? {
            Node::Start(element) if element.name() == b"Relationship" => {
                let [id, kind, target] =
                    ["Id", "Type", "Target"].map(|name| element.attribute(name).unwrap_or_default());
                let kind = kind.rsplit('/').next().unwrap_or_default().to_owned();
                let part = match target.strip_prefix('/') {
                    Some(absolute) => absolute.to_owned(),
                    None => format!("{folder}{target}"),
                };
                relations.insert(id, Relation { kind, part });
                if relations.len() > MAX_SHEETS {
                    return Err(fault("it has too many parts"));
                }
            }
            Node::Start(_) | Node::End(_) | Node::Text(_) => {}
            Node::Eof => return Ok(relations),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_replaced() {
        for (text, plain) in
            [("a_x000D_b", "a\rb"), ("_x005F_x000D_", "_x000D_"), ("max_x", "max_x"), ("_x00_x0041_ü", "_x00Aü")]
        {
            assert_eq!(without_escapes(text), plain);
        }
    }
}
