//! Reads what was answered, and finds anew what people talk about when that is due.

use serde_json::{Value, json};
use shared::jobs::Progress;
use shared::themes::{self, FindThemes, Found, Summary};
use uuid::Uuid;

use crate::task::{Done, Running, Stop, Task};

/// Themes that a dry run tells.
const TOLD: usize = 100;

impl Task for FindThemes {
    async fn run(self, job: &mut Running) -> Result<Done, Stop> {
        let workspace_id = job.workspace_id();
        if self.dry_run {
            let found = themes::find(&mut *job.connection().await?, workspace_id).await?;
            return Ok(Done::With(preview(found.comments, &found.themes)));
        }
        let mut summary = Summary::default();
        read(job, workspace_id, &mut summary).await?;
        if themes::is_due(&mut *job.connection().await?, workspace_id).await? {
            find(job, workspace_id, &mut summary).await?;
        }
        Ok(Done::With(told(&summary)?))
    }
}

fn told(summary: &Summary) -> Result<Value, Stop> {
    Ok(serde_json::to_value(summary).map_err(shared::Error::from)?)
}

fn preview(comments: i64, themes: &[Found]) -> Value {
    let told = |theme: &Found| json!({ "label": theme.label, "count": theme.count });
    let listed: Vec<Value> = themes.iter().take(TOLD).map(told).collect();
    json!({ "dry_run": true, "comments": comments, "themes": themes.len(), "preview": listed })
}

/// Reads answers, page by page, until none is left. What is left is the cursor.
async fn read(job: &mut Running, workspace_id: Uuid, summary: &mut Summary) -> Result<(), Stop> {
    while themes::is_unread(&mut *job.connection().await?, workspace_id).await? {
        let mut step = job.begin().await?;
        let read = themes::read_step(&mut step, workspace_id).await?;
        summary.read += i64::try_from(read).unwrap_or(0);
        step.commit(Progress { done: summary.read, total: None }, &told(summary)?).await?;
        // What is left belongs to transactions that are at work; they wake a worker when they are done.
        if read == 0 {
            break;
        }
    }
    Ok(())
}

/// Finds the themes among all that was read, looks all answers through for them, and then lists them.
/// One that dies on the way is done again from here: the same is found, and what was looked through
/// stays as it is.
async fn find(job: &mut Running, workspace_id: Uuid, summary: &mut Summary) -> Result<(), Stop> {
    let found = themes::find(&mut *job.connection().await?, workspace_id).await?;
    (summary.found, summary.themes, summary.comments) = (true, found.themes.len(), found.comments);
    let progress = Progress { done: summary.read, total: None };
    let mut step = job.begin().await?;
    themes::keep(&mut step, workspace_id, &found.themes).await?;
    step.commit(progress, &told(summary)?).await?;
    let mut after = Some(Uuid::nil());
    while let Some(last) = after {
        let mut step = job.begin().await?;
        after = themes::assign_step(&mut step, workspace_id, last).await?;
        step.commit(progress, &told(summary)?).await?;
    }
    let mut step = job.begin().await?;
    themes::list_found(&mut step, workspace_id, found.comments).await?;
    step.commit(progress, &told(summary)?).await
}
