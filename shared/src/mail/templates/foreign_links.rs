//! Keeps mail programs from turning inserted values into links.
//!
//! Mail programs detect links in plain text and in HTML: `https://…` and `www.…` always, and some
//! also `example.com`. A stranger's name must not become a link in our email. So `www.` and `://`
//! with its scheme are removed. Bare domains are kept, since `Booking.com` is a name.

use std::ops::Range;

/// The schemes that are removed together with `://`.
const SCHEMES: [&str; 4] = ["https", "http", "ftps", "ftp"];

/// Builds a body from the template's text and inserted values, and removes links from the values.
pub(super) struct Cleaner {
    text: String,
    /// The number of the value that each byte belongs to; 0 is the template's own text.
    owners: Vec<u32>,
    /// The number of the last value.
    owner: u32,
    /// The values that are links, because the program created them.
    links: Vec<u32>,
}

impl Cleaner {
    pub fn new(capacity: usize) -> Self {
        Self {
            text: String::with_capacity(capacity),
            owners: Vec::with_capacity(capacity),
            owner: 0,
            links: Vec::new(),
        }
    }

    /// Whether the text contains anything to remove.
    pub fn is_needed(text: &str) -> bool {
        text.contains("://") || text.as_bytes().windows(4).any(|bytes| bytes.eq_ignore_ascii_case(b"www."))
    }

    /// Appends text of the template.
    pub fn push_own(&mut self, text: &str) {
        self.push(text, 0);
    }

    /// Appends an inserted value.
    pub fn push_value(&mut self, text: &str, is_link: bool) {
        self.owner += 1;
        if is_link {
            self.links.push(self.owner);
            self.text.push_str(text);
            self.owners.resize(self.text.len(), self.owner);
        } else {
            self.push(text, self.owner);
        }
    }

    fn push(&mut self, text: &str, owner: u32) {
        for piece in text.split_inclusive(['/', '.']) {
            self.text.push_str(piece);
            self.owners.resize(self.text.len(), owner);
            if piece.ends_with('/') {
                self.remove_scheme();
            } else if piece.ends_with('.') {
                self.remove_www();
            }
        }
    }

    /// Removes `https://` from the end, if any part of it was inserted.
    fn remove_scheme(&mut self) {
        if !self.text.ends_with("://") {
            return;
        }
        let end = self.text.len() - 3;
        let is_scheme = |scheme: &&&str| self.ends_with(end, scheme);
        let begin = SCHEMES.iter().find(is_scheme).map_or(end, |scheme| end - scheme.len());
        if self.is_foreign(begin..self.text.len()) {
            self.truncate(begin);
        }
    }

    /// Removes `www.` from the end, if it begins a word and any part of it was inserted.
    fn remove_www(&mut self) {
        if !self.ends_with(self.text.len(), "www.") {
            return;
        }
        let begin = self.text.len() - 4;
        let is_word = !self.text[..begin].ends_with(char::is_alphanumeric);
        if is_word && self.is_foreign(begin..self.text.len()) {
            self.truncate(begin);
        }
    }

    fn ends_with(&self, end: usize, word: &str) -> bool {
        let begin = end.checked_sub(word.len());
        let last = begin.and_then(|begin| self.text.as_bytes().get(begin..end));
        last.is_some_and(|last| last.eq_ignore_ascii_case(word.as_bytes()))
    }

    /// Whether any part of the range was inserted, and none of it belongs to a link.
    fn is_foreign(&self, range: Range<usize>) -> bool {
        let owners = self.owners.get(range).unwrap_or_default();
        owners.iter().any(|owner| *owner != 0) && !owners.iter().any(|owner| self.links.binary_search(owner).is_ok())
    }

    fn truncate(&mut self, end: usize) {
        self.text.truncate(end);
        self.owners.truncate(end);
    }

    /// Returns the text and the ranges of the inserted values.
    pub fn finish(self) -> (String, Vec<Range<usize>>) {
        let mut values = Vec::new();
        let mut begin = 0;
        for same in self.owners.chunk_by(|a, b| a == b) {
            let range = begin..begin + same.len();
            begin = range.end;
            if same.first().is_some_and(|owner| *owner != 0) {
                values.push(range);
            }
        }
        (self.text, values)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn clean(parts: &[(&str, bool)]) -> String {
        let mut cleaner = Cleaner::new(0);
        for (text, is_own) in parts {
            if *is_own { cleaner.push_own(text) } else { cleaner.push_value(text, false) }
        }
        cleaner.finish().0
    }

    #[test]
    fn inserted_values_contain_no_links() {
        for (value, shown) in [
            ("https://evil.example", "evil.example"),
            ("HTTP://evil.example", "evil.example"),
            ("hthttps://tps://evil.example", "evil.example"),
            ("::////evil.example", "evil.example"),
            ("ftp://a and gopher://b", "a and gopherb"),
            ("WWW.evil.example", "evil.example"),
            ("www.www.evil.example", "evil.example"),
            ("awww.cute", "awww.cute"),
            ("Booking.com", "Booking.com"),
            ("1/2 and a.b", "1/2 and a.b"),
        ] {
            assert_eq!(clean(&[("Hello ", true), (value, false), ("!", true)]), format!("Hello {shown}!"));
        }
        // Links that are split over several parts.
        assert_eq!(clean(&[("https:", false), ("//evil.example", false)]), "evil.example");
        assert_eq!(clean(&[("https:", true), ("//evil.example", false)]), "evil.example");
        assert_eq!(clean(&[("htt", false), ("ps://evil.example", true)]), "evil.example");
        assert_eq!(clean(&[("ww", false), ("w.evil.example", false)]), "evil.example");
    }

    #[test]
    fn links_of_the_template_and_the_program_are_kept() {
        assert_eq!(clean(&[("https://acme.example/", true), ("Ann", false)]), "https://acme.example/Ann");
        let mut cleaner = Cleaner::new(0);
        cleaner.push_own("See ");
        cleaner.push_value("https://crm.example/feedback/x", true);
        cleaner.push_value("/y", false);
        let (text, values) = cleaner.finish();
        assert_eq!(text, "See https://crm.example/feedback/x/y");
        assert_eq!(values, [4..34, 34..36]);
    }

    proptest! {
        #[test]
        fn no_value_leaves_a_scheme_or_www(values in prop::collection::vec("[htpsw:/. ]{0,8}", 1..5)) {
            let parts: Vec<(&str, bool)> = values.iter().map(|value| (value.as_str(), false)).collect();
            let text = clean(&parts);
            prop_assert!(!text.contains("://"), "{text}");
            prop_assert!(!text.split(' ').any(|word| word.starts_with("www.")), "{text}");
        }
    }
}
