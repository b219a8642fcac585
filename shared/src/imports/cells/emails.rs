//! The addresses in a cell: `Ann <ann@example.com>`, `mailto:`, several addresses.

use crate::values::{Email, Field};

/// The addresses in a cell.
#[derive(Debug, Clone, PartialEq)]
pub struct Addresses {
    /// The valid addresses, in the order of the cell, each once.
    pub valid: Vec<Email>,
    /// Whether the cell has text that is no address.
    pub has_rest: bool,
}

/// Reads the addresses of a cell.
pub fn read(text: &str) -> Addresses {
    // An address may have any letter outside ASCII, but quotes around it do not belong to it.
    if text.is_ascii()
        && let Ok(email) = Email::from_text(text)
    {
        return Addresses { valid: vec![email], has_rest: false };
    }
    let mut addresses = Addresses { valid: Vec::new(), has_rest: false };
    for part in parts(text) {
        match Email::from_text(bare(part)) {
            Ok(email) => {
                if addresses.valid.iter().all(|known| known.key() != email.key()) {
                    addresses.valid.push(email);
                }
            }
            Err(_) => addresses.has_rest |= !bare(part).is_empty(),
        }
    }
    addresses
}

/// The parts of a cell that should be addresses. In `Ann <ann@example.com>` that is the part in brackets.
fn parts(text: &str) -> Vec<&str> {
    let in_brackets: Vec<&str> = text
        .split('<')
        .skip(1)
        .filter_map(|rest| Some(rest.split_once('>')?.0))
        .filter(|part| part.contains('@'))
        .collect();
    if in_brackets.is_empty() {
        text.split([';', ',', '\n', '\r', '|']).flat_map(|part| part.split(":::")).collect()
    } else {
        in_brackets
    }
}

/// The address without `mailto:`, matching quotes, brackets, blanks, invisible characters and a dot at its end.
fn bare(part: &str) -> &str {
    let mut bare = trim(part);
    if let Some(address) = bare.get(..7).filter(|start| start.eq_ignore_ascii_case("mailto:")).map(|_| &bare[7..]) {
        bare = trim(address);
    }
    for (open, close) in
        [('"', '"'), ('\'', '\''), ('“', '”'), ('„', '“'), ('‘', '’'), ('«', '»'), ('<', '>'), ('(', ')'), ('[', ']')]
    {
        if let Some(inner) = bare.strip_prefix(open).and_then(|rest| rest.strip_suffix(close)) {
            bare = trim(inner);
        }
    }
    bare.strip_suffix('.').unwrap_or(bare)
}

fn trim(text: &str) -> &str {
    text.trim_matches(|c: char| {
        c.is_whitespace()
            || c.is_control()
            || matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_addresses_of_a_cell_are_found() {
        let one = "ann@example.com";
        for (text, valid, has_rest) in [
            (one, vec![one], false),
            ("Ann Lee <ann@example.com>", vec![one], false),
            ("\"Lee, Ann\" <ann@example.com>", vec![one], false),
            ("<ann@example.com>", vec![one], false),
            ("mailto:ann@example.com", vec![one], false),
            ("MAILTO: ann@example.com", vec![one], false),
            ("'ann@example.com'", vec![one], false),
            ("„ann@example.com“", vec![one], false),
            ("\u{200b}ann@example.com\u{a0}", vec![one], false),
            ("ann@example.com.", vec!["ann@example.com."], false),
            ("ann@example.com, bob@example.com", vec![one, "bob@example.com"], false),
            ("ann@example.com;bob@example.com;", vec![one, "bob@example.com"], false),
            ("ann@example.com ::: bob@example.com", vec![one, "bob@example.com"], false),
            ("ann@example.com\r\nbob@example.com", vec![one, "bob@example.com"], false),
            ("Ann <ann@example.com>, Bob <bob@example.com>", vec![one, "bob@example.com"], false),
            ("ann@example.com; ANN@example.com", vec![one], false),
            ("n/a; ann@example.com", vec![one], true),
            ("an n@example.com", vec![], true),
            ("none", vec![], true),
            ("jörg@müller.example", vec!["jörg@müller.example"], false),
            ("o'neil@example.com", vec!["o'neil@example.com"], false),
            ("'o'neil@example.com'", vec!["o'neil@example.com"], false),
        ] {
            let read = read(text);
            let found: Vec<&str> = read.valid.iter().map(AsRef::as_ref).collect();
            assert_eq!((found, read.has_rest), (valid, has_rest), "{text:?}");
        }
    }
}
