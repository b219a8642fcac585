//! Keeps scores current: every few seconds, workers score the customers whose data changed.

use std::sync::Arc;
use std::time::Duration;

use shared::Result;
use shared::error::ErrorClass;
use shared::insight::scoring;
use shared::platform::db::Transaction;
use uuid::Uuid;

use crate::context::{WorkerContext, jittered};
use crate::maintenance::services::Failing;

/// Reports must not be older than a minute, which leaves nearly all of it for the scoring itself.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Keeps scoring stale customers.
pub(crate) async fn maintain(process: Arc<WorkerContext>) {
    let failing = Failing::default();
    loop {
        tokio::time::sleep(jittered(LOOK_EVERY)).await;
        if let Some(pause) = process.services.scores.note(&score_all(&process, &failing).await) {
            tokio::time::sleep(pause).await;
        }
    }
}

/// Scores the stale customers of all workspaces. If a workspace fails, the others are still scored;
/// the first error is returned.
async fn score_all(process: &WorkerContext, failing: &Failing) -> Result<()> {
    let mut busy = process.upkeep(async |connection| scoring::marked(connection).await).await?;
    busy.retain(|workspace_id| failing.is_due(*workspace_id));
    let mut first = Ok(());
    // Workspaces take turns, so that none waits for a large one to finish.
    while !busy.is_empty() && !process.stopping.is_cancelled() {
        let mut rest = Vec::new();
        for workspace_id in busy {
            let scored = score_some(process, workspace_id).await;
            match scored {
                Ok(true) => rest.push(workspace_id),
                Ok(false) => failing.note(workspace_id, &scored),
                Err(error) if error.class() == ErrorClass::Connection => return Err(error),
                Err(_) => failing.note(workspace_id, &scored),
            }
            first = first.and(scored.map(drop));
        }
        busy = rest;
    }
    first
}

/// Scores some stale customers of a workspace. Returns whether there are more.
async fn score_some(process: &WorkerContext, workspace_id: Uuid) -> Result<bool> {
    let mut transaction = Transaction::begin(&process.pool).await?;
    let has_more = scoring::maintain(&mut transaction, workspace_id).await?;
    transaction.commit().await?;
    Ok(has_more)
}
