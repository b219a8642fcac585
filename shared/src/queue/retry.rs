//! When a job is retried after an error, and when it fails.
//!
//! | the error | is retried after | and fails the job |
//! | --- | --- | --- |
//! | a condition of the database: unreachable, disk full, … | 1 s, 2 s, 4 s … 60 s | never |
//! | a node of the database cannot be reached | 1 s, 2 s, 4 s … 5 s | never |
//! | a relation is missing or locked | the same | after 24 h |
//! | a defect: a panic, a value that the database rejects | 1 s, 2 s … 300 s | at the 8th |
//! | anything else | 1 s, 2 s … 1 h | at the 36th, which is more than 24 h after the first |
//!
//! A dry run, for which a caller waits, gives up after ten minutes.
//!
//! A step that records progress resets the counts; a step that only repeats the recorded progress of an
//! earlier attempt does not.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::error::ErrorClass;

/// The number of defects without progress that fail a job.
pub const MAX_DEFECTS: u16 = 8;
/// The number of ordinary errors without progress that fail a job: the pauses between them add up to more
/// than 24 hours.
pub const MAX_ERRORS: u16 = 36;
/// How long a relation may be missing or locked.
const MAX_RELATION: TimeDelta = TimeDelta::hours(24);
/// How long a dry run is retried.
const MAX_DRY_RUN: TimeDelta = TimeDelta::minutes(10);

const LONGEST_WAIT: u64 = 60;
/// A job on a node knows that the node is back only when it tries.
const LONGEST_WAIT_FOR_NODE: u64 = 5;
const LONGEST_PAUSE: u64 = 60 * 60;
const LONGEST_DEFECT_PAUSE: u64 = 300;

/// The errors of a job since it last recorded progress.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RetryState {
    /// When the first error occurred.
    pub since: Option<DateTime<Utc>>,
    /// The number of consecutive waits for the database.
    pub waits: u16,
    /// Since when a relation has been missing or locked.
    pub relation_since: Option<DateTime<Utc>>,
    /// The number of ordinary errors.
    pub errors: u16,
    /// The number of defects.
    pub defects: u16,
}

/// What happens to a job after an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// The job is retried after this time.
    Retry(Duration),
    /// The job fails, with a reason to put before the error.
    Fail(Option<&'static str>),
}

impl RetryState {
    /// Adds an error that occurred `now`. `spread` is a random number from 0 to 1, which keeps jobs that failed
    /// together from being retried together.
    pub fn add(&mut self, class: ErrorClass, now: DateTime<Utc>, is_dry_run: bool, spread: f64) -> Next {
        let since = *self.since.get_or_insert(now);
        self.relation_since = (class == ErrorClass::Relation).then(|| self.relation_since.unwrap_or(now));
        let next = match class {
            ErrorClass::Connection | ErrorClass::Resources | ErrorClass::Relation => {
                self.wait(now, LONGEST_WAIT, spread)
            }
            ErrorClass::Node => self.wait(now, LONGEST_WAIT_FOR_NODE, spread),
            ErrorClass::Ordinary => {
                self.waits = 0;
                let pause = exponential(self.errors, LONGEST_PAUSE).mul_f64(1.0 + spread / 2.0);
                self.errors = self.errors.saturating_add(1);
                if self.errors < MAX_ERRORS { Next::Retry(pause) } else { Next::Fail(None) }
            }
            ErrorClass::Defect => {
                self.waits = 0;
                let pause = exponential(self.defects, LONGEST_DEFECT_PAUSE).mul_f64(0.5 + spread);
                self.defects = self.defects.saturating_add(1);
                if self.defects < MAX_DEFECTS { Next::Retry(pause) } else { Next::Fail(None) }
            }
        };
        match next {
            Next::Retry(pause) if is_dry_run => within(pause, since + MAX_DRY_RUN - now),
            next => next,
        }
    }

    fn wait(&mut self, now: DateTime<Utc>, longest_s: u64, spread: f64) -> Next {
        let pause = exponential(self.waits, longest_s).mul_f64(0.5 + spread / 2.0);
        self.waits = self.waits.saturating_add(1);
        match self.relation_since {
            Some(since) if now - since >= MAX_RELATION => Next::Fail(Some("gave up after 24 hours")),
            _ => Next::Retry(pause),
        }
    }
}

/// Shortens a pause to the time left, so that a last attempt starts at its end.
fn within(pause: Duration, left: TimeDelta) -> Next {
    match left.to_std() {
        Ok(left) if !left.is_zero() => Next::Retry(pause.min(left)),
        _ => Next::Fail(Some("gave up after 10 minutes")),
    }
}

/// Starts at one second and doubles with each earlier error.
fn exponential(before: u16, longest_s: u64) -> Duration {
    Duration::from_secs((1_u64 << before.min(16)).min(longest_s))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> DateTime<Utc> {
        "2026-11-29T02:00:00Z".parse().unwrap()
    }

    /// Adds the same error until the job fails, at most `times` times. Returns how often it was added, the time
    /// that passed, and how it ended.
    fn repeat(class: ErrorClass, is_dry_run: bool, spread: f64, times: u32) -> (u32, TimeDelta, Next) {
        let (mut state, mut now) = (RetryState::default(), start());
        for time in 1..=times {
            match state.add(class, now, is_dry_run, spread) {
                Next::Retry(pause) => now += TimeDelta::from_std(pause).unwrap(),
                fail => return (time, now - start(), fail),
            }
        }
        (times, now - start(), Next::Retry(Duration::ZERO))
    }

    #[test]
    fn a_condition_of_the_database_never_fails_a_job_and_is_retried_each_minute() {
        for class in [ErrorClass::Connection, ErrorClass::Resources] {
            let (times, after, end) = repeat(class, false, 1.0, 100_000);
            assert_eq!((times, end), (100_000, Next::Retry(Duration::ZERO)));
            assert!(after > TimeDelta::days(60), "{after}");
        }
        let mut state = RetryState::default();
        let pauses: Vec<u64> = (0..9)
            .map(|_| match state.add(ErrorClass::Resources, start(), false, 1.0) {
                Next::Retry(pause) => pause.as_secs(),
                Next::Fail(_) => panic!("it fails"),
            })
            .collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!((state.errors, state.defects), (0, 0));
    }

    #[test]
    fn a_relation_may_be_missing_or_locked_for_a_day() {
        for spread in [0.0, 1.0] {
            let (_, after, end) = repeat(ErrorClass::Relation, false, spread, 10_000);
            assert_eq!(end, Next::Fail(Some("gave up after 24 hours")));
            assert!(after >= TimeDelta::hours(24) && after <= TimeDelta::hours(24) + TimeDelta::minutes(1), "{after}");
        }
    }

    #[test]
    fn a_day_of_a_full_disk_does_not_count_as_a_locked_table() {
        let mut state = RetryState::default();
        state.add(ErrorClass::Resources, start(), false, 0.5);
        let later = start() + TimeDelta::hours(30);
        assert!(matches!(state.add(ErrorClass::Relation, later, false, 0.5), Next::Retry(_)));
        let (again, end) = (later + TimeDelta::hours(23), later + TimeDelta::hours(24));
        assert!(matches!(state.add(ErrorClass::Relation, again, false, 0.5), Next::Retry(_)));
        assert!(matches!(state.add(ErrorClass::Relation, end, false, 0.5), Next::Fail(_)));
    }

    #[test]
    fn ordinary_errors_are_retried_for_more_than_a_day() {
        for spread in [0.0, 0.5, 1.0] {
            let (times, after, end) = repeat(ErrorClass::Ordinary, false, spread, 1_000);
            assert_eq!((times, end), (u32::from(MAX_ERRORS), Next::Fail(None)));
            assert!(after >= TimeDelta::hours(24) && after <= TimeDelta::hours(37), "{after}");
        }
    }

    #[test]
    fn the_eighth_defect_fails_a_job_and_other_errors_do_not_count_as_defects() {
        let (times, after, end) = repeat(ErrorClass::Defect, false, 0.5, 1_000);
        assert_eq!((times, end), (8, Next::Fail(None)));
        assert_eq!(after.num_seconds(), 127);

        let mut state = RetryState::default();
        for class in [ErrorClass::Ordinary, ErrorClass::Resources].repeat(10) {
            state.add(class, start(), false, 0.5);
        }
        assert!(matches!(state.add(ErrorClass::Defect, start(), false, 0.5), Next::Retry(_)));
    }

    #[test]
    fn a_dry_run_gives_up_after_ten_minutes_with_a_last_attempt() {
        for class in [ErrorClass::Connection, ErrorClass::Resources, ErrorClass::Relation, ErrorClass::Ordinary] {
            let (_, after, end) = repeat(class, true, 1.0, 1_000);
            assert_eq!(end, Next::Fail(Some("gave up after 10 minutes")), "{class:?}");
            assert_eq!(after, TimeDelta::minutes(10), "{class:?}");
        }
    }
}
