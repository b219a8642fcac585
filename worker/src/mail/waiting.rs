//! Leased mails that wait in this process for a connection.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use shared::mail::Leased;
use tokio::sync::Notify;

use crate::queue::leases::lock;

/// For how long mails may wait here, as far as it can be foreseen: another workspace's mail gets its
/// turn behind them.
const AHEAD: Duration = Duration::from_millis(200);
/// Mails leased in one statement at most.
const BATCH: usize = 500;

/// Mails that wait, and how many may.
pub(crate) struct Waiting {
    mails: Mutex<VecDeque<Leased>>,
    filled: Notify,
    emptied: Notify,
    connections: usize,
    /// How long a mail takes of late, a moving average in nanoseconds; 0 before the first.
    average: AtomicU64,
}

impl Waiting {
    pub fn new(connections: usize) -> Self {
        let (filled, emptied) = (Notify::new(), Notify::new());
        Self { mails: Mutex::default(), filled, emptied, connections, average: AtomicU64::new(0) }
    }

    /// How many mails to lease now: as many as the connections send in a while. Half of them may still
    /// be there then.
    pub async fn has_room(&self) -> usize {
        loop {
            let (ahead, here) = (self.ahead(), lock(&self.mails).len());
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

    /// Notes how long a mail took.
    pub fn took(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).max(1);
        let average = self.average.load(Relaxed);
        self.average.store(if average == 0 { nanos } else { average - average / 8 + nanos / 8 }.max(1), Relaxed);
    }

    pub fn push(&self, mails: Vec<Leased>) {
        lock(&self.mails).extend(mails);
        self.filled.notify_waiters();
    }

    /// Puts a mail back that is the next one again; whether to wake those who wait for one depends on
    /// whether any has a connection.
    pub fn put_back(&self, mail: Leased, wake: bool) {
        lock(&self.mails).push_front(mail);
        if wake {
            self.filled.notify_waiters();
        }
    }

    pub fn take(&self) -> Option<Leased> {
        let mail = lock(&self.mails).pop_front();
        self.emptied.notify_one();
        mail
    }

    /// Waits for a mail.
    pub async fn next(&self) -> Leased {
        loop {
            let mut filled = std::pin::pin!(self.filled.notified());
            filled.as_mut().enable();
            if let Some(mail) = self.take() {
                return mail;
            }
            filled.await;
        }
    }

    /// Takes everything back that still waits.
    pub fn take_all(&self) -> VecDeque<Leased> {
        std::mem::take(&mut *lock(&self.mails))
    }
}
