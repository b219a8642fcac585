//! The rate limit of API keys, reported in the headers of every response.

use std::num::NonZeroU32;

use axum::http::{HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use governor::clock::{Clock, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};
use uuid::Uuid;

use crate::respond::Problem;

/// The window of the limit.
const WINDOW_S: u64 = 60;
// The fields of draft-ietf-httpapi-ratelimit-headers, version 10.
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// The requests that each key has left in this process; `None` without a limit.
#[derive(Debug)]
pub struct Limits(Option<Limited>);

#[derive(Debug)]
struct Limited {
    per_minute: NonZeroU32,
    limiter: RateLimiter<Uuid, HashMapStateStore<Uuid>, DefaultClock, StateInformationMiddleware>,
}

impl Limits {
    /// Allows each key so many requests per minute; 0 disables the limit.
    ///
    /// A key may use all of them at once; they are replenished one by one, evenly over the minute.
    #[must_use]
    pub fn new(per_minute: u32) -> Self {
        Self(NonZeroU32::new(per_minute).map(|per_minute| {
            let limiter = RateLimiter::hashmap(Quota::per_minute(per_minute)).with_middleware();
            Limited { per_minute, limiter }
        }))
    }

    /// Returns 429 for a key without requests left, and adds the rate limit headers to every
    /// response.
    pub async fn limit(&self, key_id: Uuid, answer: impl Future<Output = Response>) -> Response {
        let Some(limited) = &self.0 else { return answer.await };
        let (left, mut answer) = match limited.take(key_id) {
            Ok(left) => (left, answer.await),
            Err(seconds) => (0, Problem::too_many(seconds).into_response()),
        };
        let policy = format!("\"default\";q={};w={WINDOW_S}", limited.per_minute);
        let state = format!("\"default\";r={left};t={}", limited.full_after(left));
        for (name, value) in [(RATE_LIMIT_POLICY, policy), (RATE_LIMIT, state)] {
            if let Ok(value) = HeaderValue::try_from(value) {
                answer.headers_mut().insert(name, value);
            }
        }
        answer
    }

    /// Drops the keys whose requests are fully replenished.
    pub fn tidy(&self) {
        if let Some(limited) = &self.0 {
            limited.limiter.retain_recent();
            limited.limiter.shrink_to_fit();
        }
    }
}

impl Limited {
    /// Takes one of a key's requests. Returns how many are left, or the seconds until the next one.
    fn take(&self, key_id: Uuid) -> Result<u32, u64> {
        let taken = self.limiter.check_key(&key_id);
        let seconds = |wait: std::time::Duration| wait.as_secs_f64().ceil().max(1.0) as u64;
        taken
            .map(|left| left.remaining_burst_capacity())
            .map_err(|until| seconds(until.wait_time_from(self.limiter.clock().now())))
    }

    /// The seconds until an idle key's requests are fully replenished.
    fn full_after(&self, left: u32) -> u64 {
        let per_minute = u64::from(self.per_minute.get());
        ((per_minute - u64::from(left)) * WINDOW_S).div_ceil(per_minute)
    }
}
