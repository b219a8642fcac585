//! The leases that this process holds, and the task that renews them.
//!
//! A job is in the table from its claim until its handler has ended, also while it waits in a
//! buffer. All are renewed in one statement, on a connection of its own, apart from everything
//! else, so that neither polling nor handlers can delay it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use shared::Result;
use shared::platform::db::PoolConnection;
use shared::queue::{self, Lease, RENEW_EVERY};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::context::WorkerContext;

/// The leases that this process holds.
#[derive(Default)]
pub(crate) struct Leases {
    held: Mutex<HashMap<Lease, CancellationToken>>,
    renewed: Mutex<Option<Instant>>,
}

/// A held lease. It is renewed until this is dropped.
pub(crate) struct Hold {
    pub lease: Lease,
    /// Cancelled when the lease is lost.
    pub lost: CancellationToken,
    leases: Arc<Leases>,
}

impl Leases {
    /// Puts a claimed job into the table.
    pub fn hold(self: &Arc<Self>, lease: Lease) -> Hold {
        tracing::debug!(job = %lease.id, attempt = lease.attempt, "a job was claimed");
        let lost = CancellationToken::new();
        lock(&self.held).insert(lease, lost.clone());
        Hold { lease, lost, leases: self.clone() }
    }

    /// Whether the leases held here are renewed in time. A process that cannot keep its own must
    /// not judge others: it may just have been stopped and woken again.
    pub fn are_kept(&self) -> bool {
        lock(&self.held).is_empty() || lock(&self.renewed).is_some_and(|renewed| renewed.elapsed() < 2 * RENEW_EVERY)
    }

    fn present(&self) -> Vec<Lease> {
        lock(&self.held).keys().copied().collect()
    }

    /// Tells the handlers of all leases that were asked for and are not held any more.
    fn tell_lost(&self, asked: &[Lease], still: Vec<Lease>) {
        let still: std::collections::HashSet<Lease> = still.into_iter().collect();
        let held = lock(&self.held);
        for lease in asked.iter().filter(|lease| !still.contains(lease)) {
            if let Some(lost) = held.get(lease) {
                tracing::info!(job = %lease.id, attempt = lease.attempt, "the job was cancelled or taken over; its handler is stopped");
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

/// Renews all leases, for ever.
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
                process.leases.tell_lost(&leases, still);
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

/// What is behind our locks is whole even if a thread died while it held one.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
