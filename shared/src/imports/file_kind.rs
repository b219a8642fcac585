//! What a file is, by its first bytes.

use super::format::Format;
use crate::error::{Error, Result};

/// How many bytes at the beginning of a file show what it is.
pub(super) const ENOUGH: usize = 16;

/// What the bytes of a file contain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Container {
    /// Text.
    None,
    /// A ZIP archive, as which workbooks are stored.
    Zip,
}

/// Returns what the file contains, by its first [`ENOUGH`] bytes.
///
/// # Errors
/// [`Error::Invalid`] with the kind of a file that cannot be imported, and what to do.
pub(super) fn container(start: &[u8]) -> Result<Container> {
    let text = start.trim_ascii_start().to_ascii_lowercase();
    let has_tag = [b"<!doctype html".as_slice(), b"<html", b"<head", b"<body"].iter().any(|tag| text.starts_with(tag));
    let is_image =
        [b"\x89PNG".as_slice(), b"\xff\xd8\xff", b"GIF8", b"BM\x36"].iter().any(|magic| start.starts_with(magic))
            || (start.starts_with(b"RIFF") && start.get(8..12) == Some(b"WEBP".as_slice()));
    let what = if start.starts_with(b"PK\x03\x04") || start.starts_with(b"PK\x05\x06") {
        return Ok(Container::Zip);
    } else if start.starts_with(b"%PDF") {
        "is a PDF; export the table as CSV or .xlsx"
    } else if start.starts_with(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1") {
        "is a workbook of an old Excel (.xls), or one with a password; save it as .xlsx without a password, or as CSV UTF-8"
    } else if start.starts_with(b"\x1f\x8b") {
        "is compressed with gzip twice; unpack it first"
    } else if start.starts_with(b"BZh") || start.starts_with(b"\xfd7zXZ\0") || start.starts_with(b"\x28\xb5\x2f\xfd") {
        "is compressed; unpack it, or compress it with gzip"
    } else if start.starts_with(b"7z\xbc\xaf\x27\x1c") || start.starts_with(b"Rar!") {
        "is an archive; unpack it and upload the file in it"
    } else if start.starts_with(b"PAR1") || start.starts_with(b"SQLite format 3") {
        "is a database file; export the table as CSV"
    } else if is_image {
        "is an image; export the table as CSV or .xlsx"
    } else if has_tag {
        "is an HTML page, perhaps of a login; download the CSV file itself"
    } else if text.starts_with(b"<?xml") {
        "is XML; export the table as CSV or .xlsx"
    } else if text.starts_with(b"{\\rtf") {
        "is a text document (.rtf); export the table as CSV or .xlsx"
    } else {
        return Ok(Container::None);
    };
    Err(Error::invalid("file", "unsupported", what))
}

/// Returns whether the text is CSV or JSON Lines, by its first characters, or nothing if more are needed.
///
/// # Errors
/// [`Error::Invalid`] if the file is a JSON array, which is not read in pieces.
pub(super) fn text_format(text: &[u8]) -> Result<Option<Format>> {
    let text = text.trim_ascii_start();
    let Some((first, rest)) = text.split_first() else { return Ok(None) };
    match (first, rest.trim_ascii_start().first()) {
        (b'{' | b'[', None) => Ok(None),
        (b'{', Some(b'"' | b'}')) => Ok(Some(Format::Jsonl)),
        (b'[', Some(b'{')) => {
            let message = "is a JSON array; write each of its objects on a line of its own (JSON Lines)";
            Err(Error::invalid("file", "unsupported", message))
        }
        _ => Ok(Some(Format::Csv)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_kinds_of_files_are_named() {
        for (start, word) in [
            (b"%PDF-1.7\n%abcdefgh".as_slice(), "PDF"),
            (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\0\0", ".xls"),
            (b"\x1f\x8b\x08\0", "gzip"),
            (b"\n <!DOCTYPE html>\n", "HTML"),
            (b"<html>", "HTML"),
            (b"\x89PNG\r\n\x1a\n", "image"),
            (b"RIFF\0\0\0\0WEBPVP8 ", "image"),
            (b"Rar!\x1a\x07", "archive"),
        ] {
            let Err(Error::Invalid(faults)) = container(start) else { panic!("{word} was taken") };
            assert!(faults[0].message.contains(word), "{faults:?}");
        }
        for start in ["", "name,email\nAnn,a", "%,PDF", "<name>,email\n"] {
            assert_eq!(container(start.as_bytes()).unwrap(), Container::None);
        }
        assert_eq!(container(b"PK\x03\x04\x14\0\x06\0").unwrap(), Container::Zip);
    }

    #[test]
    fn the_first_characters_show_the_format() {
        for (text, format) in [
            ("", None),
            (" \r\n", None),
            ("\n{", None),
            ("\n{ \"email\"", Some(Format::Jsonl)),
            ("{}", Some(Format::Jsonl)),
            ("{name},email", Some(Format::Csv)),
            ("name", Some(Format::Csv)),
            ("[Name],email", Some(Format::Csv)),
        ] {
            assert_eq!(text_format(text.as_bytes()).unwrap(), format, "{text}");
        }
        assert!(matches!(text_format(b"[\n {"), Err(Error::Invalid(_))));
    }
}
