//! What an API key may do.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};
use serde_json::Value;
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArgumentBuffer, PgTypeInfo, PgValueRef};
use sqlx::{Decode, Encode, Postgres};
use utoipa::openapi::schema::{Array, ArrayBuilder};

use crate::error::Error;
use crate::string_enum;
use crate::values::json_schema::Shape;
use crate::values::{Fault, Field};

string_enum! {
    /// What an API key may do.
    Scope {
        /// Everything, now and in later versions.
        All = "*",
        /// Reads records, reports and the feed.
        RecordsRead = "records:read",
        /// Creates, updates and restores records.
        RecordsWrite = "records:write",
        /// Deletes records.
        RecordsDelete = "records:delete",
        /// Imports files.
        Imports = "imports",
        /// Exports, and lists without a `limit`.
        Exports = "exports",
        /// Runs, bulk changes, schedules, suppressions, and decisions about emails.
        Workflows = "workflows",
        /// Reads emails and suppressions.
        EmailsRead = "emails:read",
        /// Reads and changes settings and users.
        Settings = "settings",
        /// Manages webhooks.
        Webhooks = "webhooks",
        /// Manages API keys, and reads the audit log.
        Keys = "keys",
    }
}

/// A set of scopes: those of a key, or those that a request needs.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Scopes(u16);

impl Scopes {
    /// No scope.
    pub const NONE: Self = Self(0);
    /// Everything.
    pub const ALL: Self = Self::of(&[Scope::All]);

    /// The set of these scopes.
    pub const fn of(scopes: &[Scope]) -> Self {
        let (mut set, mut i) = (0, 0);
        while i < scopes.len() {
            set |= 1 << scopes[i] as u16;
            i += 1;
        }
        Self(set)
    }

    /// The scopes in either set.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether the set has no scopes.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The scopes, in the order of their declaration.
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.iter().copied().filter(move |scope| self.has(*scope))
    }

    /// Whether a key with these scopes may do what the scope allows.
    pub const fn allows(self, scope: Scope) -> bool {
        self.has(Scope::All) || self.has(scope)
    }

    /// Which of the needed scopes a key with these scopes lacks.
    #[must_use]
    pub const fn lacks(self, needed: Self) -> Self {
        if self.has(Scope::All) { Self::NONE } else { Self(needed.0 & !self.0) }
    }

    /// Checks that a key with these scopes may do what needs others.
    ///
    /// # Errors
    /// [`Error::Forbidden`] with the scopes that it lacks.
    pub fn must(self, needed: Self) -> Result<(), Error> {
        let lacked = self.lacks(needed);
        if lacked.is_empty() { Ok(()) } else { Err(Error::Forbidden(lacked.iter().map(Scope::as_str).collect())) }
    }

    /// Whether the set has this scope.
    pub const fn has(self, scope: Scope) -> bool {
        self.0 & (1 << scope as u16) != 0
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<T: IntoIterator<Item = Scope>>(scopes: T) -> Self {
        scopes.into_iter().fold(Self::NONE, |set, scope| set.and(Self::of(&[scope])))
    }
}

impl fmt::Debug for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<&str> = self.iter().map(Scope::as_str).collect();
        f.write_str(&words.join(","))
    }
}

impl FromStr for Scopes {
    type Err = String;

    /// Reads scopes that are separated by commas.
    fn from_str(text: &str) -> Result<Self, String> {
        text.split(',').map(|word| Scope::from_text(word.trim()).map_err(|fault| fault.message.into_owned())).collect()
    }
}

/// An array of at least one scope.
impl Field for Scopes {
    const IS_STRING: bool = false;

    fn from_text(text: &str) -> Result<Self, Fault> {
        Self::from_json(Value::String(text.to_owned()))
    }

    fn from_json(value: Value) -> Result<Self, Fault> {
        let Value::Array(words) = value else { return Err(Fault::new("invalid", "must be an array of scopes")) };
        let scopes: Self = words.into_iter().map(Scope::from_json).collect::<Result<_, _>>()?;
        if scopes.is_empty() { Err(Fault::new("required", "must have at least one scope")) } else { Ok(scopes) }
    }
}

impl Scopes {
    /// The schema of the array.
    pub fn shape() -> Array {
        ArrayBuilder::new().items(Scope::shape()).min_items(Some(1)).build()
    }
}

impl Serialize for Scopes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl sqlx::Type<Postgres> for Scopes {
    fn type_info() -> PgTypeInfo {
        <Vec<String> as sqlx::Type<Postgres>>::type_info()
    }

    fn compatible(ty: &PgTypeInfo) -> bool {
        <Vec<String> as sqlx::Type<Postgres>>::compatible(ty)
    }
}

impl Encode<'_, Postgres> for Scopes {
    fn encode_by_ref(&self, buf: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        self.iter().map(Scope::as_str).collect::<Vec<_>>().encode(buf)
    }
}

impl Decode<'_, Postgres> for Scopes {
    /// Leaves out scopes that a later version has: this one cannot know what they allow.
    fn decode(value: PgValueRef<'_>) -> Result<Self, BoxDynError> {
        let words: Vec<String> = Decode::<Postgres>::decode(value)?;
        Ok(words.iter().filter_map(|word| Scope::from_word(word)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_lacks_what_it_has_not() {
        let reads = Scopes::of(&[Scope::RecordsRead, Scope::EmailsRead]);
        assert_eq!(reads.to_string(), "records:read,emails:read");
        assert_eq!("emails:read, records:read".parse(), Ok(reads));
        assert!("emails:read,all".parse::<Scopes>().is_err());
        assert!(reads.allows(Scope::RecordsRead) && !reads.allows(Scope::Exports));
        assert_eq!(reads.lacks(Scopes::of(&[Scope::RecordsRead, Scope::Exports])), Scopes::of(&[Scope::Exports]));
        let every: Scopes = Scope::ALL.iter().copied().filter(|scope| *scope != Scope::All).collect();
        assert!(Scopes::ALL.lacks(every).is_empty());
        assert_eq!(every.lacks(Scopes::ALL), Scopes::ALL, "later versions may have more scopes");
    }
}
