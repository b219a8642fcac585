//! Takes the leads of a workspace on by one step of its sequence, page by page.

use shared::mail;
use shared::mail::action_urls::ActionUrls;
use shared::platform::signed_links::Signer;
use shared::queue::{self, Progress};
use shared::schedule::scheduled_runs;
use shared::workflows::nurture::{self, NurtureLeads, Nurtured};

use crate::queue::job::{Done, Running, Stop, Task};

impl Task for NurtureLeads {
    /// What was done so far, and where to go on, stands in the job's result.
    async fn run(self, job: &mut Running) -> Result<Done, Stop> {
        let mut connection = job.connection().await?;
        let existing = queue::get(&mut connection, job.workspace_id(), job.id()).await?;
        let total = match existing.progress.total {
            Some(total) => total,
            None => nurture::total(&mut connection, job.workspace_id()).await?,
        };
        let signer = Signer::load(&mut connection).await?;
        drop(connection);
        let (actor, settings, notifier) = (job.actor(), job.settings().clone(), job.notifier().clone());
        let urls = ActionUrls { public_url: &settings.public_url, mail: &settings.mail, signer };
        let mut nurtured = Nurtured::resume(&existing, self.dry_run);
        while !nurtured.done {
            let mut step = job.begin().await?;
            let now = scheduled_runs::now(&mut step).await?;
            let sent = nurture::step(&mut step, &actor, &urls, &mut nurtured, now).await?;
            let progress = Progress { done: nurtured.leads, total: Some(total.max(nurtured.leads)) };
            step.commit(progress, &serde_json::to_value(&nurtured).map_err(shared::Error::from)?).await?;
            if sent > 0 {
                notifier.notify(mail::QUEUE);
            }
        }
        Ok(Done::With(serde_json::to_value(nurtured.finished()).map_err(shared::Error::from)?))
    }
}
