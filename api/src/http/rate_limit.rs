//! Rate limits: of API keys over all processes, reported in the headers of every response; of addresses in this
//! process.

mod addresses;
mod keeper;
mod leases;

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use shared::accounts::api_keys::authentication::Opened;
use shared::accounts::rate_limits::Quota;
use shared::accounts::workspaces::OwnLimit;
use shared::platform::config::Api;

use crate::AppState;
use crate::http::metrics::{HttpMetrics, Rejection};
use crate::http::peer::Client;
use crate::respond::{Problem, Result};
use addresses::Addresses;
use leases::{Leases, Taken};

pub(crate) use keeper::keep;

/// The window of a key's limit.
const WINDOW_S: u64 = 60;
// The fields of draft-ietf-httpapi-ratelimit-headers, version 10.
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// The limits of this process's requests.
#[derive(Debug)]
pub struct Limits {
    /// Those of each API key, unless its workspace has its own; `None` without a limit.
    of_keys: Option<Quota>,
    burst: u32,
    leases: Leases,
    rejected_keys: Addresses,
    open_requests: Addresses,
    metrics: Arc<HttpMetrics>,
}

impl Limits {
    /// The limits of the settings, of which 0 disables each.
    #[must_use]
    pub fn new(api: &Api, metrics: &Arc<HttpMetrics>) -> Self {
        Self {
            of_keys: quota(api.rate_limit_per_minute, api.rate_limit_burst),
            burst: api.rate_limit_burst,
            leases: Leases::default(),
            rejected_keys: Addresses::per_minute(api.rejected_keys_per_minute, &api.trusted_proxies),
            open_requests: Addresses::per_second(api.open_requests_per_second, &api.trusted_proxies),
            metrics: metrics.clone(),
        }
    }

    /// The limit of a key; `None` without one.
    pub(crate) fn of(&self, own: OwnLimit) -> Option<Quota> {
        let set = |number: i32| u32::try_from(number).unwrap_or(0);
        match (own.per_minute, own.burst) {
            (None, None) => self.of_keys,
            (None, Some(burst)) => quota(self.of_keys?.per_minute, set(burst)),
            (Some(per_minute), burst) => quota(set(per_minute), burst.map_or(self.burst, set)),
        }
    }

    /// Returns 429 for a key without requests left, and adds the rate limit headers to every
    /// response.
    pub(crate) async fn limit(&self, key: &Opened, answer: impl Future<Output = Response>) -> Response {
        let Some(quota) = self.of(key.limit) else { return answer.await };
        let (left, mut answer) = match self.leases.take(key.key_id, quota).await {
            Taken::Request { left } => (left, answer.await),
            Taken::Nothing { seconds } => {
                self.metrics.rejected(Rejection::RateLimit);
                (0, Problem::too_many(seconds).into_response())
            }
        };
        let policy = format!("\"default\";q={};w={WINDOW_S}", quota.per_minute);
        let state = format!("\"default\";r={left};t={}", full_after(quota, left));
        for (name, value) in [(RATE_LIMIT_POLICY, policy), (RATE_LIMIT, state)] {
            if let Ok(value) = HeaderValue::try_from(value) {
                answer.headers_mut().insert(name, value);
            }
        }
        answer
    }

    /// The response to a rejected key: that error, or 429 for an address that has sent many.
    pub(crate) fn reject(&self, client: Option<Client>, error: Problem) -> Problem {
        self.count(&self.rejected_keys, client).err().unwrap_or(error)
    }

    /// Counts a request of an address.
    ///
    /// # Errors
    /// 429 if the address has no requests left.
    fn count(&self, addresses: &Addresses, client: Option<Client>) -> Result<()> {
        addresses.count(client).inspect_err(|_| self.metrics.rejected(Rejection::AddressRateLimit))
    }

    /// Drops the addresses whose requests are fully replenished.
    pub fn tidy(&self) {
        self.rejected_keys.tidy();
        self.open_requests.tidy();
    }
}

/// Limits the requests of an address that need no key.
///
/// # Errors
/// 429 for an address that sends too many.
pub(crate) async fn limit_open(State(state): State<AppState>, request: Request, next: Next) -> Result<Response> {
    state.limits.count(&state.limits.open_requests, request.extensions().get().copied())?;
    Ok(next.run(request).await)
}

/// A limit; a burst never exceeds what is replenished in a minute.
fn quota(per_minute: u32, burst: u32) -> Option<Quota> {
    (per_minute > 0).then(|| Quota { per_minute, burst: burst.clamp(1, per_minute) })
}

/// The seconds until an idle key's requests are fully replenished.
fn full_after(quota: Quota, left: u32) -> u64 {
    (u64::from(quota.burst.saturating_sub(left)) * WINDOW_S).div_ceil(u64::from(quota.per_minute))
}
