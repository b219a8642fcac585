//! Mails a customer the request for feedback.

use shared::mail;
use shared::mail::action_urls::ActionUrls;
use shared::platform::signed_links::Signer;
use shared::queue::Progress;
use shared::workflows::feedback_requests::{self, RequestFeedback};

use crate::queue::job::{Done, Running, Stop, Task};

impl Task for RequestFeedback {
    /// One step: a run after it finds the mail there, and nothing to do.
    async fn run(self, job: &mut Running) -> Result<Done, Stop> {
        let signer = Signer::load(&mut *job.connection().await?).await?;
        let (actor, settings, notifier) = (job.actor(), job.settings().clone(), job.notifier().clone());
        let urls = ActionUrls { public_url: &settings.public_url, mail: &settings.mail, signer };
        let mut step = job.begin().await?;
        let sent = feedback_requests::send_request(&mut step, &actor, &urls, self.feedback_id).await?;
        let result = serde_json::to_value(sent).map_err(shared::Error::from)?;
        step.commit(Progress { done: 1, total: Some(1) }, &result).await?;
        if sent.is_sent() {
            notifier.notify(mail::QUEUE);
        }
        Ok(Done::AsRecorded)
    }
}
