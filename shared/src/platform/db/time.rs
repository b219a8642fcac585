//! The database's time.
//!
//! Due times and timestamps follow the clock of the database, since the clocks of machines may be wrong
//! by days. Jobs read the database's time in the transaction that acts on it. Code that only records a
//! time uses [`now`], which corrects the local clock by its measured skew.

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use sqlx::PgConnection;

use crate::error::Result;

/// From this skew on, operators are warned and times are corrected.
const NOTABLE: TimeDelta = TimeDelta::seconds(5);
/// From this skew on, a worker claims nothing.
const EXCESSIVE: TimeDelta = TimeDelta::seconds(60);
/// How many consecutive measurements must agree.
const AGREEING: usize = 3;

/// The skew of this process's clock against the database.
pub static CLOCK: Clock = Clock::new();

/// The present time with the precision of the database, microseconds.
pub fn now() -> DateTime<Utc> {
    CLOCK.correct(Utc::now()).trunc_subsecs(6)
}

/// The present time of the database: for what is due, and what follows from it.
pub async fn database_now(connection: &mut PgConnection) -> Result<DateTime<Utc>> {
    Ok(sqlx::query_scalar("SELECT now()").fetch_one(connection).await?)
}

/// The measured skew of a process's clock.
#[derive(Debug)]
pub struct Clock {
    /// The last measurements: the least possible skew of each, negative for a clock that is behind.
    skews: Mutex<Skews>,
    /// The skew in microseconds if it is notable, else 0.
    correction: AtomicI64,
}

#[derive(Debug)]
struct Skews {
    last: [TimeDelta; AGREEING],
    count: usize,
}

impl Clock {
    const fn new() -> Self {
        let skews = Skews { last: [TimeDelta::zero(); AGREEING], count: 0 };
        Self { skews: Mutex::new(skews), correction: AtomicI64::new(0) }
    }

    /// Compares the clock with the database's.
    pub async fn measure(&self, connection: &mut PgConnection) -> Result<()> {
        let (sent, began) = (Utc::now(), Instant::now());
        let there: DateTime<Utc> = sqlx::query_scalar("SELECT clock_timestamp()").fetch_one(connection).await?;
        self.record(sent, there, began.elapsed());
        Ok(())
    }

    /// Records that the database's time was `there` at some moment of a round trip that began at `sent`.
    fn record(&self, sent: DateTime<Utc>, there: DateTime<Utc>, round_trip: Duration) {
        let half = TimeDelta::from_std(round_trip / 2).unwrap_or(TimeDelta::MAX);
        let skew = sent + half - there;
        // A difference that the round trip can explain does not count as skew.
        let certain = match skew > TimeDelta::zero() {
            true => (skew - half).max(TimeDelta::zero()),
            false => (skew + half).min(TimeDelta::zero()),
        };
        let before = self.skew();
        {
            let mut skews = self.skews.lock().unwrap_or_else(PoisonError::into_inner);
            skews.last.rotate_left(1);
            skews.last[AGREEING - 1] = certain;
            skews.count += 1;
        }
        let after = self.skew();
        let is_notable = after.is_some_and(is_notable);
        self.correction.store(if is_notable { skew.num_microseconds().unwrap_or(0) } else { 0 }, Relaxed);
        match after {
            Some(skew) if is_notable && !before.is_some_and(self::is_notable) => {
                tracing::warn!(seconds = seconds(skew), "the clock of this machine differs from the database's");
            }
            Some(_) if !is_notable && before.is_some_and(self::is_notable) => {
                tracing::info!("the clock of this machine agrees with the database's again");
            }
            _ => {}
        }
    }

    /// The least skew that the last measurements agree on: positive for a clock ahead of the database's.
    /// `None` before enough measurements.
    fn skew(&self) -> Option<TimeDelta> {
        let skews = self.skews.lock().unwrap_or_else(PoisonError::into_inner);
        if skews.count < AGREEING {
            return None;
        }
        let (least, most) = (skews.last.iter().min()?, skews.last.iter().max()?);
        Some(match (*least > TimeDelta::zero(), *most < TimeDelta::zero()) {
            (true, _) => *least,
            (_, true) => *most,
            _ => TimeDelta::zero(),
        })
    }

    /// The skew in seconds: positive for a clock ahead of the database's.
    pub fn skew_seconds(&self) -> f64 {
        self.skew().map_or(0.0, seconds)
    }

    /// Whether there are enough measurements.
    pub fn is_known(&self) -> bool {
        self.skew().is_some()
    }

    /// Whether the skew is known and small enough for a worker.
    pub fn is_trusted(&self) -> bool {
        self.skew().is_some_and(|skew| skew.abs() < EXCESSIVE)
    }

    /// Whether the skew is known and too large for a worker.
    pub fn is_excessive(&self) -> bool {
        self.skew().is_some_and(|skew| skew.abs() >= EXCESSIVE)
    }

    /// A sentence for operators about a notable skew.
    pub fn trouble(&self) -> Option<String> {
        let skew = self.skew().filter(|skew| is_notable(*skew))?;
        let direction = if skew > TimeDelta::zero() { "ahead of" } else { "behind" };
        Some(format!("the clock of this machine is {:.1} s {direction} the database's", seconds(skew.abs())))
    }

    fn correct(&self, local: DateTime<Utc>) -> DateTime<Utc> {
        local - TimeDelta::microseconds(self.correction.load(Relaxed))
    }
}

fn is_notable(skew: TimeDelta) -> bool {
    skew.abs() >= NOTABLE
}

fn seconds(skew: TimeDelta) -> f64 {
    skew.as_seconds_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRIP: Duration = Duration::from_millis(2);

    /// A clock with one measurement for each of these seconds ahead.
    fn clock(ahead: &[i64], round_trip: Duration) -> Clock {
        let (clock, there) = (Clock::new(), Utc::now());
        ahead.iter().for_each(|seconds| clock.record(there + TimeDelta::seconds(*seconds), there, round_trip));
        clock
    }

    #[test]
    fn a_clock_that_is_days_ahead_is_not_trusted_and_its_times_are_corrected() {
        let days = 4 * 86_400;
        let clock = clock(&[days; 3], TRIP);
        assert!(clock.is_excessive() && !clock.is_trusted());
        assert!(clock.trouble().unwrap().contains("345600.0 s ahead of"));
        let local = Utc::now();
        let corrected = local - clock.correct(local) - TimeDelta::seconds(days);
        assert!(corrected.abs() <= TimeDelta::milliseconds(2), "{corrected}");
    }

    #[test]
    fn three_measurements_must_agree() {
        assert!(!clock(&[90, 90], TRIP).is_trusted());
        assert!(clock(&[90, 0, 90], TRIP).is_trusted());
        assert!(clock(&[90, -90, 90], TRIP).is_trusted());
        assert!(clock(&[90, 90, 90, 0, 0, 0], TRIP).trouble().is_none());
        assert!(clock(&[-90; 3], TRIP).is_excessive());
        assert!((clock(&[90, 7, 50], TRIP).skew_seconds() - 7.0).abs() < 0.01);
    }

    #[test]
    fn five_seconds_are_notable_and_sixty_are_excessive() {
        for (ahead, notable, excessive) in [(4, false, false), (6, true, false), (59, true, false), (61, true, true)] {
            for sign in [1, -1] {
                let clock = clock(&[sign * ahead; 3], TRIP);
                assert_eq!((clock.trouble().is_some(), clock.is_excessive()), (notable, excessive), "{ahead} s");
            }
        }
    }

    #[test]
    fn a_slow_reply_does_not_count_as_skew() {
        // The database read its clock at the start of the round trip, or at the end.
        let (clock, sent, trip) = (Clock::new(), Utc::now(), Duration::from_secs(20));
        for there in [0, 20, 20, 0, 0, 0] {
            clock.record(sent, sent + TimeDelta::seconds(there), trip);
            assert!(clock.trouble().is_none());
        }
    }
}
