//! The loop over the pages of a run, the same for every kind.

use shared::platform::signed_links::Signer;
use shared::queue::{Pages, Run};

use crate::queue::job::{Done, Running, Stop};

/// Processes the remaining pages, each in a step of the job.
pub(crate) async fn walk<P: Pages>(pages: P, job: &mut Running) -> Result<Done, Stop> {
    let mut connection = job.connection().await?;
    let signer = Signer::load(&mut connection).await?;
    let mut run = Run::resume(&mut connection, &job.claimed, pages).await?;
    drop(connection);
    while !run.has_ended() {
        let mut step = job.begin().await?;
        let end = run.page(step.page(&signer)).await?;
        step.commit_at(run.progress(), &run.result()?, run.cursor()?.as_ref()).await?;
        if let Some(queue) = end.notify {
            job.notifier().notify(queue);
        }
        if let Some(failure) = end.failure {
            return Err(Stop::fail(failure));
        }
    }
    Ok(Done::AsRecorded)
}
