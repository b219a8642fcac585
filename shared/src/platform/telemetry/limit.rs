//! Lines that repeat are logged now and then.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lets a line that repeats into the log at most once in a while, with how many were left out.
#[derive(Debug)]
pub struct LogLimit {
    every: Duration,
    state: Mutex<(Option<Instant>, u64)>,
}

impl LogLimit {
    /// A line each minute.
    pub const fn each_minute() -> Self {
        Self::new(Duration::from_secs(60))
    }

    /// At most one line in this time.
    pub const fn new(every: Duration) -> Self {
        Self { every, state: Mutex::new((None, 0)) }
    }

    /// Whether to log now: with the number of lines that were left out since the last one.
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
    fn of_many_lines_one_is_logged_with_the_number_of_the_others() {
        let limit = LogLimit::new(Duration::from_millis(50));
        let logged: Vec<_> = (0..5).map(|_| limit.allows()).collect();
        assert_eq!(logged, [Some(0), None, None, None, None]);
        std::thread::sleep(Duration::from_millis(60));
        assert_eq!(limit.allows(), Some(4));
    }
}
