//! Settings that are valid, and probably not what an installation wants.

use std::net::IpAddr;

use serde::Serialize;
use url::{Host, Url};

use super::mail::is_this_machine;
use super::{Mail, Settings, Tls};

/// A setting that is probably not wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// The setting.
    #[serde(rename = "setting")]
    pub name: &'static str,
    /// What it causes, and what to do: two sentences.
    pub message: String,
}

impl Settings {
    /// What does not prevent the start, but is probably not wanted.
    #[must_use]
    pub fn warnings(&self) -> Vec<Warning> {
        let mut warnings = Vec::new();
        let mut warn = |applies: bool, name, message: &str| {
            if applies {
                warnings.push(Warning { name, message: message.to_owned() });
            }
        };
        let url = Url::parse(&self.public_url).ok();
        let is_local = url.as_ref().and_then(Url::host).is_some_and(|host| is_loopback(&host));
        let is_https = self.public_url.starts_with("https://");
        warn(
            is_local,
            "public_url",
            "Links in emails work on this machine only. Set it to the address of the API on the internet.",
        );
        warn(
            !is_local && !is_https,
            "public_url",
            "Links in emails and the console are not encrypted. Put TLS in front of the API, and set it to an \
             https:// address.",
        );
        warn(
            is_https && self.api.trusted_proxies.is_empty(),
            "api.trusted_proxies",
            "All clients count as one address, that of the proxy which serves https. Set it to the proxy's address.",
        );
        warn(
            database_may_be_plain(&self.database.url),
            "database.url",
            "The connection to the database may be unencrypted. Add ?sslmode=verify-full, or ?sslmode=disable if the \
             network is private.",
        );
        warn(
            self.webhooks.key().is_none(),
            "webhooks.encryption_key",
            "Secrets of webhooks are stored readable. Set it to the output of `openssl rand -base64 32`.",
        );
        warn(
            self.webhooks.allow_http,
            "webhooks.allow_http",
            "Webhooks may be sent unencrypted. Set it to false unless all receivers are in your own network.",
        );
        self.mail.warn(&mut warn);
        warnings
    }
}

impl Mail {
    fn warn(&self, warn: &mut impl FnMut(bool, &'static str, &str)) {
        let has_server = !self.host.is_empty();
        let directory = self.directory.display();
        warn(
            !has_server && self.directory.as_os_str().is_empty(),
            "mail.host",
            "No email is sent: all emails stay queued. Set it to your SMTP server.",
        );
        warn(
            !has_server && !self.directory.as_os_str().is_empty(),
            "mail.host",
            &format!("No email is sent: all emails are written to {directory}. Set it to your SMTP server."),
        );
        warn(
            has_server && self.tls == Tls::None && !is_this_machine(&self.host),
            "mail.tls",
            "Emails cross the network unencrypted. Set it to starttls or tls.",
        );
        warn(
            has_server && self.from_email.ends_with("@example.com"),
            "mail.from_email",
            "Emails have an example as their sender. Set it to an address of yours.",
        );
        warn(
            self.sender_domains.iter().any(|domain| domain == Self::ANY_DOMAIN),
            "mail.sender_domains",
            "Every workspace may send from any domain. List the domains that belong to you.",
        );
    }
}

fn is_loopback(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => *name == "localhost" || name.ends_with(".localhost"),
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
    }
}

/// Whether the server is on another machine, and nothing says how to encrypt the connection: the default
/// encrypts it only if the server offers that.
fn database_may_be_plain(url: &str) -> bool {
    let Ok(url) = Url::parse(url) else { return false };
    let is_elsewhere = url.host_str().is_some_and(|host| {
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        !host.is_empty()
            && host != "localhost"
            && !host.starts_with('/')
            && !host.starts_with("%2F")
            && !address.is_ok_and(|address| address.is_loopback())
    });
    is_elsewhere && url.query_pairs().all(|(name, _)| name != "sslmode" && name != "ssl-mode" && name != "host")
}
