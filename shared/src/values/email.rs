//! Email addresses, and the one place that says how they are compared.

use std::borrow::Cow;

use icu_casemap::CaseMapper;
use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization;

use super::{Fault, Field, check_text};
use crate::values::cell::{Cell, Cells};

/// An email address: `local@domain`, at most 254 characters.
///
/// The check is the one mail servers can live with, not all of RFC 5321's grammar: one `@`, no
/// spaces or quoting, dots only between other characters, and a domain of labels that are letters,
/// digits and inner hyphens. One dot may follow the domain. Characters outside ASCII are taken
/// (RFC 6531).
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

/// The normal form of an address: two addresses are the same if their normal forms are.
///
/// The local part is folded without expansions (`ſ` is `s`, but `ß` is not `ss`), and its accents
/// are composed. The domain has the form of [`ascii_domain`]. Text that is no address has a normal
/// form, too, so that a filter may ask for it.
///
/// Tables store it. When this function changes, a migration must rewrite their columns.
pub fn email_key(email: &str) -> String {
    if email.is_ascii() {
        // An ASCII domain's labels are in punycode already.
        let email = match email.contains('@') {
            true => email.strip_suffix('.').unwrap_or(email),
            false => email,
        };
        return email.to_ascii_lowercase();
    }
    match email.rsplit_once('@') {
        Some((local, domain)) => format!("{}@{}", folded(local), ascii_domain(domain)),
        None => folded(email),
    }
}

/// The domain in an address's normal form.
pub(crate) fn key_domain(email_key: &str) -> &str {
    email_key.rsplit_once('@').map_or(email_key, |(_, domain)| domain)
}

/// Text in NFC, with simple case folding.
fn folded(text: &str) -> String {
    const CASES: icu_casemap::CaseMapperBorrowed<'_> = CaseMapper::new();
    text.nfc().map(|c| CASES.simple_fold(c)).nfc().collect()
}

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

/// A domain as servers compare it: its labels in punycode (UTS 46, non-transitional), in lower case,
/// without a dot at its end. What is no valid IDN stays as it is, in lower case.
pub fn ascii_domain(domain: &str) -> String {
    let ascii = idna::domain_to_ascii(domain).unwrap_or_else(|_| domain.to_lowercase());
    match ascii.strip_suffix('.') {
        Some(ascii) => ascii.to_owned(),
        None => ascii,
    }
}

/// An address as mail servers take it: with its domain in punycode if it has other characters, and
/// without a dot at its end.
pub fn deliverable(email: &str) -> Cow<'_, str> {
    match email.rsplit_once('@') {
        Some((local, domain)) if !domain.is_ascii() || domain.ends_with('.') => {
            format!("{local}@{}", ascii_domain(domain)).into()
        }
        _ => email.into(),
    }
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
    let domain = domain.strip_suffix('.').unwrap_or(domain);
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
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn addresses_with_one_normal_form_are_the_same() {
        for (one, other) in [
            ("Ada.B@Example.COM", "ada.b@example.com"),
            ("USER@EXAMPLE.COM.", "user@example.com"),
            ("\u{17f}am@example.com", "Sam@example.com"),
            ("Jose\u{301}@example.com", "jos\u{e9}@example.com"),
            ("JOS\u{c9}@example.com", "jose\u{301}@example.com"),
            ("\u{1e9e}@example.com", "\u{df}@example.com"),
            ("\u{39f}\u{394}\u{39f}\u{3a3}@example.com", "\u{3bf}\u{3b4}\u{3bf}\u{3c2}@example.com"),
            ("\u{212a}im@example.com", "kim@example.com"),
            ("a@m\u{fc}nchen.de", "A@XN--MNCHEN-3YA.de."),
            ("a@m\u{fc}nchen.de", "a@Mu\u{308}nchen.DE"),
            ("a@example\u{3002}com\u{3002}", "a@example.com"),
            ("a@FA\u{df}.de", "a@fa\u{df}.de"),
            ("a@xn--fa-hia.de", "a@fa\u{df}.de"),
        ] {
            assert_eq!(email_key(one), email_key(other), "{one} {other}");
        }
    }

    #[test]
    fn addresses_with_two_normal_forms_are_not_the_same() {
        for (one, other) in [
            ("stra\u{df}e@example.com", "strasse@example.com"),
            ("\u{130}@example.com", "i\u{307}@example.com"),
            ("\u{130}@example.com", "i@example.com"),
            ("\u{131}@example.com", "i@example.com"),
            ("\u{fb01}@example.com", "fi@example.com"),
            ("\u{ff41}@example.com", "a@example.com"),
            ("jos\u{e9}@example.com", "jose@example.com"),
            ("a@fa\u{df}.de", "a@fass.de"),
            ("a.@example.com", "a@example.com"),
            ("a@example.com..", "a@example.com"),
        ] {
            assert_ne!(email_key(one), email_key(other), "{one} {other}");
        }
    }

    #[test]
    fn normal_forms_are_as_documented() {
        for (email, key) in [
            ("Ada.B@Example.COM", "ada.b@example.com"),
            ("Stra\u{df}e@FA\u{df}.de", "stra\u{df}e@xn--fa-hia.de"),
            // No valid IDN, so only in lower case.
            ("a@XN--A.de", "a@xn--a.de"),
            ("\u{e4}@XN--A.de", "\u{e4}@xn--a.de"),
            ("a@\u{301}B.de.", "a@\u{301}b.de"),
            // No addresses.
            ("Nobody.", "nobody."),
            ("N\u{c4}MAND", "n\u{e4}mand"),
        ] {
            assert_eq!(email_key(email), key);
        }
        assert_eq!(key_domain("a@xn--fa-hia.de"), "xn--fa-hia.de");
    }

    #[test]
    fn one_dot_may_follow_the_domain() {
        assert!(Email::from_text("USER@EXAMPLE.COM.").is_ok());
        for email in ["a@example.com..", "a@example", "a@example.", "a@.", "a.@example.com"] {
            assert!(Email::from_text(email).is_err(), "{email}");
        }
        assert_eq!(deliverable("Ann@Example.COM."), "Ann@example.com");
        assert_eq!(deliverable("ann@B\u{fc}cher.example"), "ann@xn--bcher-kva.example");
        assert_eq!(deliverable("Ann@Example.COM"), "Ann@Example.COM");
    }

    proptest! {
        #[test]
        fn a_normal_form_is_its_own(email in "[\\p{L}\\p{M}\\p{N}]{1,20}@[\\p{L}\\p{M}\\p{N}]{1,10}\\.com\\.?") {
            let key = email_key(&email);
            prop_assert_eq!(email_key(&key), key);
        }

        #[test]
        fn composed_and_decomposed_addresses_are_the_same(local in "\\PC{1,20}") {
            let composed: String = format!("{local}@example.com").nfc().collect();
            let decomposed: String = format!("{local}@example.com").nfd().collect();
            prop_assert_eq!(email_key(&composed), email_key(&decomposed));
        }

        #[test]
        fn a_domain_in_ascii_only_loses_its_case(domain in "[a-zA-Z0-9.-]{0,20}|xn--[a-zA-Z0-9.-]{0,20}") {
            let lower = domain.to_lowercase();
            prop_assert_eq!(ascii_domain(&domain), lower.strip_suffix('.').unwrap_or(&lower));
        }
    }
}
