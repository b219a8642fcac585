//! Connections to receivers, only to addresses that were checked.
//!
//! A name is resolved once for each connection, and the connection goes to one of these addresses. So a name that has
//! another address a moment later leads nowhere else.

use std::future::Future;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::Uri;
use hyper_util::rt::TokioIo;
use shared::platform::config;
use shared::webhooks::guard;
use tokio::net::TcpStream;
use tower::Service;

/// How long one address may take to connect, so that another one can be tried.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a receiver with a forbidden address fails. It does not say which one, so that nobody learns the names of the
/// operator's network.
const REFUSED: &str = "the receiver has an address that is not allowed";

type Resolving = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

/// Finds the addresses of a name.
pub(super) type Resolve = fn(String, u16) -> Resolving;

/// Asks the system.
pub(super) fn system(host: String, port: u16) -> Resolving {
    Box::pin(async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) })
}

/// Connects to receivers.
#[derive(Clone)]
pub(super) struct Connector {
    settings: Arc<config::Webhooks>,
    resolve: Resolve,
}

impl Connector {
    pub fn new(settings: Arc<config::Webhooks>, resolve: Resolve) -> Self {
        Self { settings, resolve }
    }

    async fn connect(self, uri: Uri) -> io::Result<TokioIo<TcpStream>> {
        let addresses = self.addresses(&uri).await?;
        let mut last = io::Error::new(ErrorKind::NotFound, "the name has no address");
        for address in addresses {
            match tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    stream.set_nodelay(true)?;
                    return Ok(TokioIo::new(stream));
                }
                Ok(Err(error)) => last = error,
                Err(_) => last = io::Error::new(ErrorKind::TimedOut, "the connection timed out"),
            }
        }
        Err(last)
    }

    /// The addresses of a receiver, if all of them are allowed.
    async fn addresses(&self, uri: &Uri) -> io::Result<Vec<SocketAddr>> {
        let is_tls = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        let addresses = match host.parse::<IpAddr>() {
            Ok(address) => vec![SocketAddr::new(address, port)],
            Err(_) => (self.resolve)(host.to_owned(), port)
                .await
                .map_err(|_| io::Error::new(ErrorKind::NotFound, "the name of the receiver cannot be resolved"))?,
        };
        if addresses.iter().all(|address| guard::allows(&self.settings, is_tls, *address)) {
            return Ok(addresses);
        }
        Err(io::Error::new(ErrorKind::PermissionDenied, REFUSED))
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<TcpStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect(uri))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use shared::platform::config::Settings;
    use tokio::net::TcpListener;

    use super::*;

    fn settings(receivers: &str) -> Arc<config::Webhooks> {
        let environment = [
            ("DATABASE_URL", "postgres://localhost/crm"),
            ("CRM_WEBHOOKS__ALLOW_HTTP", "true"),
            ("CRM_WEBHOOKS__INTERNAL_RECEIVERS", receivers),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Arc::new(Settings::from_layers(None, environment).unwrap().webhooks)
    }

    async fn connect(connector: &Connector, url: &str) -> ErrorKind {
        match connector.clone().connect(url.parse().unwrap()).await {
            Ok(_) => panic!("connected to {url}"),
            Err(error) => error.kind(),
        }
    }

    /// Answers with a public address first, and then with one of this machine.
    fn rebinding(_: String, port: u16) -> Resolving {
        static ASKED: AtomicUsize = AtomicUsize::new(0);
        let address: IpAddr = if ASKED.fetch_add(1, Relaxed) == 0 { [192, 0, 2, 1] } else { [127, 0, 0, 1] }.into();
        Box::pin(async move { Ok(vec![SocketAddr::new(address, port)]) })
    }

    /// Answers with a public and a private address.
    fn mixed(_: String, port: u16) -> Resolving {
        let addresses =
            [[93, 184, 216, 34], [127, 0, 0, 1]].map(|address| SocketAddr::new(IpAddr::from(address), port));
        Box::pin(async move { Ok(addresses.to_vec()) })
    }

    #[tokio::test]
    async fn nothing_connects_to_an_address_that_is_not_public() {
        // Whoever connects is seen here: the port is allowed, but only at another address.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let settings = settings(&format!("192.0.2.1:{port}"));
        let connector = Connector::new(settings.clone(), system);
        for host in [
            "127.0.0.1",
            "127.0.0.2",
            "127.1.2.3",
            "localhost",
            "localhost.",
            "0.0.0.0",
            "[::1]",
            "[::]",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "[::127.0.0.1]",
            "[64:ff9b::127.0.0.1]",
            "[2002:7f00:1::]",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "169.254.169.254",
            "[fe80::1]",
            "[fd00:ec2::254]",
        ] {
            for scheme in ["http", "https"] {
                let kind = connect(&connector, &format!("{scheme}://{host}:{port}/")).await;
                assert!(kind == ErrorKind::PermissionDenied || host == "localhost.", "{scheme} {host}: {kind}");
            }
        }
        for resolve in [mixed as Resolve, rebinding] {
            let connector = Connector::new(settings.clone(), resolve);
            for _ in 0..2 {
                let url = format!("http://rebinding.example:{port}/");
                let connected = connector.addresses(&url.parse().unwrap()).await;
                assert!(connected.is_err() || connected.unwrap()[0].ip() == IpAddr::from([192, 0, 2, 1]));
            }
            assert_eq!(
                connect(&connector, &format!("http://rebinding.example:{port}/")).await,
                ErrorKind::PermissionDenied
            );
        }
        let seen = tokio::time::timeout(Duration::from_millis(100), listener.accept()).await;
        assert!(seen.is_err(), "somebody connected");
    }
}
