//! Acknowledgements: recording the outcomes of attempts in batches.
//!
//! A single task writes up to 2,000 outcomes in one statement, while the next batch collects. So an
//! idle worker's outcome is written at once, and a busy worker's outcomes cost little each.

use std::sync::Arc;
use std::time::Duration;

use shared::error::ErrorClass;
use shared::queue::{self, Ended, Outcome};
use shared::{Error, Result};
use tokio::sync::mpsc;

use crate::context::{WorkerContext, jittered};

/// The most outcomes in one statement. As many may wait; beyond that, jobs keep their slots.
const BATCH: usize = 2000;

/// The sending end of the outcomes.
pub(crate) struct Acks(mpsc::Sender<Ended>);

/// The receiving end of the outcomes.
pub(crate) struct Unwritten(mpsc::Receiver<Ended>);

impl Acks {
    pub fn new() -> (Self, Unwritten) {
        let (sender, receiver) = mpsc::channel(BATCH);
        (Self(sender), Unwritten(receiver))
    }

    /// Passes an outcome on to be written. The lease must have left the table of leases before.
    pub async fn send(&self, ended: Ended) {
        // Sending only fails when the process ends without waiting. Then another worker rescues the
        // job.
        let _ = self.0.send(ended).await;
    }
}

/// Writes outcomes until the process has `ended` and all outcomes are written.
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
                if !write(&process, &mut batch).await {
                    tokio::spawn(write_later(process.clone(), std::mem::take(&mut batch)));
                }
                batch.clear();
            }
        }
    }
}

/// Writes the outcomes again until their node is back.
async fn write_later(process: Arc<WorkerContext>, mut ended: Vec<Ended>) {
    loop {
        tokio::time::sleep(jittered(Duration::from_secs(1))).await;
        if write(&process, &mut ended).await {
            return;
        }
    }
}

/// Writes outcomes, and retries for as long as the database is unavailable. Writing an outcome
/// twice is harmless, because the attempt is the fence. Returns `false` if those of a node are left
/// that cannot be reached.
pub(crate) async fn write(process: &WorkerContext, ended: &mut [Ended]) -> bool {
    loop {
        let error = match finish(process, ended).await {
            Ok(()) => {
                process.services.outcomes.succeeded();
                return true;
            }
            Err(error) => error,
        };
        match error {
            Error::Repeat(_) => (),
            error if error.class() == ErrorClass::Node => {
                process.services.outcomes.failed(&error);
                return false;
            }
            error if error.class() == ErrorClass::Connection => {
                process.services.outcomes.failed(&error);
                process.wait_for_database().await;
            }
            // One of the outcomes cannot be written, such as text that PostgreSQL rejects. Halving
            // the batch isolates it, so that the others are written.
            error if error.is_of_data() && ended.len() > 1 => {
                tracing::error!(%error, "cannot write a batch of outcomes");
                let (first, second) = ended.split_at_mut(ended.len() / 2);
                return Box::pin(write(process, first)).await & Box::pin(write(process, second)).await;
            }
            error if error.is_of_data() => {
                let Some(Ended { lease, outcome, .. }) = ended.first_mut() else { return true };
                tracing::error!(job_id = %lease.id, %error, "cannot write the outcome");
                let fallback = Outcome::Failed("the job's result cannot be stored".into());
                if *outcome == fallback {
                    return true;
                }
                *outcome = fallback;
            }
            // Not caused by the jobs, so their outcomes are kept and retried.
            error => tokio::time::sleep(process.services.outcomes.failed(&error)).await,
        }
    }
}

async fn finish(process: &WorkerContext, ended: &[Ended]) -> Result<()> {
    process.upkeep(async |connection| queue::finish(connection, ended).await).await
}
