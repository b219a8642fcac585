//! Keys: what only one record of a kind has in a workspace, and the references to other records.
//!
//! A kind declares both once. From that come the look-ups of batches and imports, and what a caller
//! reads when the database refuses to write a row: see `constraints.rs`.

use uuid::Uuid;

use crate::error::{Error, FieldError, Reason};
use crate::values::email_key;

/// A value that only one record of a kind has in a workspace. A unique index sees to it.
#[derive(Debug)]
pub struct UniqueKey<R> {
    /// The field that holds it.
    pub field: &'static str,
    /// How its values are compared.
    pub form: KeyForm,
    /// The indexed expression, which gives the value's normal form.
    pub expression: &'static str,
    /// The condition of the index, if not all values are kept apart.
    pub condition: Option<&'static str>,
    /// The index.
    pub constraint: &'static str,
    /// Why a second record is refused.
    pub reason: Reason,
    /// The same, for people.
    pub message: &'static str,
    /// The value of a record in its normal form; `None` if it has none.
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
    /// More bytes than any key has.
    const MAX: usize = 1_024;

    /// The normal form of what a caller gave; `None` for a text that no record can have.
    pub fn normal(self, text: &str) -> Option<String> {
        let text = text.trim();
        match self {
            Self::Email => (text.len() <= Self::MAX).then(|| email_key(text)),
            Self::Id => Uuid::try_parse(text).ok().map(|id| id.to_string()),
            Self::Text => (text.len() <= Self::MAX).then(|| text.to_owned()),
        }
    }

    /// The type of the normal form in the database.
    pub(super) fn sql_type(self) -> &'static str {
        match self {
            Self::Email | Self::Text => "text",
            Self::Id => "uuid",
        }
    }
}

impl<R> UniqueKey<R> {
    /// Refuses a record whose key another one has.
    pub fn conflict(&self, owner: Option<Uuid>) -> Error {
        let reason = FieldError::new(self.field, self.reason.code(), self.message);
        Error::Conflict(FieldError { id: owner, ..reason }.into())
    }
}

/// A column that names another record, which must exist.
#[derive(Debug)]
pub struct Reference<R> {
    /// The column.
    pub column: &'static str,
    /// The table of the records that it names.
    pub table: &'static str,
    /// The foreign key.
    pub constraint: &'static str,
    /// The id that a record names.
    pub of: fn(&R) -> Option<Uuid>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_looked_up_in_its_normal_form() {
        assert_eq!(KeyForm::Email.normal(" Ada@Example.COM "), Some("ada@example.com".to_owned()));
        assert_eq!(KeyForm::Email.normal(&"a".repeat(2_000)), None);
        let id = "019AB3F2-6B1E-7C3A-9F52-3D8C1E0A7B44";
        assert_eq!(KeyForm::Id.normal(id), Some(id.to_lowercase()));
        assert_eq!(KeyForm::Id.normal("a lead"), None);
        assert_eq!(KeyForm::Text.normal(" A-17 "), Some("A-17".to_owned()));
    }
}
