//! When failed deliveries are attempted again.

use std::time::Duration;

/// The waits between attempts.
const WAITS: [Duration; 7] = [
    Duration::from_secs(5),
    Duration::from_secs(5 * 60),
    Duration::from_secs(30 * 60),
    Duration::from_secs(2 * 60 * 60),
    Duration::from_secs(5 * 60 * 60),
    Duration::from_secs(10 * 60 * 60),
    Duration::from_secs(10 * 60 * 60),
];

/// The longest wait that a receiver can ask for.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// How long to wait after so many failed attempts: the planned time with up to 20% of jitter, or as long as the
/// receiver asks for. `None` after the last attempt.
pub fn wait(failed: i16, retry_after: Option<Duration>) -> Option<Duration> {
    let planned = WAITS.get(usize::try_from(failed).ok()?.checked_sub(1)?)?;
    let asked = retry_after.unwrap_or_default().min(LONGEST);
    Some(planned.mul_f64(rand::random_range(1.0..1.2)).max(asked))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_eight_attempts_within_about_a_day() {
        let waits: Vec<Duration> = (1..).map_while(|failed| wait(failed, None)).collect();
        assert_eq!(waits.len() + 1, 8);
        for (wait, planned) in waits.iter().zip([5, 300, 1_800, 7_200, 18_000, 36_000, 36_000]) {
            let planned = Duration::from_secs(planned);
            assert!((planned..planned.mul_f64(1.2)).contains(wait), "{wait:?} for {planned:?}");
        }
    }

    #[test]
    fn a_receiver_can_ask_for_more_time_but_not_for_more_than_a_day() {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(wait(1, seconds(60)), seconds(60));
        assert!(wait(2, seconds(60)).unwrap() >= Duration::from_secs(300));
        assert_eq!(wait(1, seconds(u64::MAX)), Some(LONGEST));
        assert_eq!(wait(8, seconds(60)), None);
    }
}
