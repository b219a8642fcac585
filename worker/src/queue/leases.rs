//! The leases that this process holds, and the task that renews them.
//!
//! A job is in the table from its claim until its handler has ended, including while it waits in a
//! buffer. The leases are renewed over a separate connection, so that neither polling nor handlers
//! can delay the renewal.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use shared::Result;
use shared::platform::db::PoolConnection;
use shared::queue::{self, Lease, RENEW_EVERY};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::context::WorkerContext;

#[derive(Default)]
pub(crate) struct Leases {
    held: Mutex<HashMap<Lease, CancellationToken>>,
    renewed: Mutex<Option<Instant>>,
}

/// A held lease, which is renewed until this is dropped.
pub(crate) struct Hold {
    pub lease: Lease,
    /// Cancelled when the lease is lost.
    pub lost: CancellationToken,
    leases: Arc<Leases>,
}

impl Leases {
    /// Adds a claimed job to the table.
    pub fn hold(self: &Arc<Self>, lease: Lease) -> Hold {
        tracing::debug!(job_id = %lease.id, attempt = lease.attempt, "job claimed");
        let lost = CancellationToken::new();
        lock(&self.held).insert(lease, lost.clone());
        Hold { lease, lost, leases: self.clone() }
    }

    /// Whether this process renews its leases in time. A process that does not must not rescue the
    /// jobs of others: it may have been suspended itself.
    pub fn are_kept(&self) -> bool {
        lock(&self.held).is_empty() || lock(&self.renewed).is_some_and(|renewed| renewed.elapsed() < 2 * RENEW_EVERY)
    }

    /// The number of leases.
    pub fn count(&self) -> usize {
        lock(&self.held).len()
    }

    fn present(&self) -> Vec<Lease> {
        lock(&self.held).keys().copied().collect()
    }

    /// Cancels the handlers whose leases were not renewed.
    fn cancel_lost(&self, leases: &[Lease], renewed: Vec<Lease>) {
        let renewed: std::collections::HashSet<Lease> = renewed.into_iter().collect();
        let held = lock(&self.held);
        for lease in leases.iter().filter(|lease| !renewed.contains(lease)) {
            if let Some(lost) = held.get(lease) {
                tracing::info!(job_id = %lease.id, attempt = lease.attempt, "job cancelled or taken over; stopping its handler");
                lost.cancel();
            }
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        lock(&self.leases.held).remove(&self.lease);
    }
}

/// Keeps renewing all leases.
pub(crate) async fn keep(process: Arc<WorkerContext>) {
    let mut connection = None;
    let mut ticks = tokio::time::interval(RENEW_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let leases = process.leases.present();
        if leases.is_empty() {
            continue;
        }
        let began = Instant::now();
        let renewed = renew(&process, &mut connection, &leases).await;
        process.database.record(&renewed);
        match renewed {
            Ok(still) => {
                process.services.leases.succeeded();
                process.leases.cancel_lost(&leases, still);
                *lock(&process.leases.renewed) = Some(began);
            }
            Err(error) => {
                connection = None;
                ticks.reset_after(process.services.leases.failed(&error));
            }
        }
    }
}

async fn renew(
    process: &WorkerContext,
    connection: &mut Option<PoolConnection>,
    leases: &[Lease],
) -> Result<Vec<Lease>> {
    let connection = match connection {
        Some(connection) => connection,
        None => connection.insert(process.upkeep.acquire().await?),
    };
    queue::renew(connection, leases).await
}

/// Locks a mutex, poisoned or not: our critical sections leave the data consistent even if they
/// panic.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
