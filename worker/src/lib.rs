//! The worker: claims jobs from the ledger in PostgreSQL and runs them under apalis.
//!
//! The way of a job: [`queue::claim`] takes it from the ledger into a buffer, [`queue::buffer`] hands it to
//! apalis, [`queue::run`](mod@queue::run) runs its handler, [`queue::acknowledge`] writes how it ended. Meanwhile [`queue::leases`] keeps it, and
//! [`maintenance`] looks for jobs whose process died; those come back by way of [`queue::quarantine`].
//!
//! Mails are no jobs: [`mail`](mod@mail) takes them from the outbox to the server, over [`mail::smtp`].

pub mod cli;
mod context;
mod http;
pub mod jobs;
mod mail;
mod maintenance;
mod metrics;
pub mod queue;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use anyhow::{Context, bail};
use apalis::prelude::{Monitor, WorkerBuilder, WorkerBuilderExt};
use shared::platform::config::Settings;
use shared::platform::db;
use shared::platform::listen::AdminPort;
use shared::platform::telemetry::LogLimit;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::context::WorkerContext;
use crate::mail::Delivery;
use crate::queue::acknowledge::Acks;
use crate::queue::buffer::{Buffer, Ledger};
use crate::queue::job::Tasks;
use crate::queue::run::RunJob;

/// Of the time to stop in, what is kept for writing the last outcomes.
const TIME_TO_WRITE: Duration = Duration::from_secs(3);
/// How long cancelling the statements of dropped handlers may take.
const TIME_TO_CANCEL: Duration = Duration::from_secs(1);

/// Runs jobs of these kinds until `shutdown` is cancelled, then hands back what is not done in time.
///
/// # Errors
/// A queue of the settings that none of the kinds waits in. A database that is away is none.
pub async fn run(settings: Settings, tasks: Tasks, shutdown: CancellationToken) -> anyhow::Result<()> {
    let admin = AdminPort::At(settings.worker_admin());
    run_with(settings, tasks, admin, shutdown).await
}

/// As [`queue::run`], with a port for operators that may be bound already.
///
/// # Errors
/// As [`queue::run`].
pub async fn run_with(
    settings: Settings,
    tasks: Tasks,
    admin: AdminPort,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let mut queues = queues(&settings, &tasks)?;
    // No jobs wait there.
    let delivers = queues.iter().position(|queue| *queue == shared::mail::QUEUE).map(|place| queues.remove(place));
    let delivery = delivers.map(|_| Delivery::new(&settings)).transpose()?.map(Arc::new);
    let (acks, unwritten) = Acks::new();
    let process = WorkerContext::new(&settings, tasks, &queues, acks, delivery.clone())?;
    tracing::info!(
        queues = queues.join(","),
        mails = delivery.is_some(),
        concurrency = settings.worker.concurrency,
        "the worker starts"
    );

    let mut upkeep = JoinSet::new();
    upkeep.spawn(http::serve(process.clone(), admin));
    if !wait_for_schema(&process, &shutdown).await {
        return Ok(());
    }
    maintenance::measure_clock(&process).await;
    upkeep.spawn(maintenance::watch_clock(process.clone()));
    upkeep.spawn(queue::leases::keep(process.clone()));
    upkeep.spawn(maintenance::rescue(process.clone()));
    upkeep.spawn(maintenance::sweep(process.clone()));
    upkeep.spawn(maintenance::listen(process.clone()));
    if settings.worker.schedule {
        upkeep.spawn(maintenance::schedule::keep(process.clone()));
    }
    let keep = Duration::from_secs(u64::from(settings.jobs.keep_days) * 24 * 60 * 60);
    upkeep.spawn(maintenance::prune(process.clone(), keep));
    upkeep.spawn(maintenance::scores::maintain(process.clone()));
    upkeep.spawn(maintenance::themes::maintain(process.clone()));
    let ended = CancellationToken::new();
    let acks = tokio::spawn(queue::acknowledge::write_all(process.clone(), unwritten, ended.clone().cancelled_owned()));

    let mails = delivery.map(|delivery| tokio::spawn(mail::run(process.clone(), delivery)));
    let mut jobs = tokio::spawn(run_jobs(process.clone(), settings.worker.concurrency));
    tokio::select! {
        () = shutdown.cancelled() => (),
        // Nothing ends it but a defect.
        failed = &mut jobs => return failed?,
    }
    tracing::info!("the worker stops");
    process.stopping.cancel();
    let time = Duration::from_secs(settings.worker.shutdown_s);
    let in_time = tokio::time::timeout(time, async {
        let (aborting, work) = (process.aborting.clone(), time.saturating_sub(TIME_TO_WRITE));
        upkeep.spawn(async move {
            tokio::time::sleep(work).await;
            aborting.cancel();
        });
        let jobs = jobs.await;
        ended.cancel();
        let _ = acks.await;
        if let Some(mails) = mails {
            let _ = mails.await;
        }
        jobs
    });
    match in_time.await {
        Ok(jobs) => jobs??,
        Err(_) => tracing::warn!("not everything could be handed back in time; the leases of the rest run out"),
    }
    // What dropped handlers had under way is cancelled and rolled back.
    let _ = tokio::time::timeout(TIME_TO_CANCEL, process.pool.close()).await;
    tracing::info!("the worker has stopped");
    Ok(())
}

/// The queues to work on: those of the settings, or that of the mails and all in which a known kind waits.
fn queues(settings: &Settings, tasks: &Tasks) -> anyhow::Result<Vec<&'static str>> {
    let mut known = tasks.queues();
    known.push(shared::mail::QUEUE);
    known.sort_unstable();
    if let Some(unknown) = settings.worker.queues.iter().find(|queue| !known.contains(&queue.as_str())) {
        bail!("worker.queues: there is no queue {unknown:?}, only {}", known.join(", "));
    }
    let all = settings.worker.queues.is_empty();
    Ok(known.into_iter().filter(|queue| all || settings.worker.queues.iter().any(|wanted| wanted == queue)).collect())
}

/// Waits until the database is there and has the schema of this version. False: told to stop.
async fn wait_for_schema(process: &WorkerContext, shutdown: &CancellationToken) -> bool {
    let (mut told, limit) = (false, LogLimit::each_minute());
    loop {
        let pending = tokio::select! {
            () = shutdown.cancelled() => return false,
            pending = process.upkeep(async |connection| db::pending_migrations(connection).await) => pending,
        };
        match pending {
            Ok(pending) if pending.is_empty() => {
                process.has_schema.store(true, Relaxed);
                return true;
            }
            Ok(_) if !told => {
                told = true;
                tracing::warn!("the database lacks migrations; waiting for `crm-api migrate`");
            }
            // That the database is away is told where that is noticed.
            Ok(_) | Err(shared::Error::Unavailable(_)) => (),
            Err(error) if limit.allows().is_some() => {
                tracing::error!(%error, "it cannot be told which migrations the database has");
            }
            Err(_) => (),
        }
        tokio::select! {
            () = shutdown.cancelled() => return false,
            () = tokio::time::sleep(Duration::from_secs(1)) => (),
        }
    }
}

/// Claims jobs and has apalis run them, one apalis worker for each queue and one for the jobs that
/// must run alone, until the process is stopping and everything has ended or was handed back.
async fn run_jobs(process: Arc<WorkerContext>, concurrency: usize) -> anyhow::Result<()> {
    let mut claimers = JoinSet::new();
    let mut monitor = Monitor::new().should_restart(|_, _| true);
    for queue in &process.queues {
        claimers.spawn(queue::claim::run(process.clone(), queue.clone()));
        claimers.spawn(queue::fairness::keep(process.clone(), queue.clone()));
        let (name, buffer, service) = (queue.name, queue.buffer.clone(), RunJob(process.clone()));
        monitor = monitor.register(move |_| {
            let worker = WorkerBuilder::new(name).backend(Ledger(buffer.clone()));
            worker.concurrency(concurrency).build(service.clone())
        });
    }
    let (suspects, service) = (Arc::<Buffer>::default(), RunJob(process.clone()));
    claimers.spawn(queue::quarantine::run_quarantined(process.clone(), suspects.clone()));
    // No limit here: a suspect is alone at first, and then gets on beside the next one.
    monitor = monitor
        .register(move |_| WorkerBuilder::new("suspects").backend(Ledger(suspects.clone())).build(service.clone()));

    let stopping = process.stopping.clone();
    let stopped = async move {
        stopping.cancelled().await;
        Ok(())
    };
    monitor.run_with_signal(stopped).await.context("apalis ended")?;
    claimers.join_all().await;
    Ok(())
}
