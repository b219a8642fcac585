//! Mails and the server that takes them.

use std::net::IpAddr;
use std::path::PathBuf;

use serde::Deserialize;

use super::Secret;
use crate::values::{Email, Field, domain};

/// Who mails come from, and how they leave.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mail {
    /// The sender's name; empty for none.
    pub from_name: String,
    /// The sender's address.
    pub from_email: String,
    /// The domains that every workspace may send from, beside that of `from_email`; `*` is any.
    pub sender_domains: Vec<String>,
    /// The SMTP server; empty for none.
    pub host: String,
    /// Its port; 0 is the usual one for `tls`.
    pub port: u16,
    /// How the way to it is encrypted.
    pub tls: Tls,
    /// A file of certificates to trust beside the common ones; empty for none.
    pub certificates: PathBuf,
    /// Whom to log in as; empty for nobody.
    pub user: String,
    /// The password for that.
    pub password: Secret,
    /// Connections of one process at most.
    pub connections: usize,
    /// Mails a minute; 0 is no limit.
    pub per_minute: u32,
    /// Mails a minute to one domain of recipients; 0 is no limit.
    pub per_domain_per_minute: u32,
    /// For how long a mail that the server puts off is tried again.
    pub give_up_after_hours: u32,
    /// Without a server: where mails are written as files; empty for nowhere.
    pub directory: PathBuf,
}

impl Mail {
    /// In `sender_domains`: any domain.
    pub const ANY_DOMAIN: &str = "*";

    /// What types cannot say.
    pub(super) fn check(&self) -> Result<(), (&'static str, String)> {
        if let Err(fault) = Email::from_text(&self.from_email) {
            return Err(("mail.from_email", format!("it {}", fault.message)));
        }
        if self.from_name.chars().any(char::is_control) {
            return Err(("mail.from_name", "it must be on one line".into()));
        }
        if let Some(wrong) = self.sender_domains.iter().find(|name| *name != Self::ANY_DOMAIN && domain(name).is_none())
        {
            return Err(("mail.sender_domains", format!("{wrong:?} is neither a domain nor \"*\"")));
        }
        if self.tls == Tls::None && !self.user.is_empty() && !is_here(&self.host) {
            let what = "a password is only sent to another machine when the way there is encrypted";
            return Err(("mail.tls", what.into()));
        }
        Ok(())
    }

    /// The port of the server.
    pub fn port(&self) -> u16 {
        match (self.port, self.tls) {
            (0, Tls::None) => 25,
            (0, Tls::Starttls) => 587,
            (0, Tls::Tls) => 465,
            (port, _) => port,
        }
    }
}

/// How the way to a mail server is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Tls {
    /// Not at all.
    None,
    /// From the command STARTTLS on, before anything is said that matters.
    Starttls,
    /// From the beginning.
    Tls,
}

impl TryFrom<String> for Tls {
    type Error = &'static str;

    fn try_from(word: String) -> Result<Self, Self::Error> {
        match word.as_str() {
            "none" => Ok(Self::None),
            "starttls" => Ok(Self::Starttls),
            "tls" => Ok(Self::Tls),
            _ => Err("it must be none, starttls or tls"),
        }
    }
}

/// Whether a host is this machine.
fn is_here(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}
