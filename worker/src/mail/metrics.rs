//! Counters of the emails that this process handled.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use shared::mail::Outcome;

#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub sent: AtomicU64,
    pub deferred: AtomicU64,
    pub bounced: AtomicU64,
    pub unknown: AtomicU64,
    pub suppressed: AtomicU64,
    /// Attempts that ended before delivery was in doubt.
    pub untouched: AtomicU64,
}

impl Counts {
    pub fn add(&self, outcome: &Outcome) {
        let counter = match outcome {
            Outcome::Sent { .. } => &self.sent,
            Outcome::Deferred { .. } => &self.deferred,
            Outcome::Bounced { .. } => &self.bounced,
            Outcome::Unknown { .. } => &self.unknown,
            Outcome::Untouched => &self.untouched,
        };
        counter.fetch_add(1, Relaxed);
    }

    /// The counters with their labels.
    pub fn all(&self) -> [(&'static str, u64); 6] {
        let Self { sent, deferred, bounced, unknown, suppressed, untouched } = self;
        [
            ("sent", sent),
            ("deferred", deferred),
            ("bounced", bounced),
            ("unknown", unknown),
            ("suppressed", suppressed),
            ("untouched", untouched),
        ]
        .map(|(label, counter)| (label, counter.load(Relaxed)))
    }
}
