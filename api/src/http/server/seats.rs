//! Limits the number of connections, in total and per address.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use shared::platform::config::{Network, Settings};
use tokio_util::sync::CancellationToken;

use crate::http::metrics::{HttpMetrics, Rejection};
use crate::http::peer::counted;

/// Descriptors reserved for everything but connections with a seat.
const RESERVE: u64 = 128;
/// Descriptors reserved besides those of [`SPARE`] and of the database.
const OTHERS: u64 = 32;
/// Connections without a seat that are served at once, so that health checks still work.
const SPARE: usize = 64;
/// How often the warning about too many connections is repeated.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// The connections that the process may serve at once.
#[derive(Debug)]
pub(super) struct Seats {
    most: usize,
    most_per_address: usize,
    trusted: Vec<Network>,
    taken: Mutex<Taken>,
    metrics: Arc<HttpMetrics>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
    spare: VecDeque<CancellationToken>,
    warned: Option<Instant>,
}

/// The seat of one connection, released when dropped.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Arc<Seats>,
    /// The address that the seat counts for; `None` for a trusted proxy.
    address: Option<IpAddr>,
}

impl Seats {
    /// Computes the limits for a process that may open so many descriptors.
    pub fn new(settings: &Settings, descriptors: u64, metrics: &Arc<HttpMetrics>) -> Self {
        let reserve = RESERVE.max(SPARE as u64 + OTHERS + u64::from(settings.database.max_connections));
        let room = usize::try_from(descriptors.saturating_sub(reserve)).unwrap_or(usize::MAX);
        let most = settings.api.max_connections.min(room).max(1);
        let most_per_address = match settings.api.max_connections_per_address {
            0 => (most / 4).max(1),
            set => set,
        };
        let trusted = settings.api.trusted_proxies.clone();
        tracing::debug!(most, most_per_address, "connection limits");
        metrics.max_connections.set(i64::try_from(most).unwrap_or(i64::MAX));
        Self { most, most_per_address, trusted, taken: Mutex::default(), metrics: metrics.clone() }
    }

    /// Takes a seat for a connection, if one is free.
    pub fn take(self: &Arc<Self>, peer: IpAddr) -> Option<Seat> {
        let is_proxy = self.trusted.iter().any(|network| network.contains(peer));
        let address = (!is_proxy).then(|| counted(peer));
        let mut taken = self.lock();
        let of_address = address.map_or(0, |address| taken.by_address.get(&address).copied().unwrap_or(0));
        let reason = match () {
            () if taken.all >= self.most => Rejection::ConnectionLimit,
            () if of_address >= self.most_per_address => Rejection::AddressConnectionLimit,
            () => {
                taken.all += 1;
                if let Some(address) = address {
                    taken.by_address.insert(address, of_address + 1);
                }
                self.metrics.connections.inc();
                return Some(Seat { seats: self.clone(), address });
            }
        };
        self.metrics.rejected(reason);
        if taken.warned.is_none_or(|at| at.elapsed() >= WARN_EVERY) {
            taken.warned = Some(Instant::now());
            let (all, most, most_per_address) = (taken.all, self.most, self.most_per_address);
            tracing::warn!(%peer, all, most, of_address, most_per_address, "too many connections");
        }
        None
    }

    /// Admits a connection without a seat for a moment. The oldest of these is cut for the newest,
    /// so that a health check is answered however many others wait.
    pub fn spare(&self) -> CancellationToken {
        let (mut taken, place) = (self.lock(), CancellationToken::new());
        if taken.spare.len() >= SPARE
            && let Some(oldest) = taken.spare.pop_front()
        {
            oldest.cancel();
        }
        taken.spare.push_back(place.clone());
        place
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.lock();
        taken.all -= 1;
        self.seats.metrics.connections.dec();
        if let Some(address) = self.address
            && let Some(count) = taken.by_address.get_mut(&address)
        {
            *count -= 1;
            if *count == 0 {
                taken.by_address.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seats(descriptors: u64, set: &[(&str, &str)]) -> Arc<Seats> {
        let set = [("DATABASE_URL", "postgres://crm@localhost/crm")].iter().chain(set);
        let environment = set.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Arc::new(Seats::new(&Settings::from_layers(None, environment).unwrap(), descriptors, &Arc::default()))
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn limits_follow_descriptors_and_settings() {
        assert_eq!(seats(1024, &[]).most, 896);
        assert_eq!(seats(1024, &[]).most_per_address, 224);
        assert_eq!(seats(1_048_576, &[]).most, 20_000);
        assert_eq!(seats(1_048_576, &[]).most_per_address, 5_000);
        assert_eq!(seats(1024, &[("CRM_DATABASE__MAX_CONNECTIONS", "200")]).most, 728);
        assert_eq!(seats(10, &[]).most, 1);
        assert_eq!(seats(1024, &[("CRM_API__MAX_CONNECTIONS_PER_ADDRESS", "3")]).most_per_address, 3);
    }

    #[test]
    fn one_address_gets_a_quarter_and_a_trusted_proxy_gets_all() {
        let set = [("CRM_API__MAX_CONNECTIONS", "8"), ("CRM_API__TRUSTED_PROXIES", "10.0.0.0/8")];
        let seats = seats(1024, &set);
        let take = |peer: &str| seats.take(address(peer));
        let first = [take("192.0.2.1"), take("::ffff:192.0.2.1")];
        assert!(first.iter().all(Option::is_some) && take("192.0.2.1").is_none());
        let second = [take("2001:db8::1"), take("2001:db8::ffff")];
        assert!(second.iter().all(Option::is_some) && take("2001:db8::2").is_none());
        let others = [take("2001:db8:0:1::1"), take("10.0.0.1"), take("10.0.0.1"), take("10.0.0.1")];
        assert!(others.iter().all(Option::is_some));
        assert!(take("10.0.0.1").is_none() && take("192.0.2.2").is_none());
        drop(first);
        assert!(take("192.0.2.1").is_some());
        drop((second, others));
        assert_eq!(seats.lock().all, 0);
        assert!(seats.lock().by_address.is_empty());
    }

    #[test]
    fn the_oldest_connection_without_a_seat_is_cut_for_the_newest() {
        let seats = seats(1024, &[]);
        let places: Vec<CancellationToken> = (0..=SPARE).map(|_| seats.spare()).collect();
        assert!(places[0].is_cancelled());
        assert!(places[1..].iter().all(|place| !place.is_cancelled()));
    }
}
