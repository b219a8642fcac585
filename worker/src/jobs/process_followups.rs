//! Tells everybody in a workspace which of their next actions are due.

use shared::mail;
use shared::queue;
use shared::schedule::scheduled_runs;
use shared::workflows::followups::{self, FollowedUp, ProcessFollowups};

use crate::queue::job::{Done, Running, Stop, Task};

impl Task for ProcessFollowups {
    /// What was done so far, and where to go on, stands in the job's result.
    async fn run(self, job: &mut Running) -> Result<Done, Stop> {
        let existing = queue::get(&mut *job.connection().await?, job.workspace_id(), job.id()).await?;
        let (actor, settings, notifier) = (job.actor(), job.settings().clone(), job.notifier().clone());
        let mut run = FollowedUp::resume(&existing, self.dry_run);
        while !run.done {
            let mut step = job.begin().await?;
            let now = scheduled_runs::now(&mut step).await?;
            let sent = followups::step(&mut step, &actor, &settings.mail, &mut run, now).await?;
            step.commit(run.progress(), &serde_json::to_value(&run).map_err(shared::Error::from)?).await?;
            if sent > 0 {
                notifier.notify(mail::QUEUE);
            }
        }
        Ok(Done::With(serde_json::to_value(run.finished()).map_err(shared::Error::from)?))
    }
}
