//! The worker: claims jobs from the queue in PostgreSQL and runs them with apalis.
//!
//! [`queue::claim`] claims a job into a buffer, [`queue::buffer`] passes it to apalis,
//! [`queue::run`](mod@queue::run) runs its handler, and [`queue::acknowledge`] records its outcome.
//! Meanwhile [`queue::leases`] renews its lease. [`maintenance`] rescues jobs whose process died,
//! and [`queue::quarantine`] runs them again.
//!
//! Emails are not jobs: [`mail`](mod@mail) sends them from the outbox to the server, over
//! [`mail::smtp`]. Nor are webhooks, which [`webhooks`](mod@webhooks) sends to their receivers.

pub mod cli;
mod context;
mod http;
pub mod jobs;
mod mail;
mod maintenance;
mod metrics;
pub mod queue;
mod steering;
mod webhooks;

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
use crate::webhooks::Webhooks;

/// The part of the shutdown timeout that is reserved for writing the last outcomes.
const TIME_TO_WRITE: Duration = Duration::from_secs(3);
/// How long cancelling the statements of dropped handlers may take.
const TIME_TO_CANCEL: Duration = Duration::from_secs(1);

/// Runs jobs of these kinds until `shutdown` is cancelled, then hands back the unfinished jobs.
///
/// # Errors
/// The settings name an unknown queue. An unavailable database is not an error.
pub async fn run(settings: Settings, tasks: Tasks, shutdown: CancellationToken) -> anyhow::Result<()> {
    let admin = AdminPort::At(settings.worker_admin());
    run_with(settings, tasks, admin, shutdown).await
}

/// Like [`run`](fn@run), with an admin port that may already be bound.
///
/// # Errors
/// As [`run`](fn@run).
pub async fn run_with(
    settings: Settings,
    tasks: Tasks,
    admin: AdminPort,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let mut queues = queues(&settings, &tasks)?;
    let worked_on = queues.clone();
    // The mail queue contains emails and the queue of webhooks deliveries, not jobs.
    let mut take = |name| queues.iter().position(|queue| *queue == name).map(|index| queues.remove(index));
    let (mails, hooks) = (take(shared::mail::QUEUE), take(shared::webhooks::QUEUE));
    // Random, so that its first digits, which `application_name` shows, differ from those of other workers.
    let worker_id = uuid::Builder::from_random_bytes(rand::random()).into_uuid();
    let delivery = mails.map(|_| Delivery::new(&settings, worker_id)).transpose()?.map(Arc::new);
    let hooks = hooks.map(|_| Webhooks::new(&settings, worker_id)).transpose()?.map(Arc::new);
    let (acks, unwritten) = Acks::new();
    let process = WorkerContext::new(&settings, tasks, &queues, acks, (delivery.clone(), hooks.clone()), worker_id)?;
    tracing::info!(
        queues = queues.join(","),
        worker = %worker_id,
        email = delivery.is_some(),
        webhooks = hooks.is_some(),
        concurrency = settings.worker.concurrency,
        "worker started"
    );

    let mut upkeep = JoinSet::new();
    upkeep.spawn(http::serve(process.clone(), admin));
    let reading = process.clone();
    upkeep.spawn(async move { reading.gauges.keep().await });
    if !wait_for_schema(&process, &shutdown).await {
        return Ok(());
    }
    let worker = steering::registration(&process, &worked_on);
    if !steering::begin(&process, &worker, &shutdown).await {
        return Ok(());
    }
    maintenance::measure_clock(&process).await;
    upkeep.spawn(steering::keep(process.clone(), worker));
    upkeep.spawn(maintenance::watch_clock(process.clone()));
    upkeep.spawn(mail::hold::watch(process.clone()));
    upkeep.spawn(queue::leases::keep(process.clone()));
    upkeep.spawn(maintenance::rescue(process.clone()));
    upkeep.spawn(maintenance::sweep(process.clone()));
    upkeep.spawn(maintenance::listen(process.clone()));
    if settings.worker.schedule {
        upkeep.spawn(maintenance::schedule::keep(process.clone()));
    }
    let keep = Duration::from_secs(u64::from(settings.jobs.keep_days) * 24 * 60 * 60);
    upkeep.spawn(maintenance::prune(process.clone(), keep));
    upkeep.spawn(maintenance::numbering::keep(process.clone()));
    upkeep.spawn(maintenance::scores::maintain(process.clone()));
    upkeep.spawn(maintenance::themes::maintain(process.clone()));
    upkeep.spawn(maintenance::statistics::keep(process.clone()));
    let ended = CancellationToken::new();
    let acks = tokio::spawn(queue::acknowledge::write_all(process.clone(), unwritten, ended.clone().cancelled_owned()));

    let emails = delivery.map(|delivery| tokio::spawn(mail::run(process.clone(), delivery)));
    let hooks = hooks.map(|hooks| tokio::spawn(webhooks::run(process.clone(), hooks)));
    let mut jobs = tokio::spawn(run_jobs(process.clone(), settings.worker.concurrency));
    tokio::select! {
        () = shutdown.cancelled() => (),
        // Only a defect ends it before shutdown.
        failed = &mut jobs => return failed?,
    }
    tracing::info!("worker stopping");
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
        if let Some(emails) = emails {
            let _ = emails.await;
        }
        if let Some(hooks) = hooks {
            let _ = hooks.await;
        }
        jobs
    });
    match in_time.await {
        Ok(jobs) => jobs??,
        Err(_) => tracing::warn!("shutdown timeout reached; the remaining leases will expire"),
    }
    steering::end(&process).await;
    // The statements of dropped handlers are cancelled and rolled back.
    let _ = tokio::time::timeout(TIME_TO_CANCEL, process.pool.close()).await;
    tracing::info!("worker stopped");
    Ok(())
}

/// The queues to work on: those in the settings, or else those of email and webhooks and the queues of all
/// kinds of jobs.
fn queues(settings: &Settings, tasks: &Tasks) -> anyhow::Result<Vec<&'static str>> {
    let mut known = tasks.queues();
    known.extend([shared::mail::QUEUE, shared::webhooks::QUEUE]);
    known.sort_unstable();
    if let Some(unknown) = settings.worker.queues.iter().find(|queue| !known.contains(&queue.as_str())) {
        bail!("worker.queues: unknown queue {unknown:?}; available: {}", known.join(", "));
    }
    let all = settings.worker.queues.is_empty();
    Ok(known.into_iter().filter(|queue| all || settings.worker.queues.iter().any(|wanted| wanted == queue)).collect())
}

/// Waits until the database has the schema of this version. Returns `false` at shutdown.
async fn wait_for_schema(process: &WorkerContext, shutdown: &CancellationToken) -> bool {
    let (mut is_logged, limit) = (false, LogLimit::each_minute());
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
            Ok(_) if !is_logged => {
                is_logged = true;
                tracing::warn!("migrations are pending; waiting for `crm-api migrate`");
            }
            // `DatabaseHealth` logs that the database is unavailable.
            Ok(_) | Err(shared::Error::Unavailable(_)) => (),
            Err(error) if limit.allows().is_some() => {
                tracing::error!(%error, "cannot read the applied migrations");
            }
            Err(_) => (),
        }
        tokio::select! {
            () = shutdown.cancelled() => return false,
            () = tokio::time::sleep(Duration::from_secs(1)) => (),
        }
    }
}

/// Claims jobs and runs them with apalis, which has one worker for each queue and one for
/// quarantined jobs. Returns when the process is stopping and all jobs have ended or were handed
/// back.
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
    let (quarantined, service) = (Arc::<Buffer>::default(), RunJob(process.clone()));
    claimers.spawn(queue::quarantine::run_quarantined(process.clone(), quarantined.clone()));
    // Without a limit, since a released job continues while the next quarantined job runs.
    monitor = monitor.register(move |_| {
        WorkerBuilder::new("quarantine").backend(Ledger(quarantined.clone())).build(service.clone())
    });

    let stopping = process.stopping.clone();
    let stopped = async move {
        stopping.cancelled().await;
        Ok(())
    };
    monitor.run_with_signal(stopped).await.context("apalis ended")?;
    claimers.join_all().await;
    Ok(())
}
