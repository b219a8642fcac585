//! Finds feedback that no job will read: answers that arrived while the reading job was ending, and
//! answers that were deleted or restored together with their customer.

use std::sync::Arc;
use std::time::Duration;

use shared::insight::themes::{self, FindThemes};
use shared::queue::Payload;

use crate::context::{WorkerContext, jittered};

const LOOK_EVERY: Duration = Duration::from_secs(30);

/// Keeps starting jobs for unread feedback.
pub(crate) async fn maintain(process: Arc<WorkerContext>) {
    loop {
        tokio::time::sleep(jittered(LOOK_EVERY)).await;
        let woken = process.upkeep(async |connection| themes::wake(connection).await).await;
        if let Some(pause) = process.services.themes.note(&woken) {
            tokio::time::sleep(pause).await;
        }
        if woken.is_ok_and(|woken| woken > 0) {
            process.notifier.notify(FindThemes::QUEUE);
        }
    }
}
