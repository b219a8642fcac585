//! The services of a worker: what it does besides running jobs, and retries after errors.
//!
//! A service waits after an error, longer after each error in a row, and logs at most one line a
//! minute. The details of readiness show the error until the service succeeds again.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use shared::Error;
use shared::error::ErrorClass;
use shared::platform::telemetry::LogLimit;
use uuid::Uuid;

use crate::context::jittered;
use crate::queue::leases::lock;

pub(crate) struct Services {
    /// Its waits are short, because a lease that is not renewed expires.
    pub leases: Service,
    pub claims: Service,
    pub outcomes: Service,
    pub rescue: Service,
    pub outbox: Service,
    pub webhooks: Service,
    pub pruning: Service,
    pub numbering: Service,
    pub schedule: Service,
    pub scores: Service,
    pub themes: Service,
    pub statistics: Service,
    pub notifications: Service,
}

impl Default for Services {
    fn default() -> Self {
        let within = |seconds, name| Service::new(name, Duration::from_secs(seconds));
        Self {
            leases: within(2, "renewing leases"),
            claims: within(10, "claiming jobs"),
            outcomes: within(10, "recording outcomes"),
            rescue: within(10, "rescuing jobs"),
            outbox: within(10, "delivering email"),
            webhooks: within(10, "delivering webhooks"),
            pruning: within(60, "pruning"),
            numbering: within(5, "numbering events"),
            schedule: within(60, "the schedule"),
            scores: within(60, "scoring customers"),
            themes: within(60, "finding themes"),
            statistics: within(60, "analyzing tables"),
            notifications: within(60, "listening for notifications"),
        }
    }
}

impl Services {
    pub fn all(&self) -> [&Service; 13] {
        let Self { leases, claims, outcomes, rescue, outbox, webhooks, .. } = self;
        let Self { pruning, numbering, schedule, scores, themes, statistics, notifications, .. } = self;
        [
            leases,
            claims,
            outcomes,
            rescue,
            outbox,
            webhooks,
            pruning,
            numbering,
            schedule,
            scores,
            themes,
            statistics,
            notifications,
        ]
    }
}

pub(crate) struct Service {
    pub name: &'static str,
    longest: Duration,
    state: Mutex<State>,
    limit: LogLimit,
}

#[derive(Default)]
struct State {
    /// The number of errors in a row.
    errors: u32,
    /// The last error, described for operators.
    why: Option<String>,
    is_logged: bool,
}

impl Service {
    fn new(name: &'static str, longest: Duration) -> Self {
        Self { name, longest, state: Mutex::default(), limit: LogLimit::each_minute() }
    }

    /// Records an error, and returns how long to wait: half a second, doubled after each error in a
    /// row.
    pub fn failed(&self, error: &Error) -> Duration {
        let mut state = lock(&self.state);
        state.errors = state.errors.saturating_add(1);
        state.why = Some(error.condition().unwrap_or_else(|| "internal error; see the worker's log".into()));
        // `DatabaseHealth` logs once for all services that the database is unavailable.
        if error.class() == ErrorClass::Connection {
            tracing::debug!(service = self.name, %error, "the service is waiting for the database");
        } else if let Some(left_out) = self.limit.allows() {
            state.is_logged = true;
            tracing::warn!(service = self.name, %error, errors = state.errors, left_out, "the service failed and will be retried");
        }
        let doubled = Duration::from_millis(500).saturating_mul(1 << (state.errors - 1).min(10));
        jittered(doubled.min(self.longest))
    }

    /// Records a success.
    pub fn succeeded(&self) {
        let mut state = lock(&self.state);
        if state.errors > 0 {
            if state.is_logged {
                tracing::info!(service = self.name, "the service works again");
            }
            *state = State::default();
        }
    }

    /// Records a result. Returns how long to wait after an error.
    pub fn note<T>(&self, result: &shared::Result<T>) -> Option<Duration> {
        match result {
            Ok(_) => {
                self.succeeded();
                None
            }
            Err(error) => Some(self.failed(error)),
        }
    }

    /// The error that the service waits after, if any.
    pub fn trouble(&self) -> Option<String> {
        lock(&self.state).why.clone()
    }
}

/// Backoff for each workspace, so that a failing workspace delays no other.
#[derive(Default)]
pub(crate) struct Failing(Mutex<HashMap<Uuid, (u32, Instant)>>);

impl Failing {
    const FIRST: Duration = Duration::from_secs(5);
    const LONGEST: Duration = Duration::from_secs(10 * 60);

    /// Whether the workspace's wait is over.
    pub fn is_due(&self, workspace_id: Uuid) -> bool {
        lock(&self.0).get(&workspace_id).is_none_or(|(_, due)| *due <= Instant::now())
    }

    /// Records a workspace's result.
    pub fn note<T>(&self, workspace_id: Uuid, result: &shared::Result<T>) {
        let mut failing = lock(&self.0);
        if result.is_ok() {
            failing.remove(&workspace_id);
            return;
        }
        let (errors, due) = failing.entry(workspace_id).or_insert((0, Instant::now()));
        *due = Instant::now() + jittered(Self::FIRST.saturating_mul(1 << (*errors).min(10)).min(Self::LONGEST));
        *errors = errors.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_waits_longer_after_each_error_in_a_row_and_reports_the_error() {
        let service = Service::new("testing", Duration::from_secs(10));
        let error = Error::internal("broken");
        let waits: Vec<f64> = (0..8).map(|_| service.failed(&error).as_secs_f64()).collect();
        for (wait, wanted) in waits.iter().zip([0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0, 10.0]) {
            assert!((wanted * 0.8..=wanted * 1.2).contains(wait), "{waits:?}");
        }
        assert!(service.trouble().is_some());
        service.succeeded();
        assert_eq!(service.trouble(), None);
        assert!(service.failed(&error) < Duration::from_secs(1));
    }

    #[test]
    fn a_failing_workspace_does_not_delay_another() {
        let (failing, [bad, good]) = (Failing::default(), [Uuid::from_u128(1), Uuid::from_u128(2)]);
        failing.note::<()>(bad, &Err(Error::internal("broken")));
        assert!(!failing.is_due(bad) && failing.is_due(good));
        failing.note(bad, &Ok(()));
        assert!(failing.is_due(bad));
    }
}
