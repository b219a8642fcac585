//! Deletes rows of a workspace that nothing needs any more.

use shared::queue::{self, Progress};
use shared::schedule::nightly::{self, CleanUp, Cleaned};

use crate::queue::job::{Done, Running, Stop, Task};

/// Rows deleted by one step at most.
const BATCH: i64 = 10_000;

impl Task for CleanUp {
    async fn run(self, job: &mut Running) -> Result<Done, Stop> {
        let workspace_id = job.workspace_id();
        let before = queue::get(&mut *job.connection().await?, workspace_id, job.id()).await?;
        let before = before.result.and_then(|result| serde_json::from_value(result).ok());
        let mut cleaned: Cleaned = before.unwrap_or_default();
        loop {
            let mut step = job.begin().await?;
            let deleted = nightly::clean_up(&mut step, workspace_id, BATCH).await?;
            cleaned.deleted += deleted;
            let result = serde_json::to_value(&cleaned).map_err(shared::Error::from)?;
            let done = i64::try_from(cleaned.deleted).unwrap_or(i64::MAX);
            step.commit(Progress { done, total: None }, &result).await?;
            if deleted == 0 {
                return Ok(Done::AsRecorded);
            }
        }
    }
}
