//! Scores that follow what changes: every few seconds this worker, or another, scores the customers of
//! whom something changed.

use std::sync::Arc;
use std::time::Duration;

use shared::Result;
use shared::db::Step;
use shared::scores;
use uuid::Uuid;

use crate::process::{Process, jittered};

/// Reports are to be no older than a minute; this leaves nearly all of it for the work itself.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Looks for workspaces in which something is to be scored, for ever.
pub(crate) async fn tend(process: Arc<Process>) {
    loop {
        tokio::time::sleep(jittered(LOOK_EVERY)).await;
        if let Err(error) = tend_all(&process).await {
            tracing::debug!(%error, "scores cannot be brought up to date now");
        }
    }
}

async fn tend_all(process: &Process) -> Result<()> {
    let mut busy = process.upkeep(async |connection| scores::marked(connection).await).await?;
    // Each workspace in its turn, so that nobody waits for a large one to be done.
    while !busy.is_empty() && !process.stopping.is_cancelled() {
        let mut rest = Vec::new();
        for workspace_id in busy {
            if tend_one(process, workspace_id).await? {
                rest.push(workspace_id);
            }
        }
        busy = rest;
    }
    Ok(())
}

async fn tend_one(process: &Process, workspace_id: Uuid) -> Result<bool> {
    let mut step = Step::begin(&process.pool).await?;
    let is_more = scores::tend(&mut step, workspace_id).await?;
    step.commit().await?;
    Ok(is_more)
}
