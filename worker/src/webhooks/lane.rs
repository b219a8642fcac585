//! The deliveries to one endpoint that are loaded, and which of them may be sent.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use shared::platform::db;
use shared::webhooks::{Attempt, Due, Health, Target};
use uuid::Uuid;

use super::slots::OF_ENDPOINT;

/// The deliveries that are loaded at most, and the number from which on more are loaded.
const LOADED: usize = 64;
const LOW: usize = 32;
/// The failures in a row after which one attempt is made at a time.
const CAUTIOUS_AFTER: i32 = 5;

pub(super) struct Lane {
    pub target: Arc<Target>,
    queue: VecDeque<Due>,
    pub in_flight: usize,
    /// The subjects whose events are delivered one after the other, and of which one is in flight.
    busy: HashSet<Uuid>,
    /// Whether the database may have more that is due.
    pub may_have_more: bool,
    failures: i32,
    failing_since: Option<DateTime<Utc>>,
    /// Whether the health must be recorded.
    is_changed: bool,
    /// When the rate limit allows the next request.
    next_at: Instant,
}

impl Lane {
    pub fn new(target: Arc<Target>) -> Self {
        Self {
            failures: target.failures,
            failing_since: target.failing_since,
            target,
            queue: VecDeque::new(),
            in_flight: 0,
            busy: HashSet::new(),
            may_have_more: true,
            is_changed: false,
            next_at: Instant::now(),
        }
    }

    /// Continues with the present version of the endpoint.
    pub fn update(&mut self, target: Arc<Target>) {
        if target.updated_at != self.target.updated_at {
            (self.failures, self.failing_since, self.is_changed) = (target.failures, target.failing_since, false);
        }
        self.may_have_more = true;
        self.target = target;
    }

    /// How many deliveries to load.
    pub fn room(&self) -> usize {
        if self.may_have_more && self.queue.len() < LOW { LOADED - self.queue.len() } else { 0 }
    }

    pub fn push(&mut self, due: Due) {
        self.queue.push_back(due);
    }

    /// The ids of the loaded deliveries, which are dropped.
    pub fn clear(&mut self) -> impl Iterator<Item = Uuid> {
        std::mem::take(&mut self.queue).into_iter().map(|due| due.id)
    }

    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether a request may be sent now, as far as the endpoint decides.
    pub fn may_send(&self, now: Instant) -> bool {
        self.in_flight < self.limit() && self.next_at <= now && self.position().is_some()
    }

    /// When the rate limit allows a request that only it holds up.
    pub fn waits_until(&self, now: Instant) -> Option<Instant> {
        (self.next_at > now && self.in_flight < self.limit() && self.position().is_some()).then_some(self.next_at)
    }

    fn limit(&self) -> usize {
        if self.failures >= CAUTIOUS_AFTER { 1 } else { OF_ENDPOINT }
    }

    /// The first delivery whose subject is not busy.
    fn position(&self) -> Option<usize> {
        self.queue.iter().position(|due| due.subject_id.is_none_or(|subject| !self.busy.contains(&subject)))
    }

    /// Takes the next delivery, which is in flight then.
    pub fn begin(&mut self, now: Instant) -> Option<Due> {
        let due = self.queue.remove(self.position()?)?;
        self.busy.extend(due.subject_id);
        self.in_flight += 1;
        if let Some(limit) = self.target.rate_limit {
            self.next_at = now.max(self.next_at) + Duration::from_secs(1) / limit.max(1);
        }
        Some(due)
    }

    /// Records the end of an attempt.
    pub fn end(&mut self, attempt: &Attempt) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if let Some(subject) = attempt.subject_id {
            self.busy.remove(&subject);
        }
        if attempt.accepted {
            self.is_changed |= self.failures > 0 || self.failing_since.is_some();
            (self.failures, self.failing_since) = (0, None);
        } else {
            self.is_changed = true;
            self.failures = self.failures.saturating_add(1);
            self.failing_since.get_or_insert_with(db::now);
        }
    }

    /// The health to record, if it has changed.
    pub fn take_health(&mut self) -> Option<Health> {
        let updated_at = self.target.updated_at?;
        std::mem::take(&mut self.is_changed).then_some(Health {
            webhook_id: self.target.id,
            updated_at,
            failures: self.failures,
            failing_since: self.failing_since,
        })
    }
}
