//! Which constraint a write has broken.
//!
//! A node of Citus names a constraint with the number of its shard, and the coordinator passes on the message
//! alone: not the name, and for COPY not even the SQLSTATE.

use sqlx::error::DatabaseError;

/// What a constraint is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Violation {
    /// A unique key is taken.
    Unique,
    /// A referenced row is missing, or a row is still referred to.
    Reference,
}

impl Violation {
    pub(super) fn of(error: &(impl DatabaseError + ?Sized)) -> Option<Self> {
        Self::new(&error.code().unwrap_or_default(), error.message())
    }

    fn new(code: &str, message: &str) -> Option<Self> {
        match code {
            "23505" => Some(Self::Unique),
            "23503" => Some(Self::Reference),
            "XX000" if message.contains("violates unique constraint") => Some(Self::Unique),
            "XX000" if message.contains("violates foreign key constraint") => Some(Self::Reference),
            _ => None,
        }
    }
}

/// Whether Citus has split the shard of the rows while the statement waited.
pub(super) fn is_of_split_shard(error: &(impl DatabaseError + ?Sized)) -> bool {
    error.message().starts_with("could not find valid entry for shard")
}

/// Whether the error is about this constraint.
pub(super) fn names(error: &(impl DatabaseError + ?Sized), constraint: &str) -> bool {
    match error.constraint() {
        Some(name) => is_same(name, constraint),
        None => error.message().split('"').skip(1).step_by(2).any(|name| is_same(name, constraint)),
    }
}

/// Whether this is the name of the constraint, or of its part on a shard.
fn is_same(name: &str, constraint: &str) -> bool {
    name.strip_prefix(constraint).is_some_and(|rest| {
        let shard = rest.strip_prefix('_').unwrap_or_default();
        rest.is_empty() || (!shard.is_empty() && shard.bytes().all(|byte| byte.is_ascii_digit()))
    })
}

#[cfg(test)]
mod tests {
    use super::{Violation, is_same};

    #[test]
    fn a_part_on_a_shard_is_the_same_constraint() {
        for name in ["leads_email_key", "leads_email_key_102041"] {
            assert!(is_same(name, "leads_email_key"), "{name}");
        }
        for name in ["leads_email_key_", "leads_email_key_2", "leads_email", "leads_email_key_a1", "leads_email_keys"] {
            assert_eq!(is_same(name, "leads_email_key"), name.ends_with('2'), "{name}");
        }
    }

    #[test]
    fn a_copy_to_a_node_has_only_a_message() {
        let message = r#"duplicate key value violates unique constraint "leads_email_key_102041""#;
        assert_eq!(Violation::new("XX000", message), Some(Violation::Unique));
        assert_eq!(Violation::new("23505", "doppelter Schlüssel"), Some(Violation::Unique));
        assert_eq!(Violation::new("XX000", "cache lookup failed"), None);
    }
}
