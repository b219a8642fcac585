//! Work at the database that has a limit of time.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use tokio_util::task::TaskTracker;

use super::STATEMENT_TIMEOUT;
use super::cancel::{Backend, Call};

/// How long work gets to end after its statement was cancelled, and its connections to be cleaned.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the answer of a COMMIT is waited for. It takes longer only when the database does not answer
/// at all; whether it was committed is not known then.
const COMMIT_PATIENCE: Duration = Duration::from_secs(120);

tokio::task_local! {
    static WORK: Arc<Work>;
}

/// How work with a limit of time ended.
#[derive(Debug)]
pub enum Finished<T> {
    /// Before the limit.
    InTime(T),
    /// After it; what it returned when its statement was cancelled, if it did. Nothing of it is under way
    /// at the database any more.
    Late(Option<T>),
}

/// Does work at the database, and stops it at the limit of time: its statement is cancelled and its
/// transaction rolled back. Only a COMMIT that is under way is waited for. Behind a pooler nothing can
/// be cancelled, and the answer of the statement is waited for.
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
        tracing::warn!("a statement that took too long could not be cancelled in time");
    }
    Finished::Late(result)
}

/// What work returns whose statement was cancelled. A COMMIT that is under way is waited for longer.
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

/// What some work has under way at the database.
#[derive(Debug, Default)]
pub(super) struct Work {
    state: Mutex<State>,
    /// The connections that it left and that are not clean yet.
    pub(super) cleaning: TaskTracker,
}

#[derive(Debug, Default)]
struct State {
    /// Nothing more may begin, and no COMMIT.
    has_expired: bool,
    committing: usize,
    backends: Vec<Arc<Backend>>,
}

impl Work {
    /// The work that runs now, if it has a limit.
    pub(super) fn current() -> Option<Arc<Self>> {
        WORK.try_with(Clone::clone).ok()
    }

    /// Notes that it uses a connection. False: its time is over.
    pub(super) fn enter(&self, backend: &Arc<Backend>) -> bool {
        let mut state = self.lock();
        if !state.has_expired {
            state.backends.push(backend.clone());
        }
        !state.has_expired
    }

    /// Notes that it does not use a connection any more: from now on none of its calls hits it.
    pub(super) fn leave(&self, backend: &Arc<Backend>) {
        self.lock().backends.retain(|other| !Arc::ptr_eq(other, backend));
    }

    /// Notes that a COMMIT is under way, until this is dropped. None: its time is over.
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

    /// Ends its time and cancels what it runs; returns for how long its answer is waited for, if it runs
    /// anything.
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
            // Announced under the lock: a connection that it leaves from here on waits for the call.
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
        tracing::warn!(%error, "a statement that took too long cannot be cancelled");
    }
}

/// A COMMIT that is under way.
pub(super) struct Committing(Arc<Work>);

impl Drop for Committing {
    fn drop(&mut self) {
        self.0.lock().committing -= 1;
    }
}
