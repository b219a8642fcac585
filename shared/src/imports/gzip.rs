//! Unpacks files that are compressed with gzip, in flat memory.

use std::io::Write;

use flate2::write::MultiGzDecoder;

use crate::error::{Error, Result};

/// The first bytes of a compressed file.
pub(super) const MAGIC: &[u8] = b"\x1f\x8b";

/// The state between two pieces of the file.
#[derive(Debug)]
pub(super) enum Unzip {
    /// The first bytes, which may be those of gzip.
    Start(Vec<u8>),
    /// The file is not compressed.
    Plain(Vec<u8>),
    /// The decoder, and the input that it has not read yet.
    Gzip { decoder: Box<MultiGzDecoder<Vec<u8>>>, input: Vec<u8>, at: usize },
}

impl Default for Unzip {
    fn default() -> Self {
        Self::Start(Vec::new())
    }
}

impl Unzip {
    /// Adds the next piece of the file.
    pub fn push(&mut self, piece: &[u8]) {
        match self {
            Self::Start(held) => {
                held.extend_from_slice(piece);
                if held.len() >= MAGIC.len() {
                    self.begin();
                }
            }
            Self::Plain(held) => held.extend_from_slice(piece),
            Self::Gzip { input, at, .. } => {
                input.drain(..std::mem::take(at));
                input.extend_from_slice(piece);
            }
        }
    }

    /// Returns the next unpacked piece, or nothing if more of the file is needed.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the file is damaged.
    pub fn pull(&mut self) -> Result<Option<Vec<u8>>> {
        match self {
            Self::Start(_) => Ok(None),
            Self::Plain(held) => Ok(Some(std::mem::take(held)).filter(|held| !held.is_empty())),
            Self::Gzip { decoder, input, at } => {
                while *at < input.len() {
                    // A call unpacks at most one buffer of the decoder, 32 KiB.
                    *at += decoder.write(&input[*at..]).map_err(damaged)?;
                    if !decoder.get_ref().is_empty() {
                        return Ok(Some(std::mem::take(decoder.get_mut())));
                    }
                }
                Ok(None)
            }
        }
    }

    /// Returns the last piece, after all others were pulled.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the file ends too early.
    pub fn finish(&mut self) -> Result<Vec<u8>> {
        match self {
            Self::Start(held) | Self::Plain(held) => Ok(std::mem::take(held)),
            Self::Gzip { decoder, .. } => {
                decoder.try_finish().map_err(damaged)?;
                Ok(std::mem::take(decoder.get_mut()))
            }
        }
    }

    fn begin(&mut self) {
        let Self::Start(held) = self else { return };
        let held = std::mem::take(held);
        *self = match held.starts_with(MAGIC) {
            true => Self::Gzip { decoder: Box::new(MultiGzDecoder::new(Vec::new())), input: held, at: 0 },
            false => Self::Plain(held),
        };
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is used as a function of `map_err`")]
fn damaged(error: std::io::Error) -> Error {
    Error::invalid("file", "malformed", format!("is compressed with gzip, and incomplete or damaged: {error}"))
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn zip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn unzip(file: &[u8], piece: usize) -> Result<Vec<u8>> {
        let (mut unzip, mut text) = (Unzip::default(), Vec::new());
        for piece in file.chunks(piece) {
            unzip.push(piece);
            while let Some(piece) = unzip.pull()? {
                assert!(!piece.is_empty() && piece.len() <= 64 * 1024);
                text.extend(piece);
            }
        }
        text.extend(unzip.finish()?);
        Ok(text)
    }

    #[test]
    fn members_are_unpacked_one_after_the_other_in_any_pieces() {
        let file = [zip(b"name,email\n"), zip(b"Ann,ann@example.com\n")].concat();
        for piece in [1, 5, 1_000] {
            assert_eq!(unzip(&file, piece).unwrap(), b"name,email\nAnn,ann@example.com\n");
            assert_eq!(unzip(b"name,email\n", piece).unwrap(), b"name,email\n");
        }
        let zeros = vec![b'0'; 10 << 20];
        assert!(unzip(&zip(&zeros), 64 * 1024).unwrap() == zeros);
    }

    #[test]
    fn a_damaged_file_is_invalid() {
        let file = zip(&b"Ann,ann@example.com\n".repeat(1_000));
        let mut broken = file.clone();
        let last = broken.len() - 6;
        broken[last] ^= 1;
        for file in [&file[..file.len() - 3], &file[..20], &broken, &[file.as_slice(), b"rest"].concat()] {
            assert!(matches!(unzip(file, 7), Err(Error::Invalid(_))));
        }
    }
}
