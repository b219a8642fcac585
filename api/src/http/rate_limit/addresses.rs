//! Limits of the requests from one address, in this process.

use std::net::IpAddr;
use std::num::NonZeroU32;

use governor::clock::{Clock, DefaultClock};
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};
use shared::platform::config::Network;

use crate::http::peer::{self, Client};
use crate::respond::{Problem, Result};

/// A limit; `None` if it is disabled.
#[derive(Debug)]
pub(super) struct Addresses(Option<Limited>);

#[derive(Debug)]
struct Limited {
    limiter: RateLimiter<IpAddr, HashMapStateStore<IpAddr>, DefaultClock>,
    /// Proxies stand for many clients, so they have no limit themselves.
    trusted: Vec<Network>,
}

impl Addresses {
    pub fn per_minute(requests: u32, trusted: &[Network]) -> Self {
        Self::new(NonZeroU32::new(requests).map(Quota::per_minute), trusted)
    }

    pub fn per_second(requests: u32, trusted: &[Network]) -> Self {
        Self::new(NonZeroU32::new(requests).map(Quota::per_second), trusted)
    }

    fn new(quota: Option<Quota>, trusted: &[Network]) -> Self {
        Self(quota.map(|quota| Limited { limiter: RateLimiter::hashmap(quota), trusted: trusted.to_owned() }))
    }

    /// Counts a request.
    ///
    /// # Errors
    /// 429 if the address has no requests left.
    pub fn count(&self, client: Option<Client>) -> Result<()> {
        let (Some(Limited { limiter, trusted }), Some(Client(address))) = (&self.0, client) else { return Ok(()) };
        if trusted.iter().any(|network| network.contains(address)) {
            return Ok(());
        }
        limiter.check_key(&peer::counted(address)).map_err(|until| {
            let wait = until.wait_time_from(limiter.clock().now());
            Problem::too_many(wait.as_secs_f64().ceil().max(1.0) as u64)
        })
    }

    /// Drops the addresses that have all of their requests again.
    pub fn tidy(&self) {
        if let Some(Limited { limiter, .. }) = &self.0 {
            limiter.retain_recent();
            limiter.shrink_to_fit();
        }
    }
}
