//! The schedule: wakes every minute and starts the scheduled runs that are due.
//!
//! Every worker has a schedule. The database ensures that a run is started once, see
//! [`scheduled_runs`]; the scheduler's ticks only trigger the check.

use std::sync::Arc;
use std::time::Duration;

use chrono::NaiveDate;
use shared::Result;
use shared::error::ErrorClass;
use shared::platform::db::{self, Transaction};
use shared::queue::Payload;
use shared::schedule::nightly::Nightly;
use shared::schedule::scheduled_runs;
use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};
use uuid::Uuid;

use crate::context::{WorkerContext, jittered};

/// At the start of every minute: seconds, minutes, hours, days, months, days of the week.
const EACH_MINUTE: &str = "0 * * * * *";
/// Spreads the checks of workers that wake in the same second.
const SPREAD: Duration = Duration::from_secs(2);

/// Starts due runs at once, and then every minute until the process stops.
pub(crate) async fn keep(process: Arc<WorkerContext>) {
    start_due(&process).await;
    if let Err(error) = each_minute(&process).await {
        // Only a defect causes this: the expression is a constant.
        tracing::error!(%error, "the schedule has ended");
    }
}

async fn each_minute(process: &Arc<WorkerContext>) -> Result<(), JobSchedulerError> {
    let mut scheduler = JobScheduler::new().await?;
    let ticking = process.clone();
    let tick = Job::new_async(EACH_MINUTE, move |_, _| {
        let process = ticking.clone();
        Box::pin(async move {
            tokio::time::sleep(jittered(SPREAD).saturating_sub(SPREAD / 2)).await;
            start_due(&process).await;
        })
    })?;
    scheduler.add(tick).await?;
    scheduler.start().await?;
    process.stopping.cancelled().await;
    scheduler.shutdown().await
}

/// Starts due runs. Runs that are missed while the database is unavailable are started later.
async fn start_due(process: &WorkerContext) {
    match begin_due(process).await {
        Ok(0) => {}
        Ok(count) => tracing::info!(count, "nightly runs started"),
        Err(error) => {
            process.services.schedule.failed(&error);
            return;
        }
    }
    process.services.schedule.succeeded();
}

async fn begin_due(process: &WorkerContext) -> Result<usize> {
    let due = process.upkeep(async |connection| {
        let now = db::database_now(connection).await?;
        scheduled_runs::due_workspaces(connection, Nightly::KIND, now).await
    });
    let due = due.await?;
    let (mut begun, mut first) = (0, Ok(()));
    for (workspace_id, date) in due {
        match begin(process, workspace_id, date).await {
            Ok(is_new) => begun += usize::from(is_new),
            Err(error) if error.class() == ErrorClass::Connection => return Err(error),
            // The runs of other workspaces are still started.
            Err(error) => first = first.and(Err(error)),
        }
    }
    first.map(|()| begun)
}

async fn begin(process: &WorkerContext, workspace_id: Uuid, date: NaiveDate) -> Result<bool> {
    let mut transaction = Transaction::begin(&process.pool).await?;
    let (job, is_new) = scheduled_runs::begin(&mut transaction, workspace_id, date, &Nightly { date }).await?;
    transaction.commit().await?;
    if is_new {
        tracing::info!(%workspace_id, %date, job = %job.id, "nightly run started");
        process.notifier.notify(Nightly::QUEUE);
    }
    Ok(is_new)
}
