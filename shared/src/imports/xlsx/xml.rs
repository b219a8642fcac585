//! Reads the XML of a workbook in bounded memory.

use std::borrow::Cow;
use std::io::{self, BufRead, BufReader, Read};

use quick_xml::Reader;
use quick_xml::events::{BytesEnd, BytesStart, Event};

use super::archive::fault;

/// The most bytes of a tag or of a text between two tags.
const MAX_NODE: usize = 1 << 20;
/// The deepest nesting of elements.
const MAX_DEPTH: usize = 100;

/// A node of a document.
#[derive(Debug)]
pub(super) enum Node<'n> {
    /// The beginning of an element.
    Start(Element<'n>),
    /// The end of an element.
    End(ElementEnd<'n>),
    /// A part of a text; several may follow each other.
    Text(Cow<'n, str>),
    /// The end of the document.
    Eof,
}

/// The start tag of an element.
#[derive(Debug)]
pub(super) struct Element<'n>(BytesStart<'n>);

impl Element<'_> {
    /// The name without its prefix.
    pub fn name(&self) -> &[u8] {
        local(self.0.name().into_inner()).as_bytes()
    }

    /// The value of an attribute, by its name without a prefix.
    pub fn attribute(&self, name: &str) -> Option<String> {
        self.attributes().find(|(key, _)| local(key) == name).map(|(_, value)| unescaped(value).into_owned())
    }

    /// The names and raw values of the attributes.
    pub fn attributes(&self) -> impl Iterator<Item = (&str, Cow<'_, str>)> {
        let mut attributes = self.0.attributes();
        attributes.with_checks(false);
        attributes.flatten().map(|attribute| (attribute.key.into_inner(), attribute.value))
    }
}

/// The end tag of an element.
#[derive(Debug)]
pub(super) struct ElementEnd<'n>(BytesEnd<'n>);

impl ElementEnd<'_> {
    /// The name without its prefix.
    pub fn name(&self) -> &[u8] {
        local(self.0.name().into_inner()).as_bytes()
    }
}

/// A document that is being read.
pub(super) struct Xml<R: Read> {
    reader: Reader<Bounded<R>>,
    buffer: Vec<u8>,
    depth: usize,
}

impl<R: Read> Xml<R> {
    /// Begins a document.
    pub fn new(document: R) -> Self {
        let bounded = Bounded { inner: BufReader::with_capacity(64 * 1024, document), left: 0 };
        let mut reader = Reader::from_reader(bounded);
        reader.config_mut().expand_empty_elements = true;
        Self { reader, buffer: Vec::new(), depth: 0 }
    }

    /// Reads the next node.
    pub fn next(&mut self) -> io::Result<Node<'_>> {
        self.reader.get_mut().left = MAX_NODE;
        self.buffer.clear();
        let event = self.reader.read_event_into(&mut self.buffer).map_err(broken)?;
        Ok(match event {
            Event::Start(start) => {
                self.depth += 1;
                if self.depth > MAX_DEPTH {
                    return Err(fault("its XML is nested too deeply"));
                }
                Node::Start(Element(start))
            }
            Event::End(end) => {
                self.depth = self.depth.saturating_sub(1);
                Node::End(ElementEnd(end))
            }
            Event::Text(text) => Node::Text(unescaped(text.into_inner())),
            Event::CData(text) => Node::Text(text.into_inner()),
            Event::GeneralRef(name) => Node::Text(Cow::Owned(entity(&name))),
            Event::DocType(_) => return Err(fault("its XML has a document type definition")),
            Event::Eof => Node::Eof,
            Event::Empty(_) | Event::Comment(_) | Event::Decl(_) | Event::PI(_) => Node::Text(Cow::Borrowed("")),
        })
    }
}

fn broken(error: quick_xml::Error) -> io::Error {
    match error {
        quick_xml::Error::Io(error) => io::Error::new(error.kind(), error.to_string()),
        error => fault(format!("its XML is damaged: {error}")),
    }
}

/// A name without its prefix.
fn local(name: &str) -> &str {
    name.rsplit_once(':').map_or(name, |(_, name)| name)
}

/// The text with its entities replaced.
fn unescaped(text: Cow<'_, str>) -> Cow<'_, str> {
    if !text.contains('&') {
        return text;
    }
    let mut parts = text.split('&');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_once(';') {
            Some((name, rest)) => plain.extend([entity(name).as_str(), rest]),
            None => plain.extend(["&", part]),
        }
    }
    Cow::Owned(plain)
}

/// The text of an entity. Documents define none of their own, so unknown ones stay as they are.
fn entity(name: &str) -> String {
    let number = name.strip_prefix('#').and_then(|number| match number.strip_prefix(['x', 'X']) {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => number.parse().ok(),
    });
    match (name, number.and_then(char::from_u32)) {
        (_, Some(letter)) => letter.into(),
        ("amp", _) => "&".to_owned(),
        ("lt", _) => "<".to_owned(),
        ("gt", _) => ">".to_owned(),
        ("quot", _) => "\"".to_owned(),
        ("apos", _) => "'".to_owned(),
        _ => format!("&{name};"),
    }
}

/// Fails when a node is too long, because the reader holds it as a whole.
struct Bounded<R: Read> {
    inner: BufReader<R>,
    left: usize,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(buffer)?;
        self.consume(read);
        Ok(read)
    }
}

impl<R: Read> BufRead for Bounded<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.left == 0 {
            return Err(fault("its XML has a tag or a text of more than 1 MiB"));
        }
        self.inner.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.left = self.left.saturating_sub(amount);
        self.inner.consume(amount);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(document: &[u8]) -> io::Result<String> {
        let mut xml = Xml::new(document);
        let mut text = String::new();
        loop {
            match xml.next()? {
                Node::Text(part) => text += &part,
                Node::Eof => return Ok(text),
                Node::Start(_) | Node::End(_) => {}
            }
        }
    }

    #[test]
    fn texts_are_read_with_their_entities() {
        let document =
            b"<?xml version=\"1.0\"?><a><!-- no --><x:b>1 &lt; 2 &amp;&#252;&#x1F600;</x:b><![CDATA[<c>]]></a>";
        assert_eq!(texts(document).unwrap(), "1 < 2 &ü😀<c>");
    }

    #[test]
    fn hostile_documents_are_refused() {
        let entities = b"<!DOCTYPE a [<!ENTITY b \"cc\">]><a>&b;</a>".to_vec();
        let deep = b"<a>".repeat(1_000);
        let huge = [b"<a>".to_vec(), vec![b'x'; 3 << 20], b"</a>".to_vec()].concat();
        let wide = [b"<a b=\"".to_vec(), vec![b'x'; 3 << 20], b"\"/>".to_vec()].concat();
        for document in [entities, deep, huge, wide, b"<a></b>".to_vec(), b"<a".to_vec()] {
            assert!(texts(&document).is_err());
        }
    }
}
