//! Streams `multipart/form-data` (RFC 7578) in bounded memory.
//!
//! The content of a part has no limit here. Everything else must fit into a few KiB: the preamble,
//! the head of each part with its file name, and the epilogue.

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::CONTENT_TYPE;
use bytes::{Buf, Bytes, BytesMut};
use memchr::memmem::{self, Finder};
use shared::error::FieldError;

use super::{check_encoding, next_piece};
use crate::respond::{Problem, Result};

/// The maximum number of bytes before the first boundary, and after the last.
const MAX_AROUND: usize = 4 * 1024;
/// The maximum number of bytes in a part's head.
const MAX_HEAD: usize = 8 * 1024;
/// The maximum number of bytes between a boundary and the end of its line.
const MAX_PADDING: usize = 256;
/// The maximum number of characters in a boundary (RFC 2046, 5.1.1).
const MAX_BOUNDARY: usize = 70;
const KIND: &str = "multipart/form-data";
const LINE_END: &[u8] = b"\r\n";

/// A form whose parts are read one after the other.
#[derive(Debug)]
pub struct Multipart {
    body: Body,
    /// Received bytes that were not returned yet.
    held: BytesMut,
    /// Finds a boundary with the line end before it.
    delimiter: Finder<'static>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before the first boundary.
    Preamble,
    /// Right after a boundary.
    Boundary,
    /// Within a part.
    Content,
    /// After the last boundary.
    Ended,
}

impl Multipart {
    /// Starts reading the form in the body of a request.
    ///
    /// # Errors
    /// 415 for other media types; 400 for a `Content-Type` without a usable boundary.
    pub fn of(request: Request) -> Result<Self> {
        let kind = request.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let essence = kind.split(';').next().unwrap_or_default().trim();
        if !essence.eq_ignore_ascii_case(KIND) {
            return Err(Problem::unsupported(KIND));
        }
        check_encoding(request.headers())?;
        let boundary = boundary(kind)?;
        Ok(Self::new(request.into_body(), &boundary))
    }

    fn new(body: Body, boundary: &str) -> Self {
        let delimiter = Finder::new(&format!("\r\n--{boundary}")).into_owned();
        // The first boundary has no line end before it, so one is added: it is then found like the
        // others.
        Self { body, held: BytesMut::from(LINE_END), delimiter, state: State::Preamble }
    }

    /// Returns the name of the next part, if there is one. The rest of the current part is skipped.
    ///
    /// # Errors
    /// 400 for a form that is malformed, incomplete, or has too many bytes outside its parts'
    /// content.
    pub async fn next_part(&mut self) -> Result<Option<String>> {
        if self.state == State::Preamble {
            let delimiter = self.delimiter.clone();
            let found = |held: &[u8]| delimiter.find(held);
            let start = self.until(MAX_AROUND, found, "more than 4 KiB before its first boundary").await?;
            self.held.advance(start + self.delimiter.needle().len());
            self.state = State::Boundary;
        }
        while self.state == State::Content {
            self.chunk().await?;
        }
        if self.state == State::Boundary && !self.is_last().await? {
            return self.head().await.map(Some);
        }
        Ok(None)
    }

    /// Goes to the file of an upload, the part `file`.
    ///
    /// # Errors
    /// 400 for a form without it, or with another part.
    pub async fn file(&mut self) -> Result<()> {
        match self.next_part().await?.as_deref() {
            Some("file") => Ok(()),
            Some(name) => Err(unknown_part(name)),
            None => Err(fault("file", "required", "is required")),
        }
    }

    /// Ends the form after its file.
    ///
    /// # Errors
    /// 400 for a form with another part.
    pub async fn end(&mut self) -> Result<()> {
        match self.next_part().await?.as_deref() {
            Some("file") => Err(fault("file", "duplicate", "must be given only once")),
            Some(name) => Err(unknown_part(name)),
            None => Ok(()),
        }
    }

    /// Returns the next piece of the current part, until the part ends.
    ///
    /// # Errors
    /// 400 if the body ends within the part.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>> {
        while self.state == State::Content {
            if let Some(end) = self.delimiter.find(&self.held) {
                if end > 0 {
                    return Ok(Some(self.held.split_to(end).freeze()));
                }
                self.held.advance(self.delimiter.needle().len());
                self.state = State::Boundary;
                break;
            }
            let ready = self.held.len() - self.begun();
            if ready > 0 {
                return Ok(Some(self.held.split_to(ready).freeze()));
            }
            self.more().await?;
        }
        Ok(None)
    }

    /// How many of the last bytes may be the beginning of a boundary. They begin with the last
    /// `\r`, because a delimiter contains only one.
    fn begun(&self) -> usize {
        let needle = self.delimiter.needle();
        let tail = &self.held[self.held.len().saturating_sub(needle.len() - 1)..];
        let begun = memchr::memrchr(b'\r', tail).map(|at| &tail[at..]);
        begun.filter(|begun| needle.starts_with(begun)).map_or(0, <[u8]>::len)
    }

    /// Reads the rest of a boundary's line, and returns whether the boundary is the last.
    async fn is_last(&mut self) -> Result<bool> {
        self.until(MAX_PADDING, |held| (held.len() >= 2).then_some(0), "").await?;
        if self.held.starts_with(b"--") {
            self.state = State::Ended;
            self.held.advance(2);
            while self.held.len() <= MAX_AROUND {
                if !self.fill().await? {
                    return Ok(true);
                }
            }
            return Err(malformed("has more than 4 KiB after its last boundary"));
        }
        let end = self.until(MAX_PADDING, line_end, "no line end after a boundary").await?;
        if !self.held[..end].iter().all(|byte| matches!(byte, b' ' | b'\t')) {
            return Err(malformed("has characters other than blanks after a boundary"));
        }
        self.held.advance(end);
        Ok(false)
    }

    /// Reads the head of a part, including the line end before it, and returns the part's name.
    async fn head(&mut self) -> Result<String> {
        let found = |held: &[u8]| memmem::find(held, b"\r\n\r\n");
        let end = self.until(MAX_HEAD, found, "a part whose head has more than 8 KiB").await?;
        let head = self.held.split_to(end + 4);
        self.state = State::Content;
        name(head.get(2..end).unwrap_or_default())
    }

    /// Reads until `find` finds something within the first `max` bytes, and returns its position.
    async fn until(&mut self, max: usize, find: impl Fn(&[u8]) -> Option<usize>, beyond: &str) -> Result<usize> {
        loop {
            if let Some(at) = find(&self.held[..self.held.len().min(max)]) {
                return Ok(at);
            }
            if self.held.len() >= max {
                return Err(malformed(format!("has {beyond}")));
            }
            self.more().await?;
        }
    }

    /// Reads more where the form must not end yet.
    async fn more(&mut self) -> Result<()> {
        if self.fill().await? { Ok(()) } else { Err(malformed("ends before its last boundary")) }
    }

    async fn fill(&mut self) -> Result<bool> {
        let piece = next_piece(&mut self.body).await?;
        Ok(piece.is_some_and(|piece| {
            self.held.extend_from_slice(&piece);
            true
        }))
    }
}

fn line_end(text: &[u8]) -> Option<usize> {
    memmem::find(text, LINE_END)
}

fn unknown_part(name: &str) -> Problem {
    fault(name, "unknown", "is not a known part; options are query parameters")
}

fn fault(field: &str, code: &'static str, message: &'static str) -> Problem {
    Problem::invalid(vec![FieldError::new(field, code, message)])
}

fn malformed(what: impl AsRef<str>) -> Problem {
    Problem::invalid(vec![FieldError::new("body", "malformed", format!("is not a valid form: it {}", what.as_ref()))])
}

/// The boundary in a `Content-Type`.
fn boundary(kind: &str) -> Result<String> {
    let fault = |code, message: &'static str| Problem::invalid(vec![FieldError::new("boundary", code, message)]);
    let Some(parameters) = parameters(kind) else {
        return Err(fault("invalid", "cannot be parsed: the Content-Type has malformed parameters"));
    };
    let mut boundaries = parameters.into_iter().filter(|(name, _)| name == "boundary").map(|(_, value)| value);
    let boundary = boundaries.next().ok_or_else(|| fault("required", "is missing in the Content-Type"))?;
    if boundaries.next().is_some() {
        return Err(fault("duplicate", "must be given only once in the Content-Type"));
    }
    let is_usable = (1..=MAX_BOUNDARY).contains(&boundary.len())
        && boundary.bytes().all(|byte| matches!(byte, b' '..=b'~'))
        && !boundary.ends_with(' ');
    if is_usable { Ok(boundary) } else { Err(fault("invalid", "must have from 1 to 70 ASCII characters")) }
}

/// The part's name in its head.
fn name(head: &[u8]) -> Result<String> {
    let head = std::str::from_utf8(head).map_err(|_| malformed("has a part whose head is not UTF-8"))?;
    let mut disposition = None;
    for line in head.split("\r\n").filter(|line| !line.is_empty()) {
        let header = line.split_once(':').filter(|(name, _)| !name.is_empty() && !name.contains([' ', '\t']));
        let Some((name, value)) = header.filter(|_| !line.contains(['\r', '\n', '\0'])) else {
            return Err(malformed("has a part with a malformed header"));
        };
        match name.to_ascii_lowercase().as_str() {
            "content-disposition" if disposition.is_some() => {
                return Err(malformed("has a part with two Content-Disposition headers"));
            }
            "content-disposition" => disposition = Some(value),
            // RFC 7578 deprecates encoded content.
            "content-transfer-encoding"
                if !["7bit", "8bit", "binary"].iter().any(|plain| value.trim().eq_ignore_ascii_case(plain)) =>
            {
                return Err(malformed("has a part with a Content-Transfer-Encoding, which is not supported"));
            }
            _ => {}
        }
    }
    let Some(disposition) = disposition else { return Err(malformed("has a part without Content-Disposition")) };
    let kind = disposition.split(';').next().unwrap_or_default().trim();
    let parameters = parameters(disposition).filter(|_| kind.eq_ignore_ascii_case("form-data"));
    let Some(parameters) = parameters else {
        return Err(malformed("has a part with a malformed Content-Disposition"));
    };
    let mut names = parameters.into_iter().filter(|(name, _)| name == "name").map(|(_, value)| value);
    match (names.next(), names.next()) {
        (Some(name), None) => Ok(name),
        _ => Err(malformed("has a part without one name")),
    }
}

/// The parameters of a header: `; name=value; name="va\"lue"`. Their names are in lower case.
fn parameters(header: &str) -> Option<Vec<(String, String)>> {
    let mut parameters = Vec::new();
    let mut rest = header.split_once(';').map_or("", |(_, rest)| rest).trim_start();
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=')?;
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => unquote(quoted)?,
            None => {
                let (value, after) = after.split_at(after.find(';').unwrap_or(after.len()));
                (value.trim_end().to_owned(), after)
            }
        };
        parameters.push((name.trim().to_ascii_lowercase(), value));
        let after = after.trim_start();
        rest = if after.is_empty() { after } else { after.strip_prefix(';')?.trim_start() };
    }
    Some(parameters)
}

/// Splits a quoted text from the rest after its closing quote.
fn unquote(quoted: &str) -> Option<(String, &str)> {
    let mut text = String::new();
    let mut letters = quoted.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((text, &quoted[at + 1..])),
            '\\' => text.push(letters.next()?.1),
            _ => text.push(letter),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;
    use futures_util::{FutureExt, stream};
    use proptest::prelude::*;

    use super::*;

    /// Reads a form that arrives in pieces. Every piece is ready, so the future never waits.
    fn read(pieces: &[&[u8]], boundary: &str) -> Result<Vec<(String, Vec<u8>)>> {
        let pieces: Vec<_> =
            pieces.iter().map(|piece| Ok::<_, std::io::Error>(Bytes::copy_from_slice(piece))).collect();
        let mut form = Multipart::new(Body::from_stream(stream::iter(pieces)), boundary);
        let parts = async {
            let mut parts = Vec::new();
            while let Some(name) = form.next_part().await? {
                let mut content = Vec::new();
                while let Some(piece) = form.chunk().await? {
                    assert!(!piece.is_empty() && form.held.len() < 100_000);
                    content.extend_from_slice(&piece);
                }
                parts.push((name, content));
            }
            Ok(parts)
        };
        parts.now_or_never().unwrap()
    }

    fn form(parts: &[(&str, &[u8])]) -> Vec<u8> {
        let mut form = Vec::new();
        for (name, content) in parts {
            let head = format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"f;=.csv\"\r\n\r\n");
            form.extend_from_slice(head.as_bytes());
            form.extend_from_slice(content);
            form.extend_from_slice(LINE_END);
        }
        form.extend_from_slice(b"--b--\r\n");
        form
    }

    fn message(form: &[u8]) -> String {
        let problem = read(&[form], "b").unwrap_err();
        assert_eq!(problem.status(), StatusCode::BAD_REQUEST);
        serde_json::to_string(&problem.body()).unwrap()
    }

    #[test]
    fn forms_of_common_clients_are_read() {
        let plain: &[u8] = b"--b\r\nContent-Disposition: form-data; name=file\r\n\r\nx\r\n--b--";
        let padded: &[u8] =
            b"preamble\r\n--b \t\r\ncontent-disposition:form-data;NAME=\"file\"\r\nContent-Type: text/csv\r\n\r\nx\r\n--b--\r\nepilogue";
        for bytes in [plain, padded] {
            assert_eq!(read(&[bytes], "b").unwrap(), [("file".to_owned(), b"x".to_vec())]);
        }
        assert_eq!(read(&[b"--b--"], "b").unwrap(), []);
        assert_eq!(read(&[&form(&[("a", b""), ("b", b"\r\n--")])], "b").unwrap()[1].1, b"\r\n--");
    }

    #[test]
    fn malformed_forms_are_rejected_with_the_reason() {
        for (form, why) in [
            (&b""[..], "ends before its last boundary"),
            (b"Name,Email\r\n", "ends before its last boundary"),
            (b"--b\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\nx", "ends before its last boundary"),
            (b"--bx\r\n\r\n", "after a boundary"),
            (b"--b\r\n\r\nx\r\n--b--", "without Content-Disposition"),
            (b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--", "without one name"),
            (b"--b\r\nContent-Disposition: form-data; name=\"x\r\n\r\nx\r\n--b--", "malformed Content-Disposition"),
            (b"--b\r\nContent-Disposition: attachment; name=\"x\"\r\n\r\nx\r\n--b--", "malformed Content-Disposition"),
            (b"--b\r\n folded\r\n\r\nx\r\n--b--", "malformed header"),
            (
                b"--b\r\nContent-Disposition: form-data; name=\"x\"\r\nContent-Transfer-Encoding: base64\r\n\r\nx\r\n--b--",
                "Content-Transfer-Encoding",
            ),
        ] {
            assert!(message(form).contains(why), "{why}: {}", message(form));
        }
    }

    #[test]
    fn bytes_outside_the_content_of_parts_are_limited() {
        let filler = "x".repeat(100_000);
        let head = "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"";
        for (form, why) in [
            (filler.clone(), "4 KiB before its first boundary"),
            (format!("{filler}\r\n--b--"), "4 KiB before its first boundary"),
            (format!("{head}{filler}\"\r\n\r\n"), "head has more than 8 KiB"),
            (format!("--b\r\n{}", "A: b\r\n".repeat(20_000)), "head has more than 8 KiB"),
            (format!("--b{}", " ".repeat(100_000)), "after a boundary"),
            (format!("--b--{filler}"), "4 KiB after its last boundary"),
        ] {
            assert!(message(form.as_bytes()).contains(why), "{why}");
        }
    }

    #[test]
    fn boundaries_are_read_from_the_content_type() {
        let of = |kind: &str| boundary(kind).ok();
        assert_eq!(of("multipart/form-data; boundary=b").as_deref(), Some("b"));
        assert_eq!(of("multipart/form-data; charset=utf-8; Boundary=\"a b\" ; x=y").as_deref(), Some("a b"));
        for wrong in
            ["", "; boundary=", "; boundary=\"b", "; boundary=a; boundary=b", "; boundary", "; boundary=\"b\"x"]
        {
            assert_eq!(of(&format!("multipart/form-data{wrong}")), None, "{wrong}");
        }
        assert_eq!(of(&format!("multipart/form-data; boundary={}", "b".repeat(71))), None);
    }

    proptest! {
        #[test]
        fn content_does_not_depend_on_the_split_into_pieces(
            content in prop::collection::vec(prop::sample::select(&b"\r\n-b x"[..]), 0..200),
            cuts in prop::collection::vec(0_usize..400, 0..20),
        ) {
            prop_assume!(memmem::find(&[b"\r\n", &content[..]].concat(), b"\r\n--b").is_none());
            let form = form(&[("file", &content), ("other", b"y")]);
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(form.len())).collect();
            cuts.extend([0, form.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|ends| &form[ends[0]..ends[1]]).collect();
            let expected = vec![("file".to_owned(), content), ("other".to_owned(), b"y".to_vec())];
            prop_assert_eq!(read(&pieces, "b").unwrap(), expected);
        }

        #[test]
        fn arbitrary_bytes_never_panic(form in prop::collection::vec(prop::sample::select(&b"\r\n-b:; =\"x\\"[..]), 0..200)) {
            let _ = read(&[&form], "b");
        }
    }
}
