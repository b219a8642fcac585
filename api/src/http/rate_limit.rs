//! How many requests a key has, told with every answer to it.

use std::num::NonZeroU32;

use axum::http::{HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use governor::clock::{Clock, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};
use uuid::Uuid;

use crate::respond::Problem;

/// The window in which a key has its requests.
const WINDOW_S: u64 = 60;
// The fields of draft-ietf-httpapi-ratelimit-headers, version 10.
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// The requests that keys have left in this process; none are counted if keys have no limit.
#[derive(Debug)]
pub struct Limits(Option<Limited>);

#[derive(Debug)]
struct Limited {
    per_minute: NonZeroU32,
    limiter: RateLimiter<Uuid, HashMapStateStore<Uuid>, DefaultClock, StateInformationMiddleware>,
}

impl Limits {
    /// So many requests a minute for each key; 0 is no limit.
    ///
    /// All of them can come at once; then they come back one by one, evenly over the minute.
    #[must_use]
    pub fn new(per_minute: u32) -> Self {
        Self(NonZeroU32::new(per_minute).map(|per_minute| {
            let limiter = RateLimiter::hashmap(Quota::per_minute(per_minute)).with_middleware();
            Limited { per_minute, limiter }
        }))
    }

    /// Answers a key that has no requests left with 429, and tells every other how many it has.
    pub async fn limit(&self, key_id: Uuid, answer: impl Future<Output = Response>) -> Response {
        let Some(limited) = &self.0 else { return answer.await };
        let (left, mut answer) = match limited.take(key_id) {
            Ok(left) => (left, answer.await),
            Err(seconds) => (0, Problem::too_many(seconds).into_response()),
        };
        let policy = format!("\"default\";q={};w={WINDOW_S}", limited.per_minute);
        let state = format!("\"default\";r={left};t={}", limited.whole_after(left));
        for (name, value) in [(RATE_LIMIT_POLICY, policy), (RATE_LIMIT, state)] {
            if let Ok(value) = HeaderValue::try_from(value) {
                answer.headers_mut().insert(name, value);
            }
        }
        answer
    }

    /// Forgets the keys that have all their requests again.
    pub fn tidy(&self) {
        if let Some(limited) = &self.0 {
            limited.limiter.retain_recent();
            limited.limiter.shrink_to_fit();
        }
    }
}

impl Limited {
    /// Takes a request off a key's: how many it has left, or after how many seconds it has one.
    fn take(&self, key_id: Uuid) -> Result<u32, u64> {
        let taken = self.limiter.check_key(&key_id);
        let seconds = |wait: std::time::Duration| wait.as_secs_f64().ceil().max(1.0) as u64;
        taken
            .map(|left| left.remaining_burst_capacity())
            .map_err(|until| seconds(until.wait_time_from(self.limiter.clock().now())))
    }

    /// When the key has all its requests again, if it makes no more.
    fn whole_after(&self, left: u32) -> u64 {
        let per_minute = u64::from(self.per_minute.get());
        ((per_minute - u64::from(left)) * WINDOW_S).div_ceil(per_minute)
    }
}
