//! The emails that this process holds, and the task that renews their leases.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use shared::mail::{self, LEASE, Lease, RENEW_EVERY};
use tokio::time::MissedTickBehavior;

use super::Delivery;
use crate::context::WorkerContext;
use crate::queue::leases::lock;

#[derive(Default)]
pub(crate) struct LeaseTable {
    /// The leases, each with the time when it was taken.
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

    /// Whether this process renews its leases in time, as
    /// [`crate::queue::leases::Leases::are_kept`].
    pub fn are_kept(&self) -> bool {
        lock(&self.leases).is_empty() || lock(&self.renewed).is_some_and(|renewed| renewed.elapsed() < 2 * RENEW_EVERY)
    }

    /// Whether an email that was marked at `marked` is certainly still held, by the clock of this
    /// process.
    pub fn still_has(&self, lease: Lease, marked: Instant) -> bool {
        let renewed = lock(&self.renewed).filter(|renewed| *renewed > marked).unwrap_or(marked);
        lock(&self.leases).contains_key(&lease) && renewed.elapsed() < LEASE
    }

    /// The leases that have been held for a while. Most emails are sent before, and need no
    /// renewal.
    fn to_renew(&self) -> Vec<Lease> {
        let held = lock(&self.leases);
        held.iter().filter(|(_, since)| since.elapsed() > RENEW_EVERY / 2).map(|(lease, _)| *lease).collect()
    }

    /// Removes the leases that were not renewed.
    fn remove_lost(&self, leases: &[Lease], renewed: &[Lease]) {
        let renewed: HashSet<&Lease> = renewed.iter().collect();
        let mut held = lock(&self.leases);
        for lease in leases.iter().filter(|lease| !renewed.contains(lease)) {
            held.remove(lease);
        }
    }
}

/// Keeps renewing all leases.
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
            Ok(renewed) => {
                process.services.leases.succeeded();
                delivery.held.remove_lost(&held, &renewed);
                *lock(&delivery.held.renewed) = Some(began);
            }
            Err(error) => {
                ticks.reset_after(process.services.leases.failed(&error));
            }
        }
    }
}
