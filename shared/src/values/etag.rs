//! Entity tags of records.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// The tag of a record's JSON. The same JSON has the same tag in every process.
pub fn of(json: &[u8]) -> String {
    format!("\"{}\"", URL_SAFE_NO_PAD.encode(&Sha256::digest(json)[..12]))
}

/// The precondition of a write (`If-Match`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Condition {
    /// No precondition.
    #[default]
    None,
    /// The record has one of these tags.
    Tags(Vec<String>),
}

impl Condition {
    /// Checks the precondition against the record.
    ///
    /// # Errors
    /// [`Error::Changed`].
    pub fn check(&self, record: &impl Serialize) -> Result<()> {
        match self {
            Self::None => Ok(()),
            Self::Tags(tags) => {
                let present = of(&serde_json::to_vec(record)?);
                if tags.iter().any(|tag| is_same(tag, &present)) { Ok(()) } else { Err(Error::Changed) }
            }
        }
    }
}

/// Whether two tags denote the same state of a record. Proxies that compress make a tag weak or append the
/// encoding to it; such changes are ignored.
pub fn is_same(one: &str, other: &str) -> bool {
    bare(one).is_some_and(|tag| bare(other) == Some(tag))
}

/// The content of a tag, without quotes, weakness and encoding; `None` for an invalid tag.
fn bare(tag: &str) -> Option<&str> {
    let tag = tag.trim();
    let quoted = tag.strip_prefix("W/").unwrap_or(tag);
    let tag = quoted.strip_prefix('"')?.strip_suffix('"')?;
    let encodings = ["-gzip", "-zstd", "-br", "-deflate"];
    Some(encodings.iter().find_map(|encoding| tag.strip_suffix(encoding)).unwrap_or(tag))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_the_same_after_a_proxy_has_compressed_the_body() {
        let tag = of(b"{}");
        let bare = tag.trim_matches('"');
        for same in [
            tag.clone(),
            format!("W/{tag}"),
            format!("\"{bare}-gzip\""),
            format!("W/\"{bare}-gzip\""),
            format!(" \"{bare}-zstd\" "),
            format!("\"{bare}-br\""),
        ] {
            assert!(is_same(&same, &tag) && is_same(&tag, &same), "{same}");
        }
        for other in [
            of(b"[]"),
            bare.to_owned(),
            format!("w/{tag}"),
            format!("\"{bare}-gzip-gzip\""),
            format!("\"{bare}-lzma\""),
            format!("\"{bare}"),
            "\"".to_owned(),
            "\"-gzip\"".to_owned(),
            String::new(),
        ] {
            assert!(!is_same(&other, &tag), "{other}");
        }
    }
}
