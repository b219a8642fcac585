//! The URLs of receivers.

use std::net::{IpAddr, SocketAddr};

use url::{Host, Url};

use super::guard;
use crate::platform::config::Webhooks;
use crate::values::{Fault, Field};

/// The longest URL.
pub const MAX_URL: usize = 2_000;

/// Parses the URL of a receiver, and returns it in its normal form.
///
/// # Errors
/// A [`Fault`] if the URL, or the address in it, is not allowed. Names are resolved when webhooks are sent.
pub fn parse(text: &str, settings: &Webhooks) -> Result<String, Fault> {
    let text = String::from_text(text)?;
    if text.len() > MAX_URL {
        return Err(Fault::new("too_long", format!("must have at most {MAX_URL} characters")));
    }
    let url =
        Url::parse(&text).map_err(|_| Fault::new("invalid", "must be a URL such as https://example.com/hooks"))?;
    let is_tls = match url.scheme() {
        "https" => true,
        "http" if settings.allow_http => false,
        _ => return Err(Fault::new("scheme", "must begin with https://")),
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Fault::new("credentials", "must not contain a user or a password; use `headers`"));
    }
    if url.fragment().is_some() {
        return Err(Fault::new("invalid", "must not contain a fragment"));
    }
    let port = url.port_or_known_default().unwrap_or_default();
    if !guard::allows_port(settings, is_tls, port) {
        return Err(Fault::new("port", format!("must have the port {}", if is_tls { 443 } else { 80 })));
    }
    let address: Option<IpAddr> = match url.host() {
        Some(Host::Ipv4(address)) => Some(address.into()),
        Some(Host::Ipv6(address)) => Some(address.into()),
        Some(Host::Domain(_)) => None,
        None => return Err(Fault::new("invalid", "must contain a host")),
    };
    if address.is_some_and(|address| !guard::allows(settings, is_tls, SocketAddr::new(address, port))) {
        return Err(Fault::new("address", "must not be an address that is not public"));
    }
    let url = String::from(url);
    if url.len() > MAX_URL {
        return Err(Fault::new("too_long", format!("must have at most {MAX_URL} characters")));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::config::Settings;

    fn settings(more: &[(&str, &str)]) -> Webhooks {
        let environment = [("DATABASE_URL", "postgres://localhost/crm")];
        let environment = environment.iter().chain(more).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Settings::from_layers(None, environment).unwrap().webhooks
    }

    #[test]
    fn a_receiver_has_a_public_https_url_without_credentials() {
        let settings = settings(&[]);
        let code = |text: &str| parse(text, &settings).map_err(|fault| fault.code);
        assert_eq!(code("https://Example.com/hooks?a=b"), Ok("https://example.com/hooks?a=b".to_owned()));
        assert_eq!(code("https://münchen.example"), Ok("https://xn--mnchen-3ya.example/".to_owned()));
        for (text, wanted) in [
            ("example.com", "invalid"),
            ("http://example.com", "scheme"),
            ("ftp://example.com", "scheme"),
            ("file:///etc/passwd", "scheme"),
            ("https://user@example.com", "credentials"),
            ("https://user:pass@example.com", "credentials"),
            ("https://example.com/#a", "invalid"),
            ("https://example.com:8443", "port"),
            ("https://example.com:80", "port"),
            ("https://127.0.0.1", "address"),
            ("https://2130706433/", "address"),
            ("https://0x7f.1/", "address"),
            ("https://0177.0.0.1/", "address"),
            ("https://127.1", "address"),
            ("https://[::1]/", "address"),
            ("https://[::ffff:10.0.0.1]/", "address"),
            ("https://[64:ff9b::a00:1]/", "address"),
            ("https://[2002:a00:1::]/", "address"),
            ("https://169.254.169.254/latest/meta-data", "address"),
        ] {
            assert_eq!(code(text), Err(wanted), "{text}");
        }
    }

    #[test]
    fn an_operator_allows_http_and_internal_receivers() {
        let settings =
            settings(&[("CRM_WEBHOOKS__ALLOW_HTTP", "true"), ("CRM_WEBHOOKS__INTERNAL_RECEIVERS", "10.0.0.0/8:8080")]);
        for allowed in ["http://example.com", "http://10.1.2.3:8080/", "https://10.1.2.3:8080/", "http://hooks:8080/"] {
            assert!(parse(allowed, &settings).is_ok(), "{allowed}");
        }
        for refused in ["http://10.1.2.3/", "http://11.0.0.1:8080/", "http://127.0.0.1:8080/", "http://hooks:8081/"] {
            assert!(parse(refused, &settings).is_err(), "{refused}");
        }
    }
}
