//! Decoding a file to UTF-8.
//!
//! A byte order mark or the caller sets the encoding. Without either, the encoding is detected at
//! the first byte outside ASCII, from the bytes that follow it. An invalid sequence is replaced by
//! the byte [`BROKEN`], which is not valid UTF-8, so that only the row that contains it is rejected.

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::{Decoder as Coder, DecoderResult, Encoding, UTF_8, UTF_16BE, UTF_16LE};

use crate::values::Fault;

/// Replaces bytes that are invalid in the encoding.
pub const BROKEN: u8 = 0xff;
/// How many bytes are inspected, from the first byte outside ASCII.
const WINDOW: usize = 64 * 1024;

/// The state between two pieces of the stream.
pub struct Decoder {
    state: State,
}

enum State {
    /// The first bytes may be a byte order mark.
    Start { held: Vec<u8>, given: Option<&'static Encoding> },
    /// All bytes so far were ASCII.
    Ascii,
    /// The bytes from the first byte outside ASCII are being collected.
    Window(Vec<u8>),
    /// UTF-8 passes unchanged, including invalid bytes.
    Utf8,
    /// Any other encoding is decoded.
    Other(Box<Coder>),
}

impl Decoder {
    /// Begins a file; `given` is the encoding, if the caller named one.
    pub fn new(given: Option<&'static Encoding>) -> Self {
        Self { state: State::Start { held: Vec::new(), given } }
    }

    /// The name of the encoding in the WHATWG standard. Files in ASCII count as UTF-8.
    pub fn encoding(&self) -> &'static str {
        match &self.state {
            State::Other(coder) => coder.encoding().name(),
            _ => UTF_8.name(),
        }
    }

    /// Decodes the next piece.
    pub fn feed(&mut self, piece: &[u8]) -> Vec<u8> {
        self.decode(piece, false)
    }

    /// Decodes the remaining bytes at the end of the file.
    pub fn finish(&mut self) -> Vec<u8> {
        self.decode(&[], true)
    }

    fn decode(&mut self, piece: &[u8], last: bool) -> Vec<u8> {
        match &mut self.state {
            State::Start { held, given } => {
                held.extend_from_slice(piece);
                if held.len() < 3 && !last {
                    return Vec::new();
                }
                let (held, given) = (std::mem::take(held), *given);
                let (encoding, length) = match Encoding::for_bom(&held) {
                    Some((encoding, length)) => (Some(encoding), length),
                    None => (given, 0),
                };
                self.state = encoding.map_or(State::Ascii, State::of);
                self.decode(&held[length..], last)
            }
            State::Ascii => {
                let Some(at) = piece.iter().position(|byte| !byte.is_ascii()) else {
                    return piece.to_vec();
                };
                self.state = State::Window(Vec::new());
                let mut text = piece[..at].to_vec();
                text.extend(self.decode(&piece[at..], last));
                text
            }
            State::Window(window) => {
                window.extend_from_slice(piece);
                if window.len() < WINDOW && !last {
                    return Vec::new();
                }
                let window = std::mem::take(window);
                self.state = State::of(detect(&window));
                self.decode(&window, last)
            }
            State::Utf8 => piece.to_vec(),
            State::Other(coder) => convert(coder, piece, last),
        }
    }
}

impl State {
    fn of(encoding: &'static Encoding) -> Self {
        if encoding == UTF_8 { Self::Utf8 } else { Self::Other(Box::new(encoding.new_decoder_without_bom_handling())) }
    }
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decoder").field("encoding", &self.encoding()).finish_non_exhaustive()
    }
}

/// Returns the encoding with a label of the WHATWG standard.
pub fn by_label(label: &str) -> Result<&'static Encoding, Fault> {
    match label.to_ascii_lowercase().as_str() {
        // The WHATWG standard reads this label as little-endian, too.
        "utf-16" | "utf-16le" => Ok(UTF_16LE),
        "utf-16be" => Ok(UTF_16BE),
        label => Encoding::for_label_no_replacement(label.as_bytes()).ok_or_else(|| {
            Fault::new("invalid", "is not a known encoding; use a name such as utf-8, utf-16 or windows-1252")
        }),
    }
}

/// Detects the encoding. UTF-8 is assumed unless invalid sequences are frequent, so a single bad
/// byte rejects one row rather than the file. Text in other encodings is hardly ever valid UTF-8.
fn detect(window: &[u8]) -> &'static Encoding {
    let (mut valid, mut broken) = (0_usize, 0_usize);
    for chunk in window.utf8_chunks() {
        valid += chunk.valid().chars().filter(|c| !c.is_ascii()).count();
        broken += usize::from(!chunk.invalid().is_empty());
    }
    // The window may end within a character.
    if broken <= 1 + valid / 10 && valid > 0 {
        return UTF_8;
    }
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Deny);
    detector.feed(window, true);
    detector.guess(None, Utf8Detection::Deny)
}

fn convert(coder: &mut Coder, mut input: &[u8], last: bool) -> Vec<u8> {
    // The buffer grows by doubling, so that a file of invalid bytes takes linear time, too.
    let mut text = vec![0; input.len() * 2 + 16];
    let mut end = 0;
    loop {
        let (result, read, written) = coder.decode_to_utf8_without_replacement(input, &mut text[end..], last);
        input = &input[read..];
        end += written;
        match result {
            DecoderResult::InputEmpty => {
                text.truncate(end);
                return text;
            }
            DecoderResult::OutputFull => text.resize(text.len() * 2, 0),
            DecoderResult::Malformed(_, _) => {
                if end == text.len() {
                    text.resize(text.len() * 2, 0);
                }
                text[end] = BROKEN;
                end += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(file: &[u8], given: Option<&'static Encoding>, piece: usize) -> (String, &'static str) {
        let mut decoder = Decoder::new(given);
        let mut text: Vec<u8> = file.chunks(piece).flat_map(|piece| decoder.feed(piece)).collect();
        text.extend(decoder.finish());
        (String::from_utf8_lossy(&text).into_owned(), decoder.encoding())
    }

    #[test]
    fn the_same_text_is_read_from_every_encoding() {
        let text = "name,email\nJosé Müller,jose@example.com\nZoë,zoe@example.com\n";
        let utf_16 = |bytes: fn(u16) -> [u8; 2]| {
            std::iter::once(0xfeff).chain(text.encode_utf16()).flat_map(bytes).collect::<Vec<u8>>()
        };
        let (windows, _, _) = encoding_rs::WINDOWS_1252.encode(text);
        let mut with_bom = b"\xef\xbb\xbf".to_vec();
        with_bom.extend(text.as_bytes());
        for piece in [1, 2, 7, 1000] {
            assert_eq!(decode(text.as_bytes(), None, piece), (text.into(), "UTF-8"));
            assert_eq!(decode(&with_bom, None, piece), (text.into(), "UTF-8"));
            assert_eq!(decode(&utf_16(u16::to_le_bytes), None, piece), (text.into(), "UTF-16LE"));
            assert_eq!(decode(&utf_16(u16::to_be_bytes), None, piece), (text.into(), "UTF-16BE"));
            assert_eq!(decode(&windows, None, piece), (text.into(), "windows-1252"));
            assert_eq!(decode(&windows, Some(by_label("latin1").unwrap()), piece), (text.into(), "windows-1252"));
        }
    }

    #[test]
    fn an_invalid_byte_does_not_change_the_detected_encoding() {
        let mut file = "é".repeat(30).into_bytes();
        file.extend(b"\xe9,\n");
        file.extend("ü".repeat(30).as_bytes());
        let (text, encoding) = decode(&file, None, 1000);
        assert_eq!(encoding, "UTF-8");
        assert_eq!(text.matches('\u{fffd}').count(), 1);
        let (text, _) = decode(b"\xff\xfea\0\x00\xd8b\0", None, 3);
        assert_eq!(text, "a\u{fffd}b");
    }

    #[test]
    fn invalid_bytes_are_replaced_in_every_encoding() {
        let gb18030 = by_label("gb18030").unwrap();
        let mut decoder = Decoder::new(Some(gb18030));
        let file = vec![0xff; 1 << 20];
        let mut text = decoder.feed(&file);
        text.extend(decoder.finish());
        assert!(text == vec![BROKEN; 1 << 20]);
        for name in ["shift_jis", "euc-kr", "utf-16", "big5", "iso-2022-jp"] {
            let mut decoder = Decoder::new(Some(by_label(name).unwrap()));
            let text: Vec<u8> = file[..9999].chunks(7).flat_map(|piece| decoder.feed(piece)).collect();
            assert!(text.len() + decoder.finish().len() >= 4999, "{name}");
        }
    }
}
