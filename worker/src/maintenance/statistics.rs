//! Keeps PostgreSQL's statistics of tables that grow fast true enough.

use std::sync::Arc;
use std::time::Duration;

use shared::Result;
use shared::platform::statistics;

use crate::context::{WorkerContext, jittered};

/// While it has not looked, requests read the whole of a table that was empty before.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Keeps analyzing the tables that have grown much.
pub(crate) async fn keep(process: Arc<WorkerContext>) {
    loop {
        tokio::time::sleep(jittered(LOOK_EVERY)).await;
        let refreshed = refresh(&process).await;
        if let Some(pause) = process.services.statistics.note(&refreshed) {
            tokio::time::sleep(pause).await;
        }
    }
}

/// It may take seconds, so it uses none of the few connections for maintenance.
async fn refresh(process: &WorkerContext) -> Result<()> {
    let mut connection = process.pool.acquire().await?;
    let tables = statistics::refresh(&mut connection).await?;
    if !tables.is_empty() {
        tracing::info!(tables = tables.join(","), "analyzed tables that have grown");
    }
    Ok(())
}
