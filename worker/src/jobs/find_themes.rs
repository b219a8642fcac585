//! Reads new answers, and recomputes the themes of feedback when that is due.

use serde_json::Value;
use shared::insight::themes::{self, FindThemes, Found, Stage, Summary, ThemePreview};
use shared::queue::{self, Progress};
use uuid::Uuid;

use crate::queue::job::{Done, JobStep, Running, Stop, Task};

/// How many themes a dry run lists.
const MAX_LISTED: usize = 100;

impl Task for FindThemes {
    async fn run(self, job: &mut Running) -> Result<Done, Stop> {
        let workspace_id = job.workspace_id();
        if self.dry_run {
            let found = themes::find(&mut *job.connection().await?, workspace_id).await?;
            return Ok(Done::With(result(&preview(found.comments, &found.themes))?));
        }
        let resumed = queue::resume::<Stage, Summary>(&mut *job.connection().await?, &job.claimed).await?;
        let (mut stage, mut summary) = resumed.map_or((Stage::Read, Summary::default()), |at| (at.cursor, at.result));
        read(job, workspace_id, stage, &mut summary).await?;
        if stage == Stage::Read && themes::is_due(&mut *job.connection().await?, workspace_id).await? {
            stage = Stage::Find;
            record(job.begin().await?, stage, &summary).await?;
        }
        while stage != Stage::Read {
            stage = find(job, workspace_id, stage, &mut summary).await?;
        }
        Ok(Done::With(result(&summary)?))
    }
}

async fn record(step: JobStep<'_>, stage: Stage, summary: &Summary) -> Result<(), Stop> {
    let cursor = serde_json::to_value(stage).map_err(shared::Error::from)?;
    step.commit_at(Progress { done: summary.read, total: None }, &result(summary)?, Some(&cursor)).await
}

fn result(summary: &Summary) -> Result<Value, Stop> {
    Ok(serde_json::to_value(summary).map_err(shared::Error::from)?)
}

fn preview(comments: i64, themes: &[Found]) -> Summary {
    let listed = themes.iter().take(MAX_LISTED);
    let listed = listed.map(|theme| ThemePreview { label: theme.label.clone(), count: theme.count as i64 });
    let preview = Some(listed.collect());
    Summary { comments, themes: themes.len(), dry_run: true, preview, ..Summary::default() }
}

/// Reads answers page by page; the unread answers themselves are the cursor. Once finding themes
/// has begun, the job's recorded progress stays at that stage: answers that arrive meanwhile are
/// recorded with the next stage, so that they do not reset the error count of the current one.
async fn read(job: &mut Running, workspace_id: Uuid, stage: Stage, summary: &mut Summary) -> Result<(), Stop> {
    let begun = (stage != Stage::Read).then(|| summary.clone());
    while themes::is_unread(&mut *job.connection().await?, workspace_id).await? {
        let mut step = job.begin().await?;
        let read = themes::read_step(&mut step, workspace_id).await?;
        summary.read += i64::try_from(read).unwrap_or(0);
        record(step, stage, begun.as_ref().unwrap_or(summary)).await?;
        // The remaining answers belong to open transactions, which notify a worker when they
        // commit.
        if read == 0 {
            break;
        }
    }
    Ok(())
}

/// Runs a stage and returns the next: finds the themes, assigns answers to them page by page, and
/// then lists them.
async fn find(job: &mut Running, workspace_id: Uuid, stage: Stage, summary: &mut Summary) -> Result<Stage, Stop> {
    let (step, next) = match stage {
        Stage::Read => return Ok(stage),
        Stage::Find => {
            let found = themes::find(&mut *job.connection().await?, workspace_id).await?;
            (summary.found, summary.themes, summary.comments) = (true, found.themes.len(), found.comments);
            let mut step = job.begin().await?;
            themes::keep(&mut step, workspace_id, &found.themes).await?;
            (step, Stage::Assign(Uuid::nil()))
        }
        Stage::Assign(after) => {
            let mut step = job.begin().await?;
            let last = themes::assign_step(&mut step, workspace_id, after).await?;
            (step, last.map_or(Stage::List, Stage::Assign))
        }
        Stage::List => {
            let mut step = job.begin().await?;
            themes::list_found(&mut step, workspace_id, summary.comments).await?;
            (step, Stage::Read)
        }
    };
    record(step, next, summary).await?;
    Ok(next)
}
