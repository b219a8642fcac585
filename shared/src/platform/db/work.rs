//! Time limits for work at the database.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use tokio_util::task::TaskTracker;

use super::STATEMENT_TIMEOUT;
use super::cancel::{Backend, Call};

/// How long work may take to end after its statement was cancelled, and to clean its connections.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long to wait for the reply to a COMMIT. Without a reply in this time the database does not respond
/// at all, and the outcome of the commit is unknown.
const COMMIT_PATIENCE: Duration = Duration::from_secs(120);

tokio::task_local! {
    static WORK: Arc<Work>;
}

/// How work with a time limit ended.
#[derive(Debug)]
pub enum Finished<T> {
    /// The work ended before the limit.
    InTime(T),
    /// The work was stopped at the limit, with what it returned after the cancellation, if anything. None
    /// of its statements is running any more.
    Late(Option<T>),
}

/// Runs work at the database, and stops it at the time limit: its statement is cancelled and its
/// transaction rolled back. A running COMMIT is not cancelled: its reply is awaited. With a pooler no
/// statement can be cancelled, and the reply of the running one is awaited.
pub async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Finished<T> {
    let state = Arc::new(Work::default());
    let mut running = Box::pin(WORK.scope(state.clone(), work));
    if let Ok(result) = timeout(limit, running.as_mut()).await {
        return Finished::InTime(result);
    }
    let result = match state.expire() {
        Some(patience) => {
            let last = last_result(&state, running.as_mut(), patience);
            timeout(patience + COMMIT_PATIENCE, last).await.unwrap_or_default()
        }
        None => None,
    };
    drop(running);
    state.cleaning.close();
    if timeout(PATIENCE, state.cleaning.wait()).await.is_err() {
        tracing::warn!("a cancelled statement did not end in time");
    }
    Finished::Late(result)
}

/// Waits for what the work returns after its statement was cancelled; longer while a COMMIT is running.
async fn last_result<T>(state: &Work, mut running: Pin<&mut impl Future<Output = T>>, patience: Duration) -> Option<T> {
    let mut patience = std::pin::pin!(sleep(patience));
    poll_fn(|cx| {
        if let Poll::Ready(result) = running.as_mut().poll(cx) {
            return Poll::Ready(Some(result));
        }
        if patience.as_mut().poll(cx).is_ready() && !state.is_committing() {
            return Poll::Ready(None);
        }
        Poll::Pending
    })
    .await
}

/// The connections and statements of some work.
#[derive(Debug, Default)]
pub(super) struct Work {
    state: Mutex<State>,
    /// The connections that the work has dropped and that are still being cleaned.
    pub(super) cleaning: TaskTracker,
}

#[derive(Debug, Default)]
struct State {
    /// No statement and no COMMIT may start any more.
    has_expired: bool,
    committing: usize,
    backends: Vec<Arc<Backend>>,
}

impl Work {
    /// The current work, if it has a time limit.
    pub(super) fn current() -> Option<Arc<Self>> {
        WORK.try_with(Clone::clone).ok()
    }

    /// Records that the work uses a connection. Returns false after the time limit.
    pub(super) fn enter(&self, backend: &Arc<Backend>) -> bool {
        let mut state = self.lock();
        if !state.has_expired {
            state.backends.push(backend.clone());
        }
        !state.has_expired
    }

    /// Records that the work no longer uses a connection, so that no cancellation hits the next user.
    pub(super) fn leave(&self, backend: &Arc<Backend>) {
        self.lock().backends.retain(|other| !Arc::ptr_eq(other, backend));
    }

    /// Records that a COMMIT is running, until the returned value is dropped. Returns `None` after the time
    /// limit.
    pub(super) fn commit(self: Arc<Self>) -> Option<Committing> {
        let mut state = self.lock();
        if state.has_expired {
            return None;
        }
        state.committing += 1;
        drop(state);
        Some(Committing(self))
    }

    fn is_committing(&self) -> bool {
        self.lock().committing > 0
    }

    /// Ends the time of the work and cancels its statements. Returns how long to wait for their replies, or
    /// `None` if the work uses no connection.
    fn expire(&self) -> Option<Duration> {
        let mut state = self.lock();
        state.has_expired = true;
        if state.backends.is_empty() {
            return None;
        }
        if state.committing > 0 {
            return Some(Duration::ZERO);
        }
        for backend in &state.backends {
            // Announced under the lock: a connection that the work drops later waits for the call.
            if let Some(call) = backend.announce() {
                self.cleaning.spawn(cancel(backend.clone(), call));
            }
        }
        let can_be_cancelled = state.backends.iter().all(|backend| backend.is_direct());
        Some(if can_be_cancelled { PATIENCE } else { STATEMENT_TIMEOUT + PATIENCE })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn cancel(backend: Arc<Backend>, call: Call) {
    if let Err(error) = backend.cancel(call).await {
        tracing::warn!(%error, "cancelling a statement at its time limit failed");
    }
}

/// A running COMMIT.
pub(super) struct Committing(Arc<Work>);

impl Drop for Committing {
    fn drop(&mut self) {
        self.0.lock().committing -= 1;
    }
}
