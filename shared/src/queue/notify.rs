//! Waking workers by NOTIFY: beside the ledger of jobs, never a part of it.
//!
//! A NOTIFY inside the transaction that enqueues makes commits queue behind each other, so it
//! is sent after the commit, by a task of its own. It is best effort: workers also poll, and a
//! notification that is lost costs a second, never a job.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sqlx::postgres::{PgListener, PgPoolOptions};
use tokio::sync::Notify;

use crate::error::{Error, Result};
use crate::platform::db::Pool;

const CHANNEL: &str = "crm_jobs";
/// A busy process notifies at most this often.
const QUIET: Duration = Duration::from_millis(5);

/// Notifies the workers of queues that have new work. Cloning it gives another handle on the same notifier.
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
    /// A notifier that uses a connection of the pool. Must be called within a Tokio runtime;
    /// its task ends when the last handle is gone.
    pub fn new(pool: Pool) -> Self {
        let pending = Arc::new(Pending::default());
        let weak = Arc::downgrade(&pending);
        tokio::spawn(async move {
            while let Some(pending) = weak.upgrade() {
                let queues = std::mem::take(&mut *lock(&pending.queues));
                if queues.is_empty() {
                    let notify = pending.clone();
                    drop(pending);
                    // Wakes now and then to see whether anybody still holds the notifier.
                    let _ = tokio::time::timeout(Duration::from_secs(1), notify.notify.notified()).await;
                    continue;
                }
                let queues: Vec<&str> = queues.into_iter().collect();
                if let Err(error) = notify(&pool, queues).await {
                    tracing::debug!(%error, "the notifier could not notify; workers will find the work by polling");
                }
                // The first notification went out at once; what comes within this time shares the next.
                tokio::time::sleep(QUIET).await;
            }
        });
        Self { pending }
    }

    /// Says that a queue has new work. Returns at once. Call it after the commit.
    pub fn notify(&self, queue: &'static str) {
        lock(&self.pending.queues).insert(queue);
        self.pending.notify.notify_one();
    }
}

async fn notify(pool: &Pool, queues: Vec<&str>) -> Result<()> {
    sqlx::query("SELECT pg_notify($1, queue) FROM unnest($2::text[]) AS queue")
        .bind(CHANNEL)
        .bind(queues)
        .execute(&mut *pool.acquire().await?)
        .await?;
    Ok(())
}

/// Hears the bells of all processes.
#[derive(Debug)]
pub struct Listener(PgListener);

impl Listener {
    /// Starts listening, on a connection of its own.
    ///
    /// # Errors
    /// [`Error::Unavailable`](crate::Error::Unavailable) when the database is away.
    pub async fn new(pool: &Pool) -> Result<Self> {
        let apart = PgPoolOptions::new().max_connections(1).connect_lazy_with(pool.options().clone());
        let mut listener = PgListener::connect_with(&apart).await.map_err(Error::while_connecting)?;
        listener.listen(CHANNEL).await?;
        Ok(Self(listener))
    }

    /// The next queue that was notified. After a lost connection it listens again by itself;
    /// `None` then says that notifications may have been missed.
    ///
    /// # Errors
    /// [`Error::Unavailable`](crate::Error::Unavailable) when connecting again fails.
    pub async fn next(&mut self) -> Result<Option<String>> {
        Ok(self
            .0
            .try_recv()
            .await
            .map_err(Error::while_connecting)?
            .map(|notification| notification.payload().to_owned()))
    }
}

/// The set is whole even if a thread died while it held the lock.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
