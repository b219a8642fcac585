//! The mails that this process holds, and the task that renews their leases.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use shared::mail::{self, LEASE, Lease, RENEW_EVERY};
use tokio::time::MissedTickBehavior;

use super::Delivery;
use crate::context::WorkerContext;
use crate::queue::leases::lock;

/// The leases that this process holds.
#[derive(Default)]
pub(crate) struct LeaseTable {
    /// Each with the time from which it is to be renewed.
    leases: Mutex<HashMap<Lease, Instant>>,
    renewed: Mutex<Option<Instant>>,
}

impl LeaseTable {
    pub fn hold(&self, leases: impl IntoIterator<Item = Lease>) {
        let since = Instant::now();
        lock(&self.leases).extend(leases.into_iter().map(|lease| (lease, since)));
    }

    pub fn release(&self, leases: &[Lease]) {
        let mut held = lock(&self.leases);
        for lease in leases {
            held.remove(lease);
        }
    }

    /// Whether what is held here is renewed in time, as [`crate::queue::leases::Leases::are_kept`].
    pub fn are_kept(&self) -> bool {
        lock(&self.leases).is_empty() || lock(&self.renewed).is_some_and(|renewed| renewed.elapsed() < 2 * RENEW_EVERY)
    }

    /// Whether a mail that was marked at that time is still held for certain, by the clock of this
    /// process.
    pub fn still_has(&self, lease: Lease, marked: Instant) -> bool {
        let renewed = lock(&self.renewed).filter(|renewed| *renewed > marked).unwrap_or(marked);
        lock(&self.leases).contains_key(&lease) && renewed.elapsed() < LEASE
    }

    /// Those that were held for a while. Most mails are gone before, and need no renewal.
    fn to_renew(&self) -> Vec<Lease> {
        let held = lock(&self.leases);
        held.iter().filter(|(_, since)| since.elapsed() > RENEW_EVERY / 2).map(|(lease, _)| *lease).collect()
    }

    /// Forgets those that were asked for and are held no longer.
    fn forget(&self, asked: &[Lease], still: &[Lease]) {
        let still: HashSet<&Lease> = still.iter().collect();
        let mut held = lock(&self.leases);
        for lease in asked.iter().filter(|lease| !still.contains(lease)) {
            held.remove(lease);
        }
    }
}

/// Renews all leases, for ever.
pub(super) async fn keep(process: Arc<WorkerContext>, delivery: Arc<Delivery>) {
    let mut ticks = tokio::time::interval(RENEW_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let held = delivery.held.to_renew();
        let began = Instant::now();
        if held.is_empty() {
            *lock(&delivery.held.renewed) = Some(began);
            continue;
        }
        match delivery.with(&process, async |connection| mail::renew(connection, &held).await).await {
            Ok(still) => {
                process.services.leases.succeeded();
                delivery.held.forget(&held, &still);
                *lock(&delivery.held.renewed) = Some(began);
            }
            Err(error) => {
                ticks.reset_after(process.services.leases.failed(&error));
            }
        }
    }
}
