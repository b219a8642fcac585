//! The backend for apalis: a buffer of claimed jobs.
//!
//! Claiming, leases and acknowledgements run in separate tasks, because apalis polls a backend only
//! while it wants work, and ends a worker whose backend returns an error. This backend never fails.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use apalis::prelude::{Backend, WorkerContext};
use apalis_core::backend::BackendConfig;
use apalis_core::backend::finalize::Ephemeral;
use futures_util::task::AtomicWaker;
use tower::layer::util::Identity;
use uuid::Uuid;

use crate::queue::claim::ClaimedJob;
use crate::queue::leases::lock;

type Task = apalis::prelude::Task<ClaimedJob>;

/// Claimed jobs that wait for apalis.
#[derive(Default)]
pub(crate) struct Buffer {
    jobs: Mutex<VecDeque<ClaimedJob>>,
    taker: AtomicWaker,
}

impl Buffer {
    pub fn push(&self, jobs: impl IntoIterator<Item = ClaimedJob>) {
        lock(&self.jobs).extend(jobs);
        self.taker.wake();
    }

    /// Takes all waiting jobs out of the buffer.
    pub fn take_all(&self) -> VecDeque<ClaimedJob> {
        std::mem::take(&mut *lock(&self.jobs))
    }

    fn poll_pop(&self, context: &Context<'_>) -> Poll<ClaimedJob> {
        if let Some(job) = lock(&self.jobs).pop_front() {
            return Poll::Ready(job);
        }
        self.taker.register(context.waker());
        // A job may have been pushed before the waker was registered.
        lock(&self.jobs).pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}

/// The buffer as a backend of apalis.
pub(crate) struct Ledger(pub Arc<Buffer>);

impl Backend for Ledger {
    type Task = Task;
    type Error = Infallible;

    fn poll_ready(&mut self, _: &mut Context<'_>, _: &WorkerContext) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn poll_next(&mut self, context: &mut Context<'_>, _: &WorkerContext) -> Poll<Option<Result<Task, Infallible>>> {
        self.0.poll_pop(context).map(|job| Some(Ok(Task::new(job))))
    }

    fn poll_close(&mut self, _: &mut Context<'_>, _: &WorkerContext) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }
}

impl BackendConfig for Ledger {
    type Args = ClaimedJob;
    type Id = Uuid;
    type Kind = Ephemeral;
    type Config = ();
    type Layer = Identity;

    fn config(&self) -> &() {
        &()
    }

    fn middleware(&mut self, _: &mut WorkerContext) -> Identity {
        Identity::new()
    }
}
