//! The nightly run: begins the runs of a workspace, and ends when all of them have.

use std::time::Duration;

use shared::db;
use shared::jobs::{self, Progress};
use shared::nightly::{self, Night, Nightly};

use crate::task::{Done, Running, Stop, Task};

/// Rows deleted by one step at most.
const CLEAN_BATCH: i64 = 10_000;
/// How long it waits between two looks at its runs: a tenth of what it has taken so far, within these.
const SOONEST: Duration = Duration::from_secs(1);
const LATEST: Duration = Duration::from_secs(30);

impl Task for Nightly {
    async fn run(self, job: &mut Running) -> Result<Done, Stop> {
        let standing = jobs::get(&mut *job.connection().await?, job.workspace_id(), job.id()).await?;
        let mut night = Night::of(&standing, self.date);
        if night.runs.is_empty() || night.ended {
            begin(job, &mut night).await?;
        }
        night.look(&mut *job.connection().await?, job.workspace_id()).await?;
        let waited = (db::now() - standing.created_at).to_std().unwrap_or_default();
        let all_ended = night.done() == night.runs.len();
        record(job, &night).await?;
        if !all_ended {
            return Err(Stop::Snooze((waited / 10).clamp(SOONEST, LATEST)));
        }
        clean_up(job, &mut night).await?;
        night.ended = true;
        record(job, &night).await?;
        match night.failed()[..] {
            [] => Ok(Done::AsRecorded),
            ref failed => Err(Stop::fail(format!("{} did not succeed", failed.join(", ")))),
        }
    }
}

async fn begin(job: &mut Running, night: &mut Night) -> Result<(), Stop> {
    let (workspace_id, request_id) = (job.workspace_id(), job.request_id().map(str::to_owned));
    let mut step = job.begin().await?;
    night.begin(&mut step, workspace_id, request_id.as_deref()).await?;
    step.commit(progress(night), &result(night)?).await?;
    job.doorbell().ring("workflows");
    Ok(())
}

async fn record(job: &mut Running, night: &Night) -> Result<(), Stop> {
    job.begin().await?.commit(progress(night), &result(night)?).await
}

async fn clean_up(job: &mut Running, night: &mut Night) -> Result<(), Stop> {
    loop {
        let workspace_id = job.workspace_id();
        let mut step = job.begin().await?;
        let cleaned = nightly::clean_up(&mut step, workspace_id, CLEAN_BATCH).await?;
        night.cleaned += cleaned;
        step.commit(progress(night), &result(night)?).await?;
        if cleaned == 0 {
            return Ok(());
        }
    }
}

fn progress(night: &Night) -> Progress {
    let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    Progress { done: count(night.done()), total: Some(count(night.runs.len())) }
}

fn result(night: &Night) -> shared::Result<serde_json::Value> {
    Ok(serde_json::to_value(night)?)
}
