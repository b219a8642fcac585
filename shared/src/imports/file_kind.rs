//! Files that are no CSV, recognised by their first bytes.

use crate::error::{Error, Result};

/// How many bytes at the beginning of a file show what it is.
const ENOUGH: usize = 16;

/// The beginning of an upload, until it is known not to be a file of another kind.
#[derive(Debug, Default)]
pub(super) struct FileStart {
    bytes: Vec<u8>,
    is_checked: bool,
}

impl FileStart {
    /// Adds the next piece.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the kind of the file and what to do.
    pub fn feed(&mut self, piece: &[u8]) -> Result<()> {
        if self.is_checked {
            return Ok(());
        }
        self.bytes.extend(piece.iter().take(ENOUGH - self.bytes.len()));
        if self.bytes.len() == ENOUGH { self.finish() } else { Ok(()) }
    }

    /// Checks a file that may be shorter.
    ///
    /// # Errors
    /// As [`FileStart::feed`].
    pub fn finish(&mut self) -> Result<()> {
        if self.is_checked {
            return Ok(());
        }
        self.is_checked = true;
        match kind(&self.bytes) {
            Some(what) => Err(Error::invalid("file", "unsupported", what)),
            None => Ok(()),
        }
    }
}

/// What a file is, and what to do, if it is no CSV.
fn kind(start: &[u8]) -> Option<&'static str> {
    let text = start.trim_ascii_start().to_ascii_lowercase();
    if start.starts_with(b"%PDF") {
        Some("is a PDF; export the table as CSV")
    } else if start.starts_with(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1") {
        Some("is a workbook of an old Excel (.xls); save it as CSV UTF-8")
    } else if start.starts_with(b"PK\x03\x04") || start.starts_with(b"PK\x05\x06") {
        Some("is a ZIP archive or a workbook (.xlsx, .ods, .numbers); save the table as CSV UTF-8")
    } else if start.starts_with(b"\x1f\x8b") {
        Some("is compressed with gzip; unpack it first")
    } else if [b"<!doctype html".as_slice(), b"<html", b"<head", b"<body"].iter().any(|tag| text.starts_with(tag)) {
        Some("is an HTML page, perhaps of a login; download the CSV file itself")
    } else if text.starts_with(b"<?xml") {
        Some("is XML; export the table as CSV")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_kinds_of_files_are_recognised_in_any_pieces() {
        for (file, word) in [
            (b"%PDF-1.7\n%abcdefgh".as_slice(), "PDF"),
            (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\0\0", ".xls"),
            (b"PK\x03\x04\x14\0\x06\0", "ZIP"),
            (b"\x1f\x8b\x08\0", "gzip"),
            (b"\n <!DOCTYPE html>\n", "HTML"),
            (b"<html>", "HTML"),
        ] {
            let mut start = FileStart::default();
            let fed = file.chunks(3).try_for_each(|piece| start.feed(piece)).and_then(|()| start.finish());
            let Err(Error::Invalid(faults)) = fed else { panic!("{word} was taken") };
            assert!(faults[0].message.contains(word), "{faults:?}");
        }
        for file in ["", "name,email\nAnn,ann@example.com\n", "%,PDF", "<name>,email\n"] {
            let mut start = FileStart::default();
            start.feed(file.as_bytes()).unwrap();
            start.finish().unwrap();
        }
    }
}
