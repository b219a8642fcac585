//! The schedule: wakes each minute and begins what the clock says is due.
//!
//! Every worker has one. That a run is begun once is decided by its slot in the database, see
//! [`clock`], and not by who wakes first: the scheduler's ticks only bring the question up.

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
/// Workers that wake in the same second do not all ask in the same millisecond.
const SPREAD: Duration = Duration::from_secs(2);

/// Looks at once, and then each minute until the process stops.
pub(crate) async fn keep(process: Arc<WorkerContext>) {
    look(&process).await;
    if let Err(error) = each_minute(&process).await {
        // Nothing but a defect: the expression is a constant.
        tracing::error!(%error, "the schedule cannot be kept");
    }
}

async fn each_minute(process: &Arc<WorkerContext>) -> Result<(), JobSchedulerError> {
    let mut scheduler = JobScheduler::new().await?;
    let ticking = process.clone();
    let tick = Job::new_async(EACH_MINUTE, move |_, _| {
        let process = ticking.clone();
        Box::pin(async move {
            tokio::time::sleep(jittered(SPREAD).saturating_sub(SPREAD / 2)).await;
            look(&process).await;
        })
    })?;
    scheduler.add(tick).await?;
    scheduler.start().await?;
    process.stopping.cancelled().await;
    scheduler.shutdown().await
}

/// Begins what is due. While the database is away nothing is: what was missed is made up later.
async fn look(process: &WorkerContext) {
    match begin_due(process).await {
        Ok(0) => {}
        Ok(count) => tracing::info!(count, "nightly runs have begun"),
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
            // Another's night begins all the same.
            Err(error) => first = first.and(Err(error)),
        }
    }
    first.map(|()| begun)
}

async fn begin(process: &WorkerContext, workspace_id: Uuid, date: NaiveDate) -> Result<bool> {
    let mut step = Transaction::begin(&process.pool).await?;
    let (job, is_new) = scheduled_runs::begin(&mut step, workspace_id, date, &Nightly { date }).await?;
    step.commit().await?;
    if is_new {
        tracing::info!(%workspace_id, %date, job = %job.id, "the nightly run has begun");
        process.notifier.notify(Nightly::QUEUE);
    }
    Ok(is_new)
}
