//! Entity tags: what a caller has seen of a record, as a word.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// The tag of a record's JSON: the same JSON has the same tag, whichever process answers.
pub fn of(json: &[u8]) -> String {
    format!("\"{}\"", URL_SAFE_NO_PAD.encode(&Sha256::digest(json)[..12]))
}

/// What must hold of a record for a write to take place (`If-Match`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Condition {
    /// Anything.
    #[default]
    None,
    /// It has one of these tags.
    Tags(Vec<String>),
}

impl Condition {
    /// Checks the record.
    ///
    /// # Errors
    /// [`Error::Changed`].
    pub fn check(&self, record: &impl Serialize) -> Result<()> {
        match self {
            Self::None => Ok(()),
            Self::Tags(tags) if tags.contains(&of(&serde_json::to_vec(record)?)) => Ok(()),
            Self::Tags(_) => Err(Error::Changed),
        }
    }
}
