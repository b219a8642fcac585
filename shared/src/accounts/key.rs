//! API keys in clear text.

use std::fmt;

use rand::TryRng;
use rand::rngs::SysRng;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// An API key in clear text: `crm_`, 30 random characters, and a checksum of six characters, which detects
/// a mistyped key without a query.
///
/// `Debug` shows only the prefix.
#[derive(Clone)]
pub struct Key(String);

impl Key {
    const MARK: &str = "crm_";
    const RANDOM: usize = 30;
    const CHECKSUM: usize = 6;
    const LENGTH: usize = Self::MARK.len() + Self::RANDOM + Self::CHECKSUM;
    const SHOWN: usize = Self::MARK.len() + 6;

    /// Generates a key with 178 bits from the operating system's random source.
    pub(super) fn generate() -> Result<Self> {
        let mut key = String::with_capacity(Self::LENGTH);
        key.push_str(Self::MARK);
        while key.len() < Self::MARK.len() + Self::RANDOM {
            let byte = SysRng.try_next_u32().map_err(|error| Error::Internal(error.into()))? as u8;
            // 248 is the largest multiple of 62 below 256: the bytes above would favour some characters.
            if byte < 248 {
                key.push(base62(u32::from(byte)));
            }
        }
        key.push_str(&checksum(&key));
        Ok(Self(key))
    }

    /// Parses a key; `None` if the format or the checksum is wrong.
    pub fn parse(text: &str) -> Option<Self> {
        let (body, sum) = text.split_at_checked(Self::LENGTH - Self::CHECKSUM)?;
        let is_key = body.starts_with(Self::MARK)
            && body[Self::MARK.len()..].bytes().all(|byte| byte.is_ascii_alphanumeric())
            && sum == checksum(body);
        is_key.then(|| Self(text.to_owned()))
    }

    /// The hash that is stored and compared.
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(&self.0).into()
    }

    /// The key in clear text, to be shown once.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    pub(super) fn prefix(&self) -> &str {
        &self.0[..Self::SHOWN]
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}…", self.prefix())
    }
}

fn base62(digit: u32) -> char {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    char::from(DIGITS[digit as usize % DIGITS.len()])
}

fn checksum(body: &str) -> String {
    let mut rest = crc32fast::hash(body.as_bytes());
    let mut digits = [' '; Key::CHECKSUM];
    for digit in digits.iter_mut().rev() {
        *digit = base62(rest % 62);
        rest /= 62;
    }
    digits.iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_with_any_wrong_character_is_rejected() {
        let key = Key::generate().unwrap();
        assert_eq!(key.reveal().len(), 40);
        assert_eq!(Key::parse(key.reveal()).unwrap().hash(), key.hash());
        for i in 0..key.reveal().len() {
            let mut mistyped = key.reveal().to_owned();
            let other = if &mistyped[i..=i] == "x" { "y" } else { "x" };
            mistyped.replace_range(i..=i, other);
            assert!(Key::parse(&mistyped).is_none(), "{i}");
        }
        for wrong in ["", "crm_", &key.reveal()[1..], &format!("{}0", key.reveal()), "crm_ééééééééééééééééééé"]
        {
            assert!(Key::parse(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn a_key_shows_only_its_prefix() {
        let key = Key::generate().unwrap();
        assert_eq!(format!("{key:?}"), format!("{}…", &key.reveal()[..10]));
    }
}
