//! Scores that follow what changes: every few seconds this worker, or another, scores the customers of
//! whom something changed.

use std::sync::Arc;
use std::time::Duration;

use shared::Result;
use shared::error::ErrorClass;
use shared::insight::scoring;
use shared::platform::db::Transaction;
use uuid::Uuid;

use crate::context::{WorkerContext, jittered};
use crate::maintenance::services::Failing;

/// Reports are to be no older than a minute; this leaves nearly all of it for the work itself.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Looks for workspaces in which something is to be scored, for ever.
pub(crate) async fn maintain(process: Arc<WorkerContext>) {
    let failing = Failing::default();
    loop {
        tokio::time::sleep(jittered(LOOK_EVERY)).await;
        if let Some(pause) = process.services.scores.note(&tend_all(&process, &failing).await) {
            tokio::time::sleep(pause).await;
        }
    }
}

/// Scores what waits. Where that fails, others are scored all the same; the first error is returned.
async fn tend_all(process: &WorkerContext, failing: &Failing) -> Result<()> {
    let mut busy = process.upkeep(async |connection| scoring::marked(connection).await).await?;
    busy.retain(|workspace_id| failing.is_due(*workspace_id));
    let mut first = Ok(());
    // Each workspace in its turn, so that nobody waits for a large one to be done.
    while !busy.is_empty() && !process.stopping.is_cancelled() {
        let mut rest = Vec::new();
        for workspace_id in busy {
            let tended = tend_one(process, workspace_id).await;
            match tended {
                Ok(true) => rest.push(workspace_id),
                Ok(false) => failing.note(workspace_id, &tended),
                Err(error) if error.class() == ErrorClass::Connection => return Err(error),
                Err(_) => failing.note(workspace_id, &tended),
            }
            first = first.and(tended.map(drop));
        }
        busy = rest;
    }
    first
}

async fn tend_one(process: &WorkerContext, workspace_id: Uuid) -> Result<bool> {
    let mut step = Transaction::begin(&process.pool).await?;
    let is_more = scoring::maintain(&mut step, workspace_id).await?;
    step.commit().await?;
    Ok(is_more)
}
