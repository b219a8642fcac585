//! How many requests are in flight.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// The most requests of a process, of a workspace and of an endpoint.
pub(super) const OF_PROCESS: usize = 512;
pub(super) const OF_WORKSPACE: usize = 64;
pub(super) const OF_ENDPOINT: usize = 8;

/// How many requests an endpoint may have in flight while so many of `all` slots are used: fewer when slots become
/// scarce. The last quarter is for endpoints that have none, so endpoints that hang leave room for all others.
pub(super) fn share(used: usize, all: usize) -> usize {
    match used {
        used if used < all / 2 => OF_ENDPOINT,
        used if used < all - all / 4 => 2,
        used if used < all => 1,
        _ => 0,
    }
}

/// The slots of the process.
#[derive(Debug, Default)]
pub(crate) struct Slots(AtomicUsize);

impl Slots {
    /// The requests in flight.
    pub fn used(&self) -> usize {
        self.0.load(Relaxed)
    }

    /// Takes a slot for an endpoint with so many requests in flight.
    pub fn take(self: &Arc<Self>, in_flight: usize) -> Option<Slot> {
        let free = |used| (in_flight < share(used, OF_PROCESS)).then_some(used + 1);
        self.0.fetch_update(Relaxed, Relaxed, free).ok()?;
        Some(Slot(self.clone()))
    }
}

/// A slot that is taken until it is dropped.
#[derive(Debug)]
pub(crate) struct Slot(Arc<Slots>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_that_hang_leave_room_for_others() {
        let slots = Arc::<Slots>::default();
        let mut hanging = Vec::new();
        for _ in 0..100 {
            let mut mine = Vec::new();
            while let Some(slot) = slots.take(mine.len()) {
                mine.push(slot);
            }
            assert!(!mine.is_empty() && mine.len() <= OF_ENDPOINT);
            hanging.push(mine);
        }
        assert!(slots.used() <= OF_PROCESS - 100, "{}", slots.used());
        assert!(slots.take(0).is_some() && slots.take(1).is_none());
        drop(hanging);
        assert_eq!(slots.used(), 0);
    }
}
