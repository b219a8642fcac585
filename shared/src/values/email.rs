//! Email addresses, and the one place that says how they are compared.

use serde::{Deserialize, Serialize};

use super::{Fault, Field, check_text};
use crate::values::cell::{Cell, Cells};

/// An email address: `local@domain`, at most 254 characters.
///
/// The check is the one mail servers can live with, not all of RFC 5321's grammar: one `@`, no
/// spaces or quoting, dots only between other characters, and a domain of labels that are letters,
/// digits and inner hyphens. Characters outside ASCII are taken (RFC 6531).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, sqlx::Type)]
#[serde(transparent)]
#[sqlx(transparent)]
pub struct Email(String);

impl Email {
    /// The form in which two addresses are compared: see [`email_key`].
    pub fn key(&self) -> String {
        email_key(&self.0)
    }
}

/// The form in which two addresses are compared: ASCII letters in lower case. Text that is no address has one,
/// too, so that a filter may ask for it.
pub(crate) fn email_key(email: &str) -> String {
    email.to_ascii_lowercase()
}

/// The same in SQL, of the column with this name. The unique indexes are on this expression.
macro_rules! sql_email_key {
    ($column:literal) => {
        concat!("lower(", $column, " COLLATE \"C\")")
    };
}

pub(crate) use sql_email_key as email_key;

impl AsRef<str> for Email {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Field for Email {
    fn from_text(text: &str) -> Result<Self, Fault> {
        check_text(text, 254, |_| false)?;
        let valid = text
            .split_once('@')
            .is_some_and(|(local, domain)| local.len() <= 64 && is_dotted(local, is_local) && is_domain(domain));
        if !valid {
            return Err(Fault::new("invalid", "must be an email address such as name@example.com"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl Cell for Email {
    fn write(&self, cells: &mut impl Cells) {
        cells.text(&self.0);
    }
}

/// A domain as servers compare it: its labels in punycode (UTS 46), in lower case, without a dot at its end.
/// What is no valid IDN stays as it is, in lower case.
pub fn ascii_domain(domain: &str) -> String {
    let domain = domain.strip_suffix('.').unwrap_or(domain);
    idna::domain_to_ascii(domain).unwrap_or_else(|_| domain.to_lowercase())
}

/// A domain of email addresses in the form of [`ascii_domain`]; `None` if it is none.
pub fn domain(text: &str) -> Option<String> {
    let domain = ascii_domain(text.trim());
    Email::from_text(&format!("a@{domain}")).is_ok().then_some(domain)
}

fn is_dotted(text: &str, allowed: impl Fn(char) -> bool) -> bool {
    text.split('.').all(|part| !part.is_empty() && part.chars().all(&allowed))
}

fn is_local(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+/=?^_`{|}~-".contains(c) || is_international(c)
}

fn is_domain(domain: &str) -> bool {
    let label = |c: char| c.is_ascii_alphanumeric() || c == '-' || is_international(c);
    domain.len() <= 253
        && domain.contains('.')
        && is_dotted(domain, label)
        && domain.split('.').all(|part| part.len() <= 63 && !part.starts_with('-') && !part.ends_with('-'))
}

/// Letters, digits and marks of other scripts; not their spaces and look-alikes of punctuation.
fn is_international(c: char) -> bool {
    !c.is_ascii()
        && !c.is_whitespace()
        && !c.is_control()
        && !matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202f}' | '\u{2060}'..='\u{2069}' | '\u{feff}' | '\u{ff0e}' | '\u{ff20}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_compared_by_ascii_letters_in_lower_case() {
        assert_eq!(Email::from_text("Ada.B@Example.COM").unwrap().key(), "ada.b@example.com");
        assert_eq!(email_key("\u{c4}da@B\u{dc}cher.example"), "\u{c4}da@b\u{dc}cher.example");
        assert_eq!(email_key!("users.email"), "lower(users.email COLLATE \"C\")");
    }
}
