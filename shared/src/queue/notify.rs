//! Waking workers by NOTIFY.
//!
//! A NOTIFY inside the transaction that enqueues a job would serialize commits, so a background task
//! sends it after the commit. Notifications are best effort: workers also poll, and a lost notification
//! costs a second, never a job.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sqlx::PgConnection;
use sqlx::postgres::{PgListener, PgPoolOptions};
use tokio::sync::Notify;

use crate::error::{Error, Result};
use crate::platform::db::Pool;

const CHANNEL: &str = "crm_jobs";
/// A busy process notifies at most this often.
const QUIET: Duration = Duration::from_millis(5);

/// Notifies the workers of queues that have new work. Clones share one background task.
#[derive(Debug, Clone)]
pub struct Notifier {
    pending: Arc<Pending>,
}

#[derive(Debug, Default)]
struct Pending {
    queues: Mutex<BTreeSet<&'static str>>,
    notify: Notify,
}

impl Notifier {
    /// Starts the background task, which uses connections of the pool and ends when the last clone is dropped.
    /// Must be called within a Tokio runtime.
    pub fn new(pool: Pool) -> Self {
        let pending = Arc::new(Pending::default());
        let weak = Arc::downgrade(&pending);
        tokio::spawn(async move {
            while let Some(pending) = weak.upgrade() {
                let queues = std::mem::take(&mut *lock(&pending.queues));
                if queues.is_empty() {
                    let notify = pending.clone();
                    drop(pending);
                    // Wakes now and then to check whether a clone of the notifier still exists.
                    let _ = tokio::time::timeout(Duration::from_secs(1), notify.notify.notified()).await;
                    continue;
                }
                let queues: Vec<&str> = queues.into_iter().collect();
                if let Err(error) = notify(&pool, queues).await {
                    tracing::debug!(%error, "NOTIFY failed; workers will find the work by polling");
                }
                // The first notification was sent at once; those within this time share the next.
                tokio::time::sleep(QUIET).await;
            }
        });
        Self { pending }
    }

    /// Announces that a queue has new work. Returns at once. Call it after the commit.
    pub fn notify(&self, queue: &'static str) {
        lock(&self.pending.queues).insert(queue);
        self.pending.notify.notify_one();
    }
}

async fn notify(pool: &Pool, queues: Vec<&str>) -> Result<()> {
    notify_now(&mut *pool.acquire().await?, &queues).await
}

/// Announces new work over a connection, for programs that end before a [`Notifier`] would. Call it
/// after the commit.
pub async fn notify_now(connection: &mut PgConnection, queues: &[&str]) -> Result<()> {
    sqlx::query("SELECT pg_notify($1, queue) FROM unnest($2::text[]) AS queue")
        .bind(CHANNEL)
        .bind(queues)
        .execute(connection)
        .await?;
    Ok(())
}

/// Receives the notifications of all processes.
#[derive(Debug)]
pub struct Listener(PgListener);

impl Listener {
    /// Starts listening on a dedicated connection.
    pub async fn new(pool: &Pool) -> Result<Self> {
        let dedicated = PgPoolOptions::new().max_connections(1).connect_lazy_with(pool.options().clone());
        let mut listener = PgListener::connect_with(&dedicated).await.map_err(Error::while_connecting)?;
        listener.listen(CHANNEL).await?;
        Ok(Self(listener))
    }

    /// Waits for the next notification and returns its queue. Returns `None` after it has reconnected, when
    /// notifications may have been missed.
    pub async fn next(&mut self) -> Result<Option<String>> {
        Ok(self
            .0
            .try_recv()
            .await
            .map_err(Error::while_connecting)?
            .map(|notification| notification.payload().to_owned()))
    }
}

// Ignores poisoning: the set stays consistent even if a thread panicked while it held the lock.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
