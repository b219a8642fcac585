//! The loop over the pages of a run, the same for every kind.

use std::time::Duration;

use shared::platform::db::Transaction;
use shared::platform::signed_links::Signer;
use shared::queue::{self, Pages, Payload, Run};

use crate::queue::job::{Done, Running, Stop};

/// How long a job waits before it asks for its turn again.
const TURN: Duration = Duration::from_secs(1);

/// Runs a job page by page, in its turn if the kind takes turns.
pub(crate) async fn run<P: Payload + Pages>(payload: P, job: &mut Running) -> Result<Done, Stop> {
    if P::TAKES_TURNS && !payload.is_dry_run() {
        let mut transaction = Transaction::begin(job.pool()).await?;
        let is_its_turn = queue::take_turn(&mut transaction, &job.claimed).await?;
        transaction.commit().await?;
        if !is_its_turn {
            return Err(Stop::Snooze(TURN));
        }
    }
    walk(payload, job).await
}

/// Processes the remaining pages, each in a step of the job.
pub(crate) async fn walk<P: Pages>(pages: P, job: &mut Running) -> Result<Done, Stop> {
    let mut connection = job.connection().await?;
    let signer = Signer::load(&mut connection).await?;
    let mut run = Run::resume(&mut connection, &job.claimed, pages).await?;
    drop(connection);
    while !run.has_ended() {
        let mut step = job.begin().await?;
        let notify = run.page(step.page(&signer)).await?;
        step.commit_at(run.progress(), &run.result()?, run.cursor()?.as_ref()).await?;
        if let Some(queue) = notify {
            job.notifier().notify(queue);
        }
    }
    Ok(Done::AsRecorded)
}
