//! Answers that nobody has read yet: those that came while the job that reads them was about to end,
//! and those that went with their customer or came back.

use std::sync::Arc;
use std::time::Duration;

use shared::insight::themes::{self, FindThemes};
use shared::queue::Payload;

use crate::context::{WorkerContext, jittered};

const LOOK_EVERY: Duration = Duration::from_secs(30);

/// Has them read, for ever.
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
