//! Binding ports that another process may still hold.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::time::sleep;

/// How often a port that is taken is retried.
const RETRY_EVERY: Duration = Duration::from_millis(500);
/// How often the log repeats that an admin port is taken.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// Binds an address. Retries a taken port for the given time: the process that holds it may be about to
/// end.
///
/// # Errors
/// If the port is still taken then, and at once for an address that cannot be bound at all.
pub async fn within(patience: Duration, address: SocketAddr) -> io::Result<TcpListener> {
    let started = Instant::now();
    let mut warned = false;
    loop {
        match TcpListener::bind(address).await {
            Err(error) if error.kind() == ErrorKind::AddrInUse && started.elapsed() < patience => {
                if !std::mem::replace(&mut warned, true) {
                    tracing::warn!(%address, patience_s = patience.as_secs(), "the port is taken; retrying");
                }
                sleep(RETRY_EVERY.min(patience.saturating_sub(started.elapsed()))).await;
            }
            bound => return bound,
        }
    }
}

/// The port of a process's admin listener.
#[derive(Debug)]
pub enum AdminPort {
    /// An address to bind as soon as it is free.
    At(SocketAddr),
    /// A listener that is already bound.
    Bound(TcpListener),
}

impl AdminPort {
    /// Binds the port, however long that takes: a taken admin port must not stop a process from serving
    /// its users.
    pub async fn listener(self) -> TcpListener {
        let address = match self {
            Self::Bound(listener) => return listener,
            Self::At(address) => address,
        };
        let mut warned: Option<Instant> = None;
        loop {
            match TcpListener::bind(address).await {
                Ok(listener) => return listener,
                Err(error) => {
                    if warned.is_none_or(|at| at.elapsed() >= WARN_EVERY) {
                        tracing::warn!(%address, %error, "the admin port cannot be bound; retrying");
                        warned = Some(Instant::now());
                    }
                    sleep(RETRY_EVERY).await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn taken() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    #[tokio::test]
    async fn a_port_is_bound_once_its_holder_has_ended() {
        let (holder, address) = taken().await;
        let bound = tokio::spawn(within(Duration::from_secs(60), address));
        let admin = tokio::spawn(AdminPort::At(address).listener());
        tokio::task::yield_now().await;
        drop(holder);
        let bound = tokio::select! {
            bound = bound => bound.unwrap().unwrap(),
            admin = admin => admin.unwrap(),
        };
        assert_eq!(bound.local_addr().unwrap(), address);
    }

    #[tokio::test]
    async fn a_port_that_stays_taken_is_an_error() {
        let (_holder, address) = taken().await;
        let error = within(Duration::from_millis(20), address).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
    }

    #[tokio::test]
    async fn an_address_of_another_machine_is_an_error_at_once() {
        let started = Instant::now();
        let error = within(Duration::from_secs(60), "192.0.2.1:1".parse().unwrap()).await.unwrap_err();
        assert_ne!(error.kind(), ErrorKind::AddrInUse);
        assert!(started.elapsed() < Duration::from_secs(30));
    }
}
