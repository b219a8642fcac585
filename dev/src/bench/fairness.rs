//! `cargo dev bench fairness`

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;
use serde_json::json;
use shared::platform::db;
use shared::queue::notify::Notifier;
use shared::queue::{self, NewJob, Payload};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use worker::queue::job::Tasks;

use super::figures::{Bound, Figures, quantile};
use super::harness::Harness;
use super::lead_step::{LeadStep, WORKSPACE};

/// The most milliseconds until another workspace's job starts (p99).
const STARTS_WITHIN_MS: f64 = 1000.0;
/// The workspace that has few jobs.
const OTHER: Uuid = Uuid::from_u128(2);
/// The number of jobs that one statement enqueues.
const CHUNK: usize = 10_000;

#[derive(Debug, Args)]
pub struct Arguments {
    /// The number of queued jobs of the busy workspace.
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    jobs: usize,
    /// The number of jobs of the other workspace, one after another.
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u16).range(1..))]
    samples: u16,
    /// The pause between two of these jobs.
    #[arg(long, value_name = "MS", default_value_t = 50)]
    gap_ms: u64,
    /// The number of jobs that the worker runs at once.
    #[arg(long, value_name = "N", default_value_t = 4)]
    concurrency: usize,
}

/// Drains a long queue of one workspace, and enqueues jobs of another workspace at the same time.
pub async fn run(arguments: Arguments) -> Result<ExitCode> {
    Harness::with(async |harness| measure(harness, &arguments).await).await
}

async fn measure(harness: &Harness, arguments: &Arguments) -> Result<ExitCode> {
    let &Arguments { jobs, samples, gap_ms, concurrency } = arguments;
    let settings =
        json!({ "machine": harness.machine().await?, "queued": jobs, "gap_ms": gap_ms, "concurrency": concurrency });
    let mut figures = Figures::new("fairness", settings);
    let mut connection = harness.pool.acquire().await?;
    let payloads: Vec<LeadStep> = (0..jobs).map(|_| LeadStep::new()).collect();
    for chunk in payloads.chunks(CHUNK) {
        queue::enqueue_all(&mut connection, WORKSPACE, chunk).await?;
    }
    sqlx::raw_sql("ANALYZE jobs").execute(&mut *connection).await?;

    let mut settings = harness.settings()?;
    settings.worker.concurrency = concurrency;
    let shutdown = CancellationToken::new();
    let working = tokio::spawn(worker::run(settings, Tasks::new().with::<LeadStep>(), shutdown.clone()));
    let notifier = Notifier::new(db::pool(&harness.settings()?.database, "bench notifier")?);
    let began = Instant::now();
    let mut others = Vec::new();
    for _ in 0..samples {
        sleep(Duration::from_millis(gap_ms)).await;
        others.push(queue::enqueue(&mut connection, NewJob::new(OTHER, &LeadStep::new())?).await?.id);
        notifier.notify(LeadStep::QUEUE);
    }
    let left: i64 = sqlx::query_scalar("SELECT count(*) FROM jobs WHERE workspace_id = $1 AND finished_at IS NULL")
        .bind(WORKSPACE)
        .fetch_one(&mut *connection)
        .await?;
    let drained = (jobs as f64 - left as f64) / began.elapsed().as_secs_f64();
    ensure!(left > 0, "the long queue was drained before the last sample: queue more jobs or take fewer samples");
    sleep(Duration::from_secs(2)).await;
    shutdown.cancel();
    working.await??;

    // Measures the end of no-op jobs, which is later than their start: an upper bound.
    let waited: Vec<f64> = sqlx::query_scalar(
        "SELECT extract(epoch FROM coalesce(finished_at, now()) - created_at)::float8 * 1000 FROM jobs WHERE id = ANY ($1)",
    )
    .bind(&others)
    .fetch_all(&mut *connection)
    .await?;
    figures.sample(json!({ "waited_ms": waited, "drained_per_s": drained, "left": left }));
    for (share, name, bound) in
        [(0.5, "p50", Bound::None), (0.99, "p99", Bound::AtMost(STARTS_WITHIN_MS)), (1.0, "longest", Bound::None)]
    {
        let figure = format!("time until another workspace's job is done, {name} of {}", waited.len());
        figures.alone(&figure, quantile(&waited, share), "ms", bound);
    }
    figures.alone("throughput of the long queue during this", drained, "jobs/s", Bound::None);
    Ok(figures.table())
}
