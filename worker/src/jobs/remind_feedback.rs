//! Reminds the customers of a workspace of requests for feedback, page by page.

use shared::mail;
use shared::mail::action_urls::ActionUrls;
use shared::platform::signed_links::Signer;
use shared::queue;
use shared::schedule::scheduled_runs;
use shared::workflows::feedback_reminders::{self, RemindFeedback, Reminded};

use crate::queue::job::{Done, Running, Stop, Task};

impl Task for RemindFeedback {
    /// What was done so far, and where to go on, stands in the job's result.
    async fn run(self, job: &mut Running) -> Result<Done, Stop> {
        let mut connection = job.connection().await?;
        let existing = queue::get(&mut connection, job.workspace_id(), job.id()).await?;
        let total = match existing.progress.total {
            Some(total) => total,
            None => feedback_reminders::open(&mut connection, job.workspace_id()).await?,
        };
        let signer = Signer::load(&mut connection).await?;
        drop(connection);
        let (actor, settings, notifier) = (job.actor(), job.settings().clone(), job.notifier().clone());
        let urls = ActionUrls { public_url: &settings.public_url, mail: &settings.mail, signer };
        let mut reminded = Reminded::resume(&existing, self.dry_run);
        while !reminded.done {
            let mut step = job.begin().await?;
            let now = scheduled_runs::now(&mut step).await?;
            let sent = feedback_reminders::step(&mut step, &actor, &urls, &mut reminded, now).await?;
            let result = serde_json::to_value(&reminded).map_err(shared::Error::from)?;
            step.commit(reminded.progress(total), &result).await?;
            if sent > 0 {
                notifier.notify(mail::QUEUE);
            }
        }
        Ok(Done::With(serde_json::to_value(reminded.finished()).map_err(shared::Error::from)?))
    }
}
