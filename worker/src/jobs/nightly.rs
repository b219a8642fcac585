//! The nightly run: starts a workspace's runs, and ends when all of them have ended.

use std::time::Duration;

use shared::Error;
use shared::platform::db;
use shared::queue::{self, Payload, Progress};
use shared::schedule::nightly::{Night, Nightly};

use crate::queue::job::{Done, Running, Stop, Task};

/// How long it waits between two checks of its runs: a tenth of the time taken so far, within these
/// bounds.
const SOONEST: Duration = Duration::from_secs(1);
const LATEST: Duration = Duration::from_secs(30);

impl Task for Nightly {
    /// Each part of the night is a job of its own, so that a failed or retried part delays no
    /// other.
    async fn run(self, job: &mut Running) -> Result<Done, Stop> {
        let existing = queue::get(&mut *job.connection().await?, job.workspace_id(), job.id()).await?;
        let mut night = Night::of(&existing, self.date);
        // Nothing more is recorded from here: progress of the other parts must not reset this job's
        // error count.
        begin(job, &mut night).await?;
        night.look(&mut *job.connection().await?, job.workspace_id()).await?;
        let waited = (db::now() - existing.created_at).to_std().unwrap_or_default();
        night.ended = night.done() == night.total();
        record(job, &night).await?;
        if !night.ended {
            return Err(Stop::Snooze((waited / 10).clamp(SOONEST, LATEST)));
        }
        match night.failed()[..] {
            [] => Ok(Done::AsRecorded),
            ref failed => Err(Stop::fail(format!("{} did not succeed", failed.join(", ")))),
        }
    }
}

/// Starts the parts that have not started, each in its own step. Returns the error of the first
/// part that cannot start now.
async fn begin(job: &mut Running, night: &mut Night) -> Result<(), Stop> {
    let mut begun = Ok(());
    for kind in night.missing() {
        match begin_part(job, night, kind).await {
            Ok(()) => job.notifier().notify(Nightly::QUEUE),
            Err(Stop::Error(error)) if !matches!(error, Error::Superseded) => {
                if begun.is_ok() {
                    begun = Err(Stop::of_part(format!("{kind} cannot begin"), error));
                }
            }
            Err(stop) => return Err(stop),
        }
    }
    begun
}

async fn begin_part(job: &mut Running, night: &mut Night, kind: &str) -> Result<(), Stop> {
    let (workspace_id, request_id) = (job.workspace_id(), job.request_id().map(str::to_owned));
    let mut with = night.clone();
    let mut step = job.begin().await?;
    with.begin(&mut step, workspace_id, request_id.as_deref(), kind).await?;
    step.commit(progress(&with), &result(&with)?).await?;
    *night = with;
    Ok(())
}

async fn record(job: &mut Running, night: &Night) -> Result<(), Stop> {
    job.begin().await?.commit(progress(night), &result(night)?).await
}

fn progress(night: &Night) -> Progress {
    let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    Progress { done: count(night.done()), total: Some(count(night.total())) }
}

fn result(night: &Night) -> shared::Result<serde_json::Value> {
    Ok(serde_json::to_value(night)?)
}
