//! The hash of an address that is not known.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::kind::{Compared, Kind};
use super::{Fault, Field};
use crate::values::cell::{Cell, Cells};

/// The SHA-256 of the [normal form](super::email_key) of an address in UTF-8, in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, sqlx::Type)]
#[serde(transparent)]
#[sqlx(transparent)]
pub struct EmailHash(String);

impl EmailHash {
    /// The number of hexadecimal digits.
    pub const LENGTH: usize = 64;

    /// The hash of an address in its normal form.
    pub fn of(email_key: &str) -> Self {
        Self(Sha256::digest(email_key).iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// The hash in the place of a normal form. No address has one like it.
    pub fn key(&self) -> String {
        format!("sha256:{}", self.0)
    }
}

impl AsRef<str> for EmailHash {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Field for EmailHash {
    fn from_text(text: &str) -> Result<Self, Fault> {
        if text.len() == Self::LENGTH && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Ok(Self(text.to_ascii_lowercase()));
        }
        Err(Fault::new("invalid", "must be a SHA-256 in hexadecimal"))
    }
}

impl Cell for EmailHash {
    fn write(&self, cells: &mut impl Cells) {
        cells.value(&self.0);
    }
}

impl Compared for EmailHash {
    const KIND: Kind = Kind::Line;
}
