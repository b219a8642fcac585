//! Settings that hold addresses, networks and origins.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use serde::Deserialize;

/// An address and a port to listen on, or the program's default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Address(Option<SocketAddr>);

impl Address {
    /// The address, if one is set.
    #[must_use]
    pub fn get(self) -> Option<SocketAddr> {
        self.0
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self(Some(address))
    }
}

impl TryFrom<String> for Address {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        let address = text.parse().map_err(|_| "it must be an address and a port such as 127.0.0.1:9463")?;
        Ok(Self(Some(address)))
    }
}

/// A network, or a single address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Network(IpNet);

impl Network {
    /// Whether an address is in the network. IPv4-mapped IPv6 addresses count as IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }
}

impl TryFrom<String> for Network {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        network.map(Self).map_err(|_| "it must be addresses or networks such as 10.0.0.0/8")
    }
}

/// The addresses and the port of receivers of webhooks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Receiver {
    network: Network,
    port: u16,
}

impl Receiver {
    /// Whether it has this port.
    #[must_use]
    pub fn has_port(&self, port: u16) -> bool {
        self.port == port
    }

    /// Whether the address and port belong to it.
    #[must_use]
    pub fn contains(&self, address: SocketAddr) -> bool {
        self.has_port(address.port()) && self.network.contains(address.ip())
    }
}

impl TryFrom<String> for Receiver {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let invalid = "it must be networks or addresses with a port, such as 10.0.0.0/8:8443";
        let (network, port) = text.rsplit_once(':').ok_or(invalid)?;
        let network = network.trim_start_matches('[').replace(']', "");
        let network = Network::try_from(network).map_err(|_| invalid)?;
        let port = port.parse().ok().filter(|port| *port > 0).ok_or(invalid)?;
        Ok(Self { network, port })
    }
}

/// The origin of web pages, as browsers send it, or `*` for any.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Origin(String);

impl Origin {
    /// Whether this is the origin in a header.
    #[must_use]
    pub fn allows(&self, origin: &[u8]) -> bool {
        self.0 == "*" || self.0.as_bytes() == origin
    }
}

impl TryFrom<String> for Origin {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let origin = text.to_ascii_lowercase();
        let host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
        let is_host = |host: &str| {
            !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_graphic() && !b"/?#@*".contains(&byte))
        };
        if origin == "*" || host.is_some_and(is_host) {
            Ok(Self(origin))
        } else {
            Err("it must be origins such as https://app.example.com, or *")
        }
    }
}
