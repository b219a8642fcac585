//! Reads what was answered, and finds anew what people talk about when that is due.

use serde_json::{Value, json};
use shared::insight::themes::{self, FindThemes, Found, Stage, Summary};
use shared::queue::{self, Progress};
use uuid::Uuid;

use crate::queue::job::{Done, JobStep, Running, Stop, Task};

/// Themes that a dry run tells.
const TOLD: usize = 100;

impl Task for FindThemes {
    async fn run(self, job: &mut Running) -> Result<Done, Stop> {
        let workspace_id = job.workspace_id();
        if self.dry_run {
            let found = themes::find(&mut *job.connection().await?, workspace_id).await?;
            return Ok(Done::With(preview(found.comments, &found.themes)));
        }
        let existing = queue::get(&mut *job.connection().await?, workspace_id, job.id()).await?;
        let mut summary = Summary::resume(&existing);
        read(job, workspace_id, &mut summary).await?;
        if summary.stage.is_none() && themes::is_due(&mut *job.connection().await?, workspace_id).await? {
            summary.stage = Some(Stage::Find);
            record(job.begin().await?, &summary).await?;
        }
        while let Some(stage) = summary.stage {
            find(job, workspace_id, stage, &mut summary).await?;
        }
        Ok(Done::With(told(&summary)?))
    }
}

async fn record(step: JobStep<'_>, summary: &Summary) -> Result<(), Stop> {
    step.commit(Progress { done: summary.read, total: None }, &told(summary)?).await
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
///
/// Where the finding has begun, the job stands there: what an attempt after it reads is recorded with the
/// next stage, so that errors of the present one are counted however much is answered meanwhile.
async fn read(job: &mut Running, workspace_id: Uuid, summary: &mut Summary) -> Result<(), Stop> {
    let begun = summary.stage.is_some().then(|| summary.clone());
    while themes::is_unread(&mut *job.connection().await?, workspace_id).await? {
        let mut step = job.begin().await?;
        let read = themes::read_step(&mut step, workspace_id).await?;
        summary.read += i64::try_from(read).unwrap_or(0);
        record(step, begun.as_ref().unwrap_or(summary)).await?;
        // What is left belongs to transactions that are at work; they wake a worker when they are done.
        if read == 0 {
            break;
        }
    }
    Ok(())
}

/// Does a stage: finds the themes among all that was read, looks the answers through for them page by page,
/// and then lists them.
async fn find(job: &mut Running, workspace_id: Uuid, stage: Stage, summary: &mut Summary) -> Result<(), Stop> {
    match stage {
        Stage::Find => {
            let found = themes::find(&mut *job.connection().await?, workspace_id).await?;
            (summary.found, summary.themes, summary.comments) = (true, found.themes.len(), found.comments);
            summary.stage = Some(Stage::Assign(Uuid::nil()));
            let mut step = job.begin().await?;
            themes::keep(&mut step, workspace_id, &found.themes).await?;
            record(step, summary).await
        }
        Stage::Assign(after) => {
            let mut step = job.begin().await?;
            let last = themes::assign_step(&mut step, workspace_id, after).await?;
            summary.stage = Some(last.map_or(Stage::List, Stage::Assign));
            record(step, summary).await
        }
        Stage::List => {
            summary.stage = None;
            let mut step = job.begin().await?;
            themes::list_found(&mut step, workspace_id, summary.comments).await?;
            record(step, summary).await
        }
    }
}
