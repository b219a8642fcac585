//! Settings of email and the mail server.

use std::net::IpAddr;
use std::path::PathBuf;

use serde::Deserialize;

use super::Secret;
use crate::values::{Email, Field, domain};

/// The sender of emails, and how they are sent.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mail {
    /// The sender's name; may be empty.
    pub from_name: String,
    /// The sender's address.
    pub from_email: String,
    /// The domains that every workspace may send from, besides that of `from_email`; `*` means any.
    pub sender_domains: Vec<String>,
    /// The SMTP server; empty means no server.
    pub host: String,
    /// The port of the SMTP server; 0 means the default port for `tls`.
    pub port: u16,
    /// How connections to the SMTP server are encrypted.
    pub tls: Tls,
    /// A file of certificates to trust in addition to the system's; empty means none.
    pub certificates: PathBuf,
    /// The user to log in as; empty means no login.
    pub user: String,
    /// The password of `user`.
    pub password: Secret,
    /// The most SMTP connections of one process.
    pub connections: usize,
    /// The most emails per minute; 0 means no limit.
    pub per_minute: u32,
    /// The most emails per minute to one recipient domain; 0 means no limit.
    pub per_domain_per_minute: u32,
    /// How long an email is retried that the server rejects temporarily.
    pub give_up_after_hours: u32,
    /// The directory that emails are written to when no server is set; empty means nowhere.
    pub directory: PathBuf,
}

impl Mail {
    /// The entry of `sender_domains` that allows any domain.
    pub const ANY_DOMAIN: &str = "*";

    /// Checks what the types cannot express.
    pub(super) fn check(&self) -> Vec<(&'static str, String)> {
        let mut faults = Vec::new();
        if let Err(fault) = Email::from_text(&self.from_email) {
            faults.push(("mail.from_email", format!("it {}", fault.message)));
        }
        if self.from_name.chars().any(char::is_control) {
            faults.push(("mail.from_name", "it must be on one line".into()));
        }
        if let Some(wrong) = self.sender_domains.iter().find(|name| *name != Self::ANY_DOMAIN && domain(name).is_none())
        {
            faults.push(("mail.sender_domains", format!("{wrong:?} is neither a domain nor \"*\"")));
        }
        if self.tls == Tls::None && !self.user.is_empty() && !is_this_machine(&self.host) {
            let what = "it must be starttls or tls: passwords are not sent to another machine unencrypted";
            faults.push(("mail.tls", what.into()));
        }
        faults
    }

    /// The port of the SMTP server, with the default resolved.
    pub fn port(&self) -> u16 {
        match (self.port, self.tls) {
            (0, Tls::None) => 25,
            (0, Tls::Starttls) => 587,
            (0, Tls::Tls) => 465,
            (port, _) => port,
        }
    }
}

/// How connections to a mail server are encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Tls {
    /// Plain text.
    None,
    /// Encrypted by the STARTTLS command, before the login and any email.
    Starttls,
    /// Encrypted from the start.
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

pub(super) fn is_this_machine(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}
