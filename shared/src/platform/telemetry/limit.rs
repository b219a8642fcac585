//! A limit for log lines that repeat.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Allows a repeating log line at most once per interval, and counts the lines left out.
#[derive(Debug)]
pub struct LogLimit {
    every: Duration,
    state: Mutex<(Option<Instant>, u64)>,
}

impl LogLimit {
    /// At most one line per minute.
    pub const fn each_minute() -> Self {
        Self::new(Duration::from_secs(60))
    }

    /// At most one line per interval.
    pub const fn new(every: Duration) -> Self {
        Self { every, state: Mutex::new((None, 0)) }
    }

    /// Returns the number of lines left out since the last one if a line may be logged now.
    pub fn allows(&self) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, left_out) = &mut *state;
        if last.is_some_and(|last| last.elapsed() < self.every) {
            *left_out += 1;
            return None;
        }
        *last = Some(Instant::now());
        Some(std::mem::take(left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_is_logged_per_interval_with_the_number_of_the_others() {
        let limit = LogLimit::new(Duration::from_millis(50));
        let logged: Vec<_> = (0..5).map(|_| limit.allows()).collect();
        assert_eq!(logged, [Some(0), None, None, None, None]);
        std::thread::sleep(Duration::from_millis(60));
        assert_eq!(limit.allows(), Some(4));
    }
}
