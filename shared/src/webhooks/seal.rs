//! Encryption of what webhooks must keep secret in the database.
//!
//! A sealed text is a byte for its form, then the text: readable, or a nonce of 24 random bytes and the text encrypted
//! with XChaCha20-Poly1305. The workspace, the id of the row and the field are authenticated with it, so a sealed text
//! means nothing in another place.

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use rand::TryRng;
use rand::rngs::SysRng;
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::platform::config::Webhooks;

const READABLE: u8 = 0;
const ENCRYPTED: u8 = 1;
const NONCE: usize = 24;

/// Where a sealed text is stored: the workspace, the id of the row, and the field.
pub(super) type Place<'a> = (Uuid, Uuid, &'a str);

/// Seals and opens texts, with the key in the settings.
#[derive(Clone)]
pub struct Sealer(Option<XChaCha20Poly1305>);

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sealer")
    }
}

impl Sealer {
    /// A sealer with the key in the settings, if there is one.
    pub fn new(settings: &Webhooks) -> Self {
        Self(settings.key().map(|key| XChaCha20Poly1305::new(&key.into())))
    }

    /// Seals a text.
    pub(super) fn seal(&self, place: Place<'_>, text: &str) -> Result<Vec<u8>> {
        let Some(cipher) = &self.0 else { return Ok([&[READABLE], text.as_bytes()].concat()) };
        let mut nonce = [0; NONCE];
        SysRng.try_fill_bytes(&mut nonce).map_err(|error| Error::Internal(error.into()))?;
        let payload = Payload { msg: text.as_bytes(), aad: &context(place) };
        let encrypted = cipher.encrypt(&XNonce::from(nonce), payload);
        let encrypted = encrypted.map_err(|_| Error::internal("a secret of a webhook cannot be encrypted"))?;
        Ok([&[ENCRYPTED], &nonce[..], &encrypted].concat())
    }

    /// Whether a sealed text is not encrypted.
    pub(super) fn is_readable(sealed: &[u8]) -> bool {
        sealed.first() == Some(&READABLE)
    }

    /// Opens a sealed text.
    ///
    /// # Errors
    /// [`Error::Internal`] if the text was sealed with another key, or in another place.
    pub(super) fn open(&self, place: Place<'_>, sealed: &[u8]) -> Result<String> {
        let unreadable =
            || Error::internal("a secret of a webhook cannot be decrypted: is webhooks.encryption_key its key?");
        let text = match (sealed.split_first(), &self.0) {
            (Some((&READABLE, text)), _) => text.to_vec(),
            (Some((&ENCRYPTED, rest)), Some(cipher)) => {
                let (nonce, encrypted) = rest.split_first_chunk::<NONCE>().ok_or_else(unreadable)?;
                let payload = Payload { msg: encrypted, aad: &context(place) };
                cipher.decrypt(&XNonce::from(*nonce), payload).map_err(|_| unreadable())?
            }
            _ => return Err(unreadable()),
        };
        String::from_utf8(text).map_err(|_| unreadable())
    }
}

fn context((workspace_id, id, field): Place<'_>) -> Vec<u8> {
    [workspace_id.as_bytes(), id.as_bytes(), field.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealer(key: u8) -> Sealer {
        Sealer(Some(XChaCha20Poly1305::new(&[key; 32].into())))
    }

    #[test]
    fn a_text_is_opened_only_with_its_key_and_in_its_place() {
        let place = (Uuid::from_u128(1), Uuid::from_u128(2), "secret");
        let sealed = sealer(1).seal(place, "whsec_abc").unwrap();
        assert!(!String::from_utf8_lossy(&sealed).contains("whsec"));
        assert_ne!(sealed, sealer(1).seal(place, "whsec_abc").unwrap());
        assert_eq!(sealer(1).open(place, &sealed).unwrap(), "whsec_abc");
        for (sealer, place) in [
            (sealer(2), place),
            (Sealer(None), place),
            (sealer(1), (place.0, place.1, "headers")),
            (sealer(1), (place.0, Uuid::from_u128(3), place.2)),
            (sealer(1), (Uuid::from_u128(3), place.1, place.2)),
        ] {
            assert!(sealer.open(place, &sealed).is_err());
        }
        let mut changed = sealed.clone();
        *changed.last_mut().unwrap() ^= 1;
        assert!(sealer(1).open(place, &changed).is_err() && sealer(1).open(place, &[]).is_err());
    }

    #[test]
    fn what_was_stored_without_a_key_stays_readable_with_one() {
        let place = (Uuid::nil(), Uuid::nil(), "secret");
        let readable = Sealer(None).seal(place, "text").unwrap();
        assert_eq!(sealer(1).open(place, &readable).unwrap(), "text");
    }
}
