//! How many connections there may be, in all and from one address.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use shared::platform::config::{Network, Settings};
use tokio_util::sync::CancellationToken;

/// Descriptors that are kept for everything but connections that have a seat.
const RESERVE: u64 = 128;
/// Descriptors that are kept beside those of [`SPARE`] and of the database.
const OTHERS: u64 = 32;
/// Connections without a seat that are heard all the same.
const SPARE: usize = 64;
/// How often the log repeats that there are too many.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// The seats of a process.
#[derive(Debug)]
pub(super) struct Seats {
    most: usize,
    most_per_address: usize,
    trusted: Vec<Network>,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
    spare: VecDeque<CancellationToken>,
    warned: Option<Instant>,
}

/// One connection's seat, free again when it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Arc<Seats>,
    /// Counted for this address, unless it is that of a proxy.
    address: Option<IpAddr>,
}

impl Seats {
    /// The seats of a process that may open so many descriptors.
    pub fn new(settings: &Settings, descriptors: u64) -> Self {
        let reserve = RESERVE.max(SPARE as u64 + OTHERS + u64::from(settings.database.max_connections));
        let room = usize::try_from(descriptors.saturating_sub(reserve)).unwrap_or(usize::MAX);
        let most = settings.api.max_connections.min(room).max(1);
        let most_per_address = match settings.api.max_connections_per_address {
            0 => (most / 4).max(1),
            set => set,
        };
        let trusted = settings.api.trusted_proxies.clone();
        tracing::debug!(most, most_per_address, "limits of connections");
        Self { most, most_per_address, trusted, taken: Mutex::default() }
    }

    /// A seat for a connection, if there is one.
    pub fn take(self: &Arc<Self>, peer: IpAddr) -> Option<Seat> {
        let is_proxy = self.trusted.iter().any(|network| network.contains(peer));
        let address = (!is_proxy).then(|| counted(peer));
        let mut taken = self.lock();
        let of_address = address.map_or(0, |address| taken.by_address.get(&address).copied().unwrap_or(0));
        let reason = match () {
            () if taken.all >= self.most => "all",
            () if of_address >= self.most_per_address => "address",
            () => {
                taken.all += 1;
                if let Some(address) = address {
                    taken.by_address.insert(address, of_address + 1);
                }
                metrics::gauge!("crm_http_connections").set(taken.all as f64);
                return Some(Seat { seats: self.clone(), address });
            }
        };
        metrics::counter!("crm_http_connections_over_limit_total", "limit" => reason).increment(1);
        if taken.warned.is_none_or(|at| at.elapsed() >= WARN_EVERY) {
            taken.warned = Some(Instant::now());
            let (all, most, most_per_address) = (taken.all, self.most, self.most_per_address);
            tracing::warn!(%peer, all, most, of_address, most_per_address, "too many connections");
        }
        None
    }

    /// A place for a connection that has no seat. Whoever has had one for longest loses it to the next,
    /// so that a health check is heard however many others wait.
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
        metrics::gauge!("crm_http_connections").set(taken.all as f64);
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

/// What counts as one address: a customer of IPv6 has a /64 network at least.
fn counted(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seats(descriptors: u64, set: &[(&str, &str)]) -> Arc<Seats> {
        let set = [("DATABASE_URL", "postgres://crm@localhost/crm")].iter().chain(set);
        let environment = set.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Arc::new(Seats::new(&Settings::from_layers(None, environment).unwrap(), descriptors))
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_limit_is_what_descriptors_and_settings_allow() {
        assert_eq!(seats(1024, &[]).most, 896);
        assert_eq!(seats(1024, &[]).most_per_address, 224);
        assert_eq!(seats(1_048_576, &[]).most, 20_000);
        assert_eq!(seats(1_048_576, &[]).most_per_address, 5_000);
        assert_eq!(seats(1024, &[("CRM_DATABASE__MAX_CONNECTIONS", "200")]).most, 728);
        assert_eq!(seats(10, &[]).most, 1);
        assert_eq!(seats(1024, &[("CRM_API__MAX_CONNECTIONS_PER_ADDRESS", "3")]).most_per_address, 3);
    }

    #[test]
    fn one_address_takes_a_quarter_and_a_proxy_takes_all() {
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
    fn the_oldest_without_a_seat_makes_room_for_the_newest() {
        let seats = seats(1024, &[]);
        let places: Vec<CancellationToken> = (0..=SPARE).map(|_| seats.spare()).collect();
        assert!(places[0].is_cancelled());
        assert!(places[1..].iter().all(|place| !place.is_cancelled()));
    }
}
