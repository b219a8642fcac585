//! Waking workers: a bell beside the ledger, never a part of it.
//!
//! A NOTIFY inside the transaction that enqueues makes commits queue behind each other, so the bell
//! is rung after the commit, from a task of its own. It is best effort: workers also poll, and a
//! bell that nobody heard costs a second, never a job.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sqlx::postgres::{PgListener, PgPoolOptions};
use tokio::sync::Notify;

use crate::error::{Error, Result};
use crate::platform::db::Pool;

const CHANNEL: &str = "crm_jobs";
/// The bell of a busy process rings at most this often.
const QUIET: Duration = Duration::from_millis(5);

/// Rings for queues that have new work. Cloning it gives another handle on the same bell.
#[derive(Debug, Clone)]
pub struct Notifier {
    rung: Arc<Rung>,
}

#[derive(Debug, Default)]
struct Rung {
    queues: Mutex<BTreeSet<&'static str>>,
    notify: Notify,
}

impl Notifier {
    /// A bell that rings through a connection of the pool. Must be called within a Tokio runtime;
    /// its task ends when the last handle is gone.
    pub fn new(pool: Pool) -> Self {
        let rung = Arc::new(Rung::default());
        let weak = Arc::downgrade(&rung);
        tokio::spawn(async move {
            while let Some(rung) = weak.upgrade() {
                let queues = std::mem::take(&mut *lock(&rung.queues));
                if queues.is_empty() {
                    let notify = rung.clone();
                    drop(rung);
                    // Wakes now and then to see whether anybody still holds the bell.
                    let _ = tokio::time::timeout(Duration::from_secs(1), notify.notify.notified()).await;
                    continue;
                }
                let queues: Vec<&str> = queues.into_iter().collect();
                if let Err(error) = notify(&pool, queues).await {
                    tracing::debug!(%error, "the notifier could not notify; workers will find the work by polling");
                }
                // The first ring went out at once; what comes within this time shares the next.
                tokio::time::sleep(QUIET).await;
            }
        });
        Self { rung }
    }

    /// Says that a queue has new work. Returns at once. Call it after the commit.
    pub fn notify(&self, queue: &'static str) {
        lock(&self.rung.queues).insert(queue);
        self.rung.notify.notify_one();
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

    /// The next queue that somebody rang for. After a lost connection it listens again by itself;
    /// `None` then says that rings may have been missed.
    ///
    /// # Errors
    /// [`Error::Unavailable`](crate::Error::Unavailable) when connecting again fails.
    pub async fn next(&mut self) -> Result<Option<String>> {
        Ok(self.0.try_recv().await.map_err(Error::while_connecting)?.map(|ring| ring.payload().to_owned()))
    }
}

/// The set is whole even if a thread died while it held the lock.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
