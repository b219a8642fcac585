//! The client's address, for the log and for limits.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use axum::http::HeaderMap;
use axum::http::header::{FORWARDED, HeaderName};
use shared::platform::config::Network;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The address of the client; an extension of the request.
#[derive(Debug, Clone, Copy)]
pub struct Client(pub IpAddr);

impl Client {
    /// The address of the peer. If the peer is a trusted proxy, the last address in
    /// `X-Forwarded-For`, or else in `Forwarded`, that is not a trusted proxy itself; clients can forge
    /// the addresses before that one.
    #[must_use]
    pub fn of(peer: IpAddr, headers: &HeaderMap, trusted: &[Network]) -> Self {
        let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
        let mut client = peer.to_canonical();
        if !is_trusted(client) {
            return Self(client);
        }
        for forwarded in forwarded(headers).into_iter().rev() {
            let Some(address) = forwarded.and_then(address) else { break };
            client = address.to_canonical();
            if !is_trusted(client) {
                break;
            }
        }
        Self(client)
    }
}

/// The addresses that proxies have added, as they are written; `None` for an element without one.
fn forwarded(headers: &HeaderMap) -> Vec<Option<&str>> {
    let elements = |name| {
        let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).map(str::trim)
    };
    if headers.contains_key(X_FORWARDED_FOR) {
        return elements(X_FORWARDED_FOR).map(Some).collect();
    }
    elements(FORWARDED).map(|element| element.split(';').find_map(forwarded_for)).collect()
}

/// The value of the parameter `for`, such as `for="[2001:db8::1]:443"`.
fn forwarded_for(parameter: &str) -> Option<&str> {
    let (name, value) = parameter.split_once('=')?;
    name.trim().eq_ignore_ascii_case("for").then(|| value.trim().trim_matches('"'))
}

/// The address to count by: IPv6 customers have at least a /64 network, which counts as one.
pub(crate) fn counted(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        address => address,
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

    #[test]
    fn proxies_can_forward_an_address_in_either_header() {
        let trusted = ["10.0.0.0/8".to_owned()].map(|text| Network::try_from(text).unwrap());
        for (forwarded, x_forwarded_for, expected) in [
            ("for=198.51.100.7", None, "198.51.100.7"),
            ("For=\"[2001:db8::1]:443\";proto=https, for=10.0.0.2;by=10.0.0.1", None, "2001:db8::1"),
            ("for=203.0.113.9, for=198.51.100.7", None, "198.51.100.7"),
            ("for=203.0.113.9, for=_hidden", None, "10.0.0.1"),
            ("for=203.0.113.9, proto=http", None, "10.0.0.1"),
            ("for=203.0.113.9", Some("198.51.100.7"), "198.51.100.7"),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(FORWARDED, HeaderValue::from_static(forwarded));
            if let Some(value) = x_forwarded_for {
                headers.insert(X_FORWARDED_FOR, HeaderValue::from_static(value));
            }
            let client = Client::of("10.0.0.1".parse().unwrap(), &headers, &trusted);
            assert_eq!(client.0.to_string(), expected, "{forwarded}");
            let direct = Client::of("192.0.2.1".parse().unwrap(), &headers, &trusted);
            assert_eq!(direct.0.to_string(), "192.0.2.1");
        }
    }
}
