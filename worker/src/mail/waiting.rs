//! Leased emails that wait in this process for a connection.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use shared::mail::Leased;
use tokio::sync::Notify;

use crate::queue::leases::lock;

/// How long emails may wait here, according to the estimate. Another workspace's emails are sent
/// after them.
const AHEAD: Duration = Duration::from_millis(200);
/// The most emails that are leased in one statement.
const BATCH: usize = 500;

/// The waiting emails.
pub(crate) struct Waiting {
    emails: Mutex<VecDeque<Leased>>,
    filled: Notify,
    emptied: Notify,
    connections: usize,
    /// A moving average of the time for an email in nanoseconds; 0 before the first.
    average: AtomicU64,
}

impl Waiting {
    pub fn new(connections: usize) -> Self {
        let (filled, emptied) = (Notify::new(), Notify::new());
        Self { emails: Mutex::default(), filled, emptied, connections, average: AtomicU64::new(0) }
    }

    /// Waits until half of the emails are sent, and returns how many to lease.
    pub async fn has_room(&self) -> usize {
        loop {
            let (ahead, here) = (self.ahead(), lock(&self.emails).len());
            if here <= ahead / 2 {
                return ahead - here;
            }
            self.emptied.notified().await;
        }
    }

    fn ahead(&self) -> usize {
        let average = u128::from(self.average.load(Relaxed));
        let foreseen = (AHEAD.as_nanos() * self.connections as u128).checked_div(average).unwrap_or(0);
        usize::try_from(foreseen).unwrap_or(BATCH).clamp(self.connections, BATCH.max(self.connections))
    }

    /// Records how long an email took.
    pub fn took(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).max(1);
        let average = self.average.load(Relaxed);
        self.average.store(if average == 0 { nanos } else { average - average / 8 + nanos / 8 }.max(1), Relaxed);
    }

    pub fn push(&self, emails: Vec<Leased>) {
        lock(&self.emails).extend(emails);
        self.filled.notify_waiters();
    }

    /// Puts an email back as the next one. `wake` if other senders have connections to send it.
    pub fn put_back(&self, email: Leased, wake: bool) {
        lock(&self.emails).push_front(email);
        if wake {
            self.filled.notify_waiters();
        }
    }

    pub fn take(&self) -> Option<Leased> {
        let email = lock(&self.emails).pop_front();
        self.emptied.notify_one();
        email
    }

    /// Waits for an email.
    pub async fn next(&self) -> Leased {
        loop {
            let mut filled = std::pin::pin!(self.filled.notified());
            filled.as_mut().enable();
            if let Some(email) = self.take() {
                return email;
            }
            filled.await;
        }
    }

    /// Takes all waiting emails.
    pub fn take_all(&self) -> VecDeque<Leased> {
        std::mem::take(&mut *lock(&self.emails))
    }
}
