//! Entity tags: a hash of a resource's stored fields, and one of its computed fields if it has any.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// A resource that has an entity tag.
pub trait Tagged: Serialize {
    /// The fields that are computed from other resources, such as a score. They change by themselves,
    /// so they do not count in the precondition of a write.
    const COMPUTED: &'static [&'static str] = &[];
}

/// Returns the tag of a resource with this JSON. The same JSON has the same tag in every process.
///
/// # Errors
/// [`Error::Internal`] for a resource with computed fields that is not a JSON object.
pub fn of<T: Tagged>(json: &[u8]) -> Result<String> {
    if T::COMPUTED.is_empty() {
        return Ok(format!("\"{}\"", encode(Sha256::digest(json))));
    }
    let fields: BTreeMap<&str, &RawValue> = serde_json::from_slice(json)?;
    let (mut stored, mut computed) = (Sha256::new(), Sha256::new());
    for (name, value) in fields {
        let part = if T::COMPUTED.contains(&name) { &mut computed } else { &mut stored };
        part.update(format!("{name}:{value},"));
    }
    Ok(format!("\"{}{PARTS}{}\"", encode(stored.finalize()), encode(computed.finalize())))
}

/// Stands between the two parts of a tag, and in neither of them.
const PARTS: char = '.';

fn encode(hash: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(&hash.as_ref()[..12])
}

/// The precondition of a write (`If-Match`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Condition {
    /// No precondition.
    #[default]
    None,
    /// The stored fields of the record have one of these tags.
    Tags(Vec<String>),
}

impl Condition {
    /// Checks the precondition against the record.
    ///
    /// # Errors
    /// [`Error::Changed`].
    pub fn check<T: Tagged>(&self, record: &T) -> Result<()> {
        match self {
            Self::None => Ok(()),
            Self::Tags(tags) => {
                let present = of::<T>(&serde_json::to_vec(record)?)?;
                let is_present = |tag: &String| stored(tag).is_some_and(|part| stored(&present) == Some(part));
                if tags.iter().any(is_present) { Ok(()) } else { Err(Error::Changed) }
            }
        }
    }
}

/// Whether two tags denote the same representation of a resource. Proxies that compress make a tag weak or
/// append the encoding to it; such changes are ignored.
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

/// The part of a tag that is the hash of the stored fields.
fn stored(tag: &str) -> Option<&str> {
    let tag = bare(tag)?;
    Some(tag.split_once(PARTS).map_or(tag, |(stored, _)| stored))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[derive(Serialize)]
    struct Plain {}

    impl Tagged for Plain {}

    #[derive(Serialize)]
    struct Scored {
        name: &'static str,
        score: f64,
        note: Option<&'static str>,
    }

    impl Tagged for Scored {
        const COMPUTED: &'static [&'static str] = &["score"];
    }

    fn tag(scored: &Scored) -> String {
        of::<Scored>(&serde_json::to_vec(scored).unwrap()).unwrap()
    }

    #[test]
    fn a_tag_has_a_part_for_stored_and_one_for_computed_fields() {
        let before = Scored { name: "Ada", score: 1.0, note: None };
        let rescored = Scored { score: 2.5, ..before };
        let renamed = Scored { name: "Eve", ..before };
        let tags = [&before, &rescored, &renamed].map(tag);
        let parts = tags.each_ref().map(|tag| tag.trim_matches('"').split_once('.').unwrap());
        assert!(parts[0].0 == parts[1].0 && parts[0].1 != parts[1].1);
        assert!(parts[0].0 != parts[2].0 && parts[0].1 == parts[2].1);
        assert!(!is_same(&tags[0], &tags[1]) && is_same(&tags[0], &tag(&before)));

        let condition = Condition::Tags(vec![format!("W/{}-gzip\"", tags[0].trim_end_matches('"'))]);
        assert!(condition.check(&before).is_ok() && condition.check(&rescored).is_ok());
        assert!(matches!(condition.check(&renamed), Err(Error::Changed)));
        let of_stored = Condition::Tags(vec![format!("\"{}\"", parts[0].0)]);
        assert!(of_stored.check(&rescored).is_ok() && of_stored.check(&renamed).is_err());
    }

    #[test]
    fn the_order_of_fields_does_not_decide_about_a_tag_with_two_parts() {
        let one = json!({ "name": "Ada", "score": 1.0, "note": null }).to_string();
        let other = json!({ "note": null, "score": 1.0, "name": "Ada" }).to_string();
        assert_eq!(of::<Scored>(one.as_bytes()).unwrap(), of::<Scored>(other.as_bytes()).unwrap());
    }

    #[test]
    fn a_tag_is_the_same_after_a_proxy_has_compressed_the_body() {
        let tag = of::<Plain>(b"{}").unwrap();
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
            of::<Plain>(b"[]").unwrap(),
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
