//! Acknowledgements: how attempts ended, written in batches.
//!
//! One task writes them, up to two thousand in one statement, and the next batch gathers while the
//! present one is written: an idle worker's single outcome goes out at once, and a busy one's cost
//! next to nothing each.

use std::sync::Arc;

use shared::error::ErrorClass;
use shared::queue::{self, Lease, Outcome};
use shared::{Error, Result};
use tokio::sync::mpsc;

use crate::context::WorkerContext;

/// Outcomes in one statement at most. As many may wait; then handlers' slots stay taken.
const BATCH: usize = 2000;

type Ended = (Lease, Outcome);

/// Where outcomes are sent.
pub(crate) struct Acks(mpsc::Sender<Ended>);

/// Where they arrive.
pub(crate) struct Unwritten(mpsc::Receiver<Ended>);

impl Acks {
    pub fn new() -> (Self, Unwritten) {
        let (sender, receiver) = mpsc::channel(BATCH);
        (Self(sender), Unwritten(receiver))
    }

    /// Leaves an outcome to be written soon. The lease must have left the table of leases before.
    pub async fn send(&self, lease: Lease, outcome: Outcome) {
        // It fails only when the process ends without waiting; a rescue takes care of the job then.
        let _ = self.0.send((lease, outcome)).await;
    }
}

/// Writes outcomes until the process has `ended` and none is left.
pub(crate) async fn write_all(
    process: Arc<WorkerContext>,
    Unwritten(mut unwritten): Unwritten,
    ended: impl Future<Output = ()>,
) {
    let mut ended = std::pin::pin!(ended);
    let mut closed = false;
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        tokio::select! {
            biased;
            () = &mut ended, if !closed => {
                closed = true;
                unwritten.close();
            }
            received = unwritten.recv_many(&mut batch, BATCH) => {
                if received == 0 {
                    return;
                }
                write(&process, &mut batch).await;
                batch.clear();
            }
        }
    }
}

/// Writes outcomes, however long the database is away. Doing it twice is harmless: the attempt is
/// the fence.
pub(crate) async fn write(process: &WorkerContext, ended: &mut [Ended]) {
    loop {
        let error = match finish(process, ended).await {
            Ok(()) => return process.services.outcomes.succeeded(),
            Err(error) => error,
        };
        match error {
            Error::Repeat(_) => (),
            error if error.class() == ErrorClass::Connection => {
                process.services.outcomes.failed(&error);
                process.wait_for_database().await;
            }
            // One of them cannot be written, such as a text that PostgreSQL refuses. The others must
            // not suffer: halve until it stands alone.
            error if error.is_of_data() && ended.len() > 1 => {
                tracing::error!(%error, "outcomes cannot be written together");
                let (first, second) = ended.split_at_mut(ended.len() / 2);
                Box::pin(write(process, first)).await;
                Box::pin(write(process, second)).await;
                return;
            }
            error if error.is_of_data() => {
                let Some((lease, outcome)) = ended.first_mut() else { return };
                tracing::error!(job = %lease.id, %error, "an outcome cannot be written");
                let fallback = Outcome::Failed("what the job returned cannot be stored".into());
                if *outcome == fallback {
                    return;
                }
                *outcome = fallback;
            }
            // Whatever it is, it is not the jobs' fault: what they did stays to be written.
            error => tokio::time::sleep(process.services.outcomes.failed(&error)).await,
        }
    }
}

async fn finish(process: &WorkerContext, ended: &[Ended]) -> Result<()> {
    process.upkeep(async |connection| queue::finish(connection, ended).await).await
}
