//! The unique keys of a kind of record, and its references to other records.
//!
//! A kind declares both once. Batches and imports look records up by these declarations, and
//! `constraints.rs` maps constraint violations to errors with them.

use uuid::Uuid;

use crate::error::{Conflict, Error, FieldError, OwnerSearch, Reason};
use crate::platform::email_keys;
use crate::values::email_key;

/// A field that is unique among the records of a kind in a workspace, enforced by a unique index.
#[derive(Debug)]
pub struct UniqueKey<R> {
    /// The field of the key.
    pub field: &'static str,
    /// How its values are compared.
    pub form: KeyForm,
    /// The indexed column, which has the normalized value. If it is not the field's own, it is stored
    /// beside the fields.
    pub column: &'static str,
    /// The condition that the owner of a value meets.
    pub condition: Option<&'static str>,
    /// The name of the index.
    pub constraint: &'static str,
    /// The reason of the error for a second record.
    pub reason: Reason,
    /// The message of the error for a second record.
    pub message: &'static str,
    /// Returns the normalized value of a record, if it has one.
    pub of: fn(&R) -> Option<String>,
}

/// How the values of a key are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyForm {
    /// As email addresses.
    Email,
    /// As ids.
    Id,
    /// As they are.
    Text,
}

impl KeyForm {
    /// An upper bound for the length of a key, in bytes.
    const MAX: usize = 1_024;

    /// Normalizes a value; `None` if no record can have it.
    pub fn normal(self, text: &str) -> Option<String> {
        let text = text.trim();
        // PostgreSQL rejects a text with it, even as a value to look for.
        if text.contains('\0') {
            return None;
        }
        match self {
            Self::Email => (text.len() <= Self::MAX).then(|| email_key(text)),
            Self::Id => Uuid::try_parse(text).ok().map(|id| id.to_string()),
            Self::Text => (text.len() <= Self::MAX).then(|| text.to_owned()),
        }
    }

    /// The SQL type of normalized values.
    pub(super) fn sql_type(self) -> &'static str {
        match self {
            Self::Email | Self::Text => "text",
            Self::Id => "uuid",
        }
    }
}

impl<R> UniqueKey<R> {
    /// Whether its column is stored beside the fields of the record.
    pub(super) fn is_stored_beside(&self) -> bool {
        self.column != self.field
    }

    /// The key of records' emails. Of the records whose emails only [became
    /// equal](crate::platform::email_keys), one owns the value.
    pub const fn email(constraint: &'static str, message: &'static str, of: fn(&R) -> Option<String>) -> Self {
        Self {
            field: "email",
            form: KeyForm::Email,
            column: email_keys::COLUMN,
            condition: Some(email_keys::IS_OWNER),
            constraint,
            reason: Reason::Taken,
            message,
            of,
        }
    }

    /// The key of records' ids in the system of a caller.
    pub const fn external_id(constraint: &'static str, message: &'static str, of: fn(&R) -> Option<String>) -> Self {
        Self {
            field: "external_id",
            form: KeyForm::Text,
            column: "external_id",
            condition: Some("external_id IS NOT NULL"),
            constraint,
            reason: Reason::Taken,
            message,
            of,
        }
    }

    /// Returns the error for a key that this record has.
    pub fn conflict(&self, owner: Uuid) -> Error {
        Error::conflict_with(owner, self.reason, self.field, self.message)
    }

    /// Returns the error for a key that a record has which is still to be found.
    pub(crate) fn conflict_with_owner(&self, search: OwnerSearch) -> Error {
        let reason = FieldError::new(self.field, self.reason.code(), self.message);
        Error::Conflict(Conflict::new(reason, Some(search)).into())
    }
}

/// A column that refers to another record, which must exist.
#[derive(Debug)]
pub struct Reference<R> {
    /// The name of the column.
    pub column: &'static str,
    /// The table of the referenced records.
    pub table: &'static str,
    /// The name of the foreign key.
    pub constraint: &'static str,
    /// Returns the id that a record refers to.
    pub of: fn(&R) -> Option<Uuid>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_normalized() {
        assert_eq!(KeyForm::Email.normal(" Ada@Example.COM "), Some("ada@example.com".to_owned()));
        assert_eq!(KeyForm::Email.normal(&"a".repeat(2_000)), None);
        let id = "019AB3F2-6B1E-7C3A-9F52-3D8C1E0A7B44";
        assert_eq!(KeyForm::Id.normal(id), Some(id.to_lowercase()));
        assert_eq!(KeyForm::Id.normal("a lead"), None);
        assert_eq!(KeyForm::Text.normal(" A-17 "), Some("A-17".to_owned()));
        for form in [KeyForm::Email, KeyForm::Id, KeyForm::Text] {
            assert_eq!(form.normal("a\0b"), None);
        }
    }
}
