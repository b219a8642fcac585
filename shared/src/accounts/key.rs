//! Keys in clear text: those of callers of the API, and those of operators.

use std::fmt;
use std::marker::PhantomData;

use rand::TryRng;
use rand::rngs::SysRng;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// A key in clear text: its mark, 30 random characters, and a checksum of six characters, which detects a mistyped key
/// without a query.
///
/// `Debug` shows only the prefix.
pub struct Key<M = ForWorkspace> {
    text: String,
    mark: PhantomData<M>,
}

/// What a key gives access to.
pub trait Mark {
    /// What its keys begin with.
    const MARK: &'static str;
}

/// The mark of an API key: `crm_`.
#[derive(Debug)]
pub struct ForWorkspace;

impl Mark for ForWorkspace {
    const MARK: &'static str = "crm_";
}

/// The mark of the key of an operator: `crm_op_`.
#[derive(Debug)]
pub struct ForOperations;

impl Mark for ForOperations {
    const MARK: &'static str = "crm_op_";
}

impl<M: Mark> Key<M> {
    const RANDOM: usize = 30;
    const CHECKSUM: usize = 6;
    const BODY: usize = M::MARK.len() + Self::RANDOM;
    const SHOWN: usize = M::MARK.len() + 6;

    /// Generates a key with 178 bits from the operating system's random source.
    pub(crate) fn generate() -> Result<Self> {
        let mut text = String::with_capacity(Self::BODY + Self::CHECKSUM);
        text.push_str(M::MARK);
        while text.len() < Self::BODY {
            let byte = SysRng.try_next_u32().map_err(|error| Error::Internal(error.into()))? as u8;
            // 248 is the largest multiple of 62 below 256: the bytes above would favour some characters.
            if byte < 248 {
                text.push(base62(u32::from(byte)));
            }
        }
        text.push_str(&checksum(&text));
        Ok(Self { text, mark: PhantomData })
    }

    /// Parses a key; `None` if the format or the checksum is wrong.
    pub fn parse(text: &str) -> Option<Self> {
        let (body, sum) = text.split_at_checked(Self::BODY)?;
        let random = body.strip_prefix(M::MARK)?;
        let is_key = random.bytes().all(|byte| byte.is_ascii_alphanumeric()) && sum == checksum(body);
        is_key.then(|| Self { text: text.to_owned(), mark: PhantomData })
    }

    /// The hash that is stored and compared.
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(&self.text).into()
    }

    /// The key in clear text, to be shown once.
    pub fn reveal(&self) -> &str {
        &self.text
    }

    pub(crate) fn prefix(&self) -> &str {
        &self.text[..Self::SHOWN]
    }
}

impl<M> Clone for Key<M> {
    fn clone(&self) -> Self {
        Self { text: self.text.clone(), mark: PhantomData }
    }
}

impl<M: Mark> fmt::Debug for Key<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}…", self.prefix())
    }
}

/// The key of an operator.
pub type OperatorKey = Key<ForOperations>;

fn base62(digit: u32) -> char {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    char::from(DIGITS[digit as usize % DIGITS.len()])
}

fn checksum(body: &str) -> String {
    let mut rest = crc32fast::hash(body.as_bytes());
    let mut digits = [' '; 6];
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
        let key: Key = Key::generate().unwrap();
        assert_eq!(key.reveal().len(), 40);
        assert_eq!(Key::<ForWorkspace>::parse(key.reveal()).unwrap().hash(), key.hash());
        for i in 0..key.reveal().len() {
            let mut mistyped = key.reveal().to_owned();
            let other = if &mistyped[i..=i] == "x" { "y" } else { "x" };
            mistyped.replace_range(i..=i, other);
            assert!(Key::<ForWorkspace>::parse(&mistyped).is_none(), "{i}");
        }
        for wrong in ["", "crm_", &key.reveal()[1..], &format!("{}0", key.reveal()), "crm_ééééééééééééééééééé"]
        {
            assert!(Key::<ForWorkspace>::parse(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn a_key_shows_only_its_prefix() {
        let key: Key = Key::generate().unwrap();
        assert_eq!(format!("{key:?}"), format!("{}…", &key.reveal()[..10]));
    }

    #[test]
    fn a_key_of_an_operator_is_no_api_key() {
        let (key, other): (Key, OperatorKey) = (Key::generate().unwrap(), Key::generate().unwrap());
        assert!(OperatorKey::parse(key.reveal()).is_none() && Key::<ForWorkspace>::parse(other.reveal()).is_none());
        assert_eq!(OperatorKey::parse(other.reveal()).unwrap().hash(), other.hash());
        assert_eq!(other.prefix(), &other.reveal()[..13]);
    }
}
