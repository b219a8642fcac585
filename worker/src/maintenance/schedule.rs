//! The schedules: starts their jobs when they are due.
//!
//! Every worker sleeps until the next schedule is due, by the database's time, and then looks. A tick of the
//! scheduler triggers further looks, which find what was created, changed or left by others meanwhile. The database
//! ensures that a slot has one job, see [`schedule`].

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use rand::seq::SliceRandom;
use shared::error::ErrorClass;
use shared::platform::db::{self, Transaction};
use shared::schedule::{self, Started};
use shared::{Error, Result, jobs};
use sqlx::PgConnection;
use tokio::sync::Notify;
use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};
use uuid::Uuid;

use crate::context::{WorkerContext, jittered};

/// Every two seconds: seconds, minutes, hours, days, months, days of the week. It bounds how late a schedule starts
/// that was created after the last look.
const TICKS: &str = "*/2 * * * * *";
/// Spreads the looks of workers that tick in the same second.
const SPREAD: Duration = Duration::from_millis(500);
/// How long a worker sleeps if nothing is due: the ticks wake it.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);
/// How many due schedules are read at once.
const BATCH: i64 = 1_000;
/// How many schedules are dealt with at a time.
const CONCURRENCY: usize = 4;
/// How often a transaction is attempted when others conflict with it.
const ATTEMPTS: usize = 3;

/// Starts due jobs at once, and from then on until the process stops.
pub(crate) async fn keep(process: Arc<WorkerContext>) {
    let tick = Arc::new(Notify::new());
    let scheduler = ticks(tick.clone()).await;
    if let Err(error) = &scheduler {
        // Only a defect causes this: the expression is a constant.
        tracing::error!(%error, "the scheduler does not tick");
    }
    let looking = async {
        loop {
            let wait = start_due(&process).await;
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = tick.notified() => tokio::time::sleep(jittered(SPREAD / 2).min(wait)).await,
            }
        }
    };
    process.stopping.run_until_cancelled(looking).await;
    if let Ok(mut scheduler) = scheduler
        && let Err(error) = scheduler.shutdown().await
    {
        tracing::debug!(%error, "the scheduler did not stop");
    }
}

/// Wakes the loop at each tick.
async fn ticks(tick: Arc<Notify>) -> std::result::Result<JobScheduler, JobSchedulerError> {
    let scheduler = JobScheduler::new().await?;
    let job = Job::new_async(TICKS, move |_, _| {
        tick.notify_one();
        Box::pin(async {})
    })?;
    scheduler.add(job).await?;
    scheduler.start().await?;
    Ok(scheduler)
}

/// Starts the jobs of schedules that are due. Returns how long until the next one is due. Slots that are missed while
/// the database is unavailable are dealt with later.
async fn start_due(process: &WorkerContext) -> Duration {
    let looked = look(process).await;
    match process.services.schedule.note(&looked) {
        Some(pause) => pause,
        None => looked.unwrap_or(LONGEST_SLEEP),
    }
}

async fn look(process: &WorkerContext) -> Result<Duration> {
    loop {
        let paused = process.steering.paused();
        let look = async |connection: &mut PgConnection| schedule::due(connection, BATCH, paused.suspended()).await;
        let (mut due, wait) = process.upkeep(look).await?;
        let is_full = due.len() as i64 == BATCH;
        // Workers that look at the same time begin with different schedules.
        due.shuffle(&mut rand::rng());
        let dealt = stream::iter(due).map(|(workspace_id, id)| deal_with(process, workspace_id, id));
        let dealt: Vec<Result<bool>> = dealt.buffer_unordered(CONCURRENCY).collect().await;
        let has_started = dealt.iter().any(|dealt| matches!(dealt, Ok(true)));
        dealt.into_iter().collect::<Result<Vec<bool>>>()?;
        // What other workers deal with is still due, but not for this one.
        if !is_full || !has_started {
            return Ok(wait.unwrap_or(LONGEST_SLEEP).min(LONGEST_SLEEP));
        }
    }
}

/// Deals with a schedule that is due. Returns whether it did: another worker may have been faster.
async fn deal_with(process: &WorkerContext, workspace_id: Uuid, id: Uuid) -> Result<bool> {
    let mut started = start(process, workspace_id, id).await;
    for _ in 1..ATTEMPTS {
        if let Err(Error::Repeat(_)) = started {
            started = start(process, workspace_id, id).await;
        }
    }
    match started {
        Ok(Some(started)) => {
            for Started { slot, job } in started {
                tracing::info!(%workspace_id, schedule = %id, %slot, kind = job.kind, job = %job.id, "scheduled job started");
                if let Some(queue) = jobs::queue_of(&job.kind) {
                    process.notifier.notify(queue);
                }
            }
            Ok(true)
        }
        Ok(None) => Ok(false),
        Err(error) => {
            if error.class() != ErrorClass::Connection {
                // Other schedules are still dealt with, and this one delays none of them.
                process.upkeep(async |connection| schedule::postpone(connection, workspace_id, id).await).await?;
            }
            Err(error)
        }
    }
}

async fn start(process: &WorkerContext, workspace_id: Uuid, id: Uuid) -> Result<Option<Vec<Started>>> {
    let mut transaction = Transaction::begin(&process.pool).await?;
    let now = db::database_now(&mut transaction).await?;
    let started = schedule::start(&mut transaction, workspace_id, id, now).await?;
    transaction.commit().await?;
    Ok(started)
}
