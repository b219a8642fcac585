//! The client's address, for the log.

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, HeaderName};
use shared::platform::config::Network;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The address of the client; an extension of the request.
#[derive(Debug, Clone, Copy)]
pub struct Client(pub IpAddr);

impl Client {
    /// The address of the peer. If the peer is a trusted proxy, the last address in
    /// `X-Forwarded-For` that is not a trusted proxy itself; clients can forge the addresses before
    /// that one.
    #[must_use]
    pub fn of(peer: IpAddr, headers: &HeaderMap, trusted: &[Network]) -> Self {
        let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
        let mut client = peer.to_canonical();
        if !is_trusted(client) {
            return Self(client);
        }
        let values: Vec<&str> = headers.get_all(X_FORWARDED_FOR).iter().filter_map(|it| it.to_str().ok()).collect();
        for forwarded in values.iter().rev().flat_map(|value| value.rsplit(',')) {
            let Some(address) = address(forwarded.trim()) else { break };
            client = address.to_canonical();
            if !is_trusted(client) {
                break;
            }
        }
        Self(client)
    }
}

/// Parses an address with or without a port.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn only_trusted_proxies_can_forward_a_client_address() {
        let trusted = ["10.0.0.0/8", "2001:db8::/32"].map(|text| Network::try_from(text.to_owned()).unwrap());
        for (peer, forwarded, expected) in [
            ("192.0.2.1", &["198.51.100.7"][..], "192.0.2.1"),
            ("::ffff:192.0.2.1", &[], "192.0.2.1"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["198.51.100.7"], "198.51.100.7"),
            ("10.0.0.1", &["203.0.113.9, 198.51.100.7, 10.0.0.2"], "198.51.100.7"),
            ("10.0.0.1", &["203.0.113.9", "198.51.100.7:4711"], "198.51.100.7"),
            ("10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            ("2001:db8::1", &["[2001:db9::1]:443"], "2001:db9::1"),
            ("2001:db8::1", &["[2001:db9::1]"], "2001:db9::1"),
            ("10.0.0.1", &["203.0.113.9, nonsense, 10.0.0.2"], "10.0.0.2"),
            ("10.0.0.1", &["unknown"], "10.0.0.1"),
        ] {
            let mut headers = HeaderMap::new();
            for value in forwarded {
                headers.append(X_FORWARDED_FOR, HeaderValue::from_static(value));
            }
            let client = Client::of(peer.parse().unwrap(), &headers, &trusted);
            assert_eq!(client.0.to_string(), expected, "{peer} {forwarded:?}");
        }
    }
}
