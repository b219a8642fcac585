//! When a schedule runs.

use chrono::{NaiveDate, TimeDelta};
use chrono_tz::Tz;

use crate::values::Time;
use crate::values::cron::{Cron, Slot};
use crate::values::every::Every;

/// Looking back for slots begins with this span.
const FIRST_SPAN: TimeDelta = TimeDelta::hours(2);

/// What says when a schedule runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Rule {
    /// At the times of an expression.
    Cron(Cron),
    /// At each multiple of an interval after a time.
    Every(Every, Time),
    /// Once.
    At(Time),
}

/// When a schedule runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Timing {
    pub rule: Rule,
    pub zone: Tz,
    /// Slots at and after this time do not count.
    pub until: Option<Time>,
    /// Slots for this date and earlier ones do not count.
    pub last_date: Option<NaiveDate>,
}

impl Timing {
    /// The first slot after an instant.
    pub fn next(&self, after: Time) -> Option<Slot> {
        let mut slot = self.next_of_rule(after)?;
        while self.last_date.is_some_and(|last| slot.date <= last) {
            slot = self.next_of_rule(slot.at)?;
        }
        Some(slot).filter(|slot| self.until.is_none_or(|until| slot.at < until))
    }

    fn next_of_rule(&self, after: Time) -> Option<Slot> {
        let at = match &self.rule {
            Rule::Cron(cron) => return cron.next(after, self.zone),
            Rule::Every(every, from) => next_multiple(every.length(), *from, after)?,
            Rule::At(at) => Some(*at).filter(|at| *at > after)?,
        };
        Some(Slot { at, date: at.with_timezone(&self.zone).date_naive() })
    }

    /// The slots after an instant, in order.
    pub fn slots(&self, after: Time) -> impl Iterator<Item = Slot> + use<'_> {
        std::iter::successors(self.next(after), |slot| self.next(slot.at))
    }

    /// The latest slots, at most so many, after an instant and up to `now`, in order.
    pub fn passed(&self, after: Time, now: Time, most: usize) -> Vec<Slot> {
        // Looks back from now, each time twice as far, so that after a long time not every slot is visited.
        let mut span = FIRST_SPAN;
        loop {
            let begin = after.max(now - span);
            let mut slots: Vec<Slot> = self.slots(begin).take_while(|slot| slot.at <= now).collect();
            if begin == after || slots.len() >= most {
                return slots.split_off(slots.len().saturating_sub(most));
            }
            span = (span * 2).min(now - after);
        }
    }
}

/// The first time after an instant that is a multiple of an interval after another, without that one.
fn next_multiple(interval: TimeDelta, from: Time, after: Time) -> Option<Time> {
    let (interval, passed) = (interval.num_microseconds()?, (after - from).num_microseconds()?);
    let multiple = passed.div_euclid(interval).max(0) + 1;
    from.checked_add_signed(TimeDelta::microseconds(interval.checked_mul(multiple)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::values::Field;

    fn time(text: &str) -> Time {
        text.parse().unwrap()
    }

    fn timing(rule: Rule) -> Timing {
        Timing { rule, zone: Tz::Europe__Berlin, until: None, last_date: None }
    }

    fn cron(text: &str) -> Rule {
        Rule::Cron(Cron::from_text(text).unwrap())
    }

    fn every(text: &str) -> Rule {
        Rule::Every(Every::from_text(text).unwrap(), time("2026-10-24T10:00:30.5Z"))
    }

    fn next(timing: &Timing, after: &str) -> Option<Time> {
        timing.next(time(after)).map(|slot| slot.at)
    }

    #[test]
    fn an_interval_counts_from_its_beginning_and_ignores_clock_changes() {
        let daily = timing(every("P1D"));
        assert_eq!(next(&daily, "2026-10-20T00:00:00Z"), Some(time("2026-10-25T10:00:30.5Z")));
        assert_eq!(next(&daily, "2026-10-24T10:00:30.5Z"), Some(time("2026-10-25T10:00:30.5Z")));
        // The clocks go back in the night before.
        assert_eq!(next(&daily, "2026-10-25T10:00:30.5Z"), Some(time("2026-10-26T10:00:30.5Z")));
    }

    #[test]
    fn a_time_is_due_once() {
        let once = timing(Rule::At(time("2026-12-24T17:00:00Z")));
        assert_eq!(next(&once, "2026-12-01T00:00:00Z"), Some(time("2026-12-24T17:00:00Z")));
        assert_eq!(next(&once, "2026-12-24T17:00:00Z"), None);
    }

    #[test]
    fn there_are_no_slots_from_the_end_on() {
        let until = |until: &str| Timing { until: Some(time(until)), ..timing(cron("0 12 * * *")) };
        assert_eq!(next(&until("2026-12-02T11:00:00Z"), "2026-12-01T11:00:00Z"), None);
        assert_eq!(next(&until("2026-12-02T11:00:01Z"), "2026-12-01T11:00:00Z"), Some(time("2026-12-02T11:00:00Z")));
    }

    #[test]
    fn a_date_that_had_its_run_has_no_other_whatever_the_time_and_zone() {
        let nightly = |text: &str, zone, last: &str| Timing {
            zone,
            last_date: Some(last.parse().unwrap()),
            ..timing(cron(text))
        };
        let later = nightly("0 23 * * *", Tz::UTC, "2026-11-25");
        assert_eq!(next(&later, "2026-11-25T02:00:00Z"), Some(time("2026-11-26T23:00:00Z")));
        let west = nightly("0 2 * * *", Tz::America__Los_Angeles, "2026-11-25");
        assert_eq!(next(&west, "2026-11-25T02:00:00Z"), Some(time("2026-11-26T10:00:00Z")));
    }

    proptest! {
        #[test]
        fn the_latest_slots_that_passed_are_the_end_of_all(
            rule in 0..4_usize, hours in 0..3_000_i64, most in 1..120_usize
        ) {
            let rules = [every("PT17M"), every("P3D"), cron("*/10 * * * *"), cron("30 2 * * 1")];
            let timing = timing(rules[rule].clone());
            let (after, now) = (time("2026-10-01T00:00:00Z"), time("2026-10-01T00:00:00Z") + TimeDelta::hours(hours));
            let all: Vec<Slot> = timing.slots(after).take_while(|slot| slot.at <= now).collect();
            let passed = timing.passed(after, now, most);
            prop_assert_eq!(&passed[..], &all[all.len() - most.min(all.len())..]);
        }
    }
}
