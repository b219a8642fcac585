//! Encoded words (RFC 2047) for text that looks like an encoded word itself.
//!
//! Mail programs decode `=?utf-8?q?…?=` anywhere in a header. A name or a subject that contains
//! such text must arrive unchanged, so all of it is encoded.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use shared::mail::one_line;

/// The most bytes of text in one encoded word, so that a line with the header's name has at most 78
/// characters.
const BYTES: usize = 39;

/// The value of a header, as plain text and encoded; `None` if lettre can encode it.
pub(super) type Encoded = Option<(String, String)>;

pub(super) fn mailbox(name: Option<&str>, address: &str) -> Encoded {
    let name = one_line(name?);
    looks_encoded(&name).then(|| {
        let quoted = name.replace('\\', "\\\\").replace('"', "\\\"");
        (format!("\"{quoted}\" <{address}>"), format!("{}\r\n <{address}>", words(&name)))
    })
}

pub(super) fn subject(text: &str) -> Encoded {
    let text = one_line(text);
    looks_encoded(&text).then(|| {
        let encoded = words(&text);
        (text, encoded)
    })
}

fn looks_encoded(text: &str) -> bool {
    text.contains("=?")
}

/// Text as encoded words, one on each line.
fn words(text: &str) -> String {
    let mut words = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let mut end = rest.len().min(BYTES);
        while !rest.is_char_boundary(end) {
            end -= 1;
        }
        let (word, after) = rest.split_at(end);
        words.push(format!("=?utf-8?b?{}?=", STANDARD.encode(word)));
        rest = after;
    }
    words.join("\r\n ")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Decodes a header in which all encoded words use base64.
    pub fn decode(value: &str) -> String {
        let mut bytes = Vec::new();
        let mut was_encoded = false;
        for word in value.split(' ') {
            let inner = word.strip_prefix("=?utf-8?b?").and_then(|word| word.strip_suffix("?="));
            // Blanks between encoded words are ignored.
            if !bytes.is_empty() && (!was_encoded || inner.is_none()) {
                bytes.push(b' ');
            }
            was_encoded = inner.is_some();
            match inner {
                Some(inner) => bytes.extend(STANDARD.decode(inner).unwrap()),
                None => bytes.extend(word.bytes()),
            }
        }
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn only_text_that_looks_encoded_is_encoded() {
        assert_eq!(mailbox(Some("Ann = Bob?"), "a@example.com"), None);
        assert_eq!(subject("Grüße"), None);
        let (_, encoded) = subject(&"=?ü".repeat(100)).unwrap();
        assert_eq!(decode(&encoded.replace("\r\n", "")), "=?ü".repeat(100));
    }
}
