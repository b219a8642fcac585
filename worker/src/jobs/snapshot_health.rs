//! Scores all customers and keeps the scores of the day, page by page.

use shared::insight::health::{self, SnapshotHealth};
use shared::queue;

use crate::queue::job::{Done, Running, Stop, Task};

impl Task for SnapshotHealth {
    async fn run(self, job: &mut Running) -> Result<Done, Stop> {
        let existing = queue::get(&mut *job.connection().await?, job.workspace_id(), job.id()).await?;
        let workspace_id = job.workspace_id();
        let mut walk = health::standing_walk(&existing, self);
        while !walk.is_done() {
            let mut step = job.begin().await?;
            health::snapshot_step(&mut step, workspace_id, &mut walk).await?;
            step.commit(walk.progress(), &serde_json::to_value(&walk).map_err(shared::Error::from)?).await?;
        }
        Ok(Done::With(walk.result()))
    }
}
