//! Reading a program's listening address from its log.
//!
//! The system chooses a free port when the program binds it. A port chosen earlier might be taken by then.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// Settings that let the system choose the ports of a program, and limit no requests.
pub const ANY_PORT: [(&str, &str); 6] = [
    ("CRM_API__LISTEN", "127.0.0.1:0"),
    ("CRM_ADMIN__LISTEN", "127.0.0.1:0"),
    ("CRM_WORKER__LISTEN", "127.0.0.1:0"),
    ("CRM_API__RATE_LIMIT_PER_MINUTE", "0"),
    ("CRM_API__REJECTED_KEYS_PER_MINUTE", "0"),
    ("CRM_API__OPEN_REQUESTS_PER_SECOND", "0"),
];
/// A quiet log level that still includes the listening addresses.
pub const QUIET: &str = "warn,api::http::server=info,api::http::admin=info,worker::http=info";
/// Generous, since many programs may start at once on few cores.
const START_LIMIT: Duration = Duration::from_secs(60);

/// A port of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// The API.
    Public,
    /// Metrics and readiness.
    Admin,
}

/// The addresses of a program, which are known as soon as they appear in its log.
#[derive(Debug, Clone, Default)]
pub struct Serving {
    public: Arc<watch::Sender<Option<SocketAddr>>>,
    admin: Arc<watch::Sender<Option<SocketAddr>>>,
}

impl Serving {
    /// Reads a line of the log.
    pub fn note(&self, line: &str) {
        if let Some((port, address)) = address_in(line) {
            self.sender(port).send_replace(Some(address));
        }
    }

    /// Waits for an address.
    ///
    /// # Errors
    /// If the address does not appear in the log in time.
    pub async fn address(&self, port: Port) -> Result<SocketAddr> {
        let mut known = self.sender(port).subscribe();
        let found = timeout(START_LIMIT, known.wait_for(Option::is_some)).await;
        let found = found.with_context(|| format!("the program has not logged its {port:?} port"))?;
        (*found?).context("no address")
    }

    fn sender(&self, port: Port) -> &watch::Sender<Option<SocketAddr>> {
        match port {
            Port::Public => &self.public,
            Port::Admin => &self.admin,
        }
    }
}

/// Waits until the address of a port appears in a log file.
///
/// # Errors
/// If the address does not appear in time, or the file cannot be read.
pub async fn address_in_log(log: &Path, port: Port) -> Result<SocketAddr> {
    let found = async {
        loop {
            let text = tokio::fs::read_to_string(log).await?;
            let found = text.lines().filter_map(address_in).find(|(found, _)| *found == port);
            if let Some((_, address)) = found {
                return Ok(address);
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    let found: Result<SocketAddr> = timeout(START_LIMIT, found)
        .await
        .with_context(|| format!("the program has not logged its {port:?} port: see {}", log.display()))?;
    found
}

fn address_in(line: &str) -> Option<(Port, SocketAddr)> {
    let port = match () {
        () if line.contains("serving metrics and readiness") => Port::Admin,
        () if line.contains("serving") => Port::Public,
        () => return None,
    };
    // Text logs contain `address=127.0.0.1:1`, JSON logs `"address":"127.0.0.1:1"`.
    let rest = line.split_once("address=").or_else(|| line.split_once("\"address\":\""))?.1;
    let end = rest.find(|c: char| c.is_whitespace() || c == '"').unwrap_or(rest.len());
    Some((port, rest[..end].parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_found_in_both_log_formats() {
        let address: SocketAddr = "127.0.0.1:4711".parse().unwrap();
        for (line, port) in [
            ("2026-01-01T00:00:00Z  INFO api::http::server: serving address=127.0.0.1:4711", Port::Public),
            (r#"{"level":"INFO","message":"serving","address":"127.0.0.1:4711"}"#, Port::Public),
            ("INFO worker::http: serving metrics and readiness address=127.0.0.1:4711", Port::Admin),
        ] {
            assert_eq!(address_in(line), Some((port, address)), "{line}");
        }
        assert_eq!(address_in("WARN the port is taken; retrying address=127.0.0.1:1"), None);
    }
}
