//! `cargo dev bench old-transaction`

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;
use serde_json::json;
use shared::queue::{self, Claimant, Marks, Paused, Ranges};
use sqlx::{Connection, PgConnection};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use worker::queue::job::Tasks;

use super::figures::{Bound, Figures, median};
use super::harness::Harness;
use super::lead_step::{LeadStep, WORKSPACE};

/// The most milliseconds of a claim.
const CLAIM_MS: f64 = 5.0;
/// The least share of the throughput without an old transaction.
const THROUGHPUT: f64 = 0.70;
/// The number of jobs that one statement enqueues.
const CHUNK: usize = 10_000;
/// The number of timed claims.
const CLAIMS: usize = 21;
const QUEUE: &str = "bench";

#[derive(Debug, Args)]
pub struct Arguments {
    /// The number of jobs that run while the old transaction is open, before the second measurement.
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    jobs: usize,
    /// The number of jobs of each measurement.
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    sample: usize,
    /// The number of jobs that the worker runs at once.
    #[arg(long, value_name = "N", default_value_t = 4)]
    concurrency: usize,
}

/// Drains a queue before and after many jobs have run while an old transaction is open.
pub async fn run(arguments: Arguments) -> Result<ExitCode> {
    Harness::with(async |harness| measure(harness, &arguments).await).await
}

async fn measure(harness: &Harness, arguments: &Arguments) -> Result<ExitCode> {
    let &Arguments { jobs, sample, concurrency } = arguments;
    let settings =
        json!({ "machine": harness.machine().await?, "jobs": jobs, "sample": sample, "concurrency": concurrency });
    let mut figures = Figures::new("old-transaction", settings);
    let mut connection = PgConnection::connect(harness.url()).await?;
    drain(harness, &mut connection, sample, concurrency).await?;
    let before = drain(harness, &mut connection, sample, concurrency).await?;

    let mut old = PgConnection::connect(harness.url()).await?;
    sqlx::raw_sql("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM workspaces LIMIT 1").execute(&mut old).await?;
    drain(harness, &mut connection, jobs, concurrency).await?;
    let after = drain(harness, &mut connection, sample, concurrency).await?;
    let figure = format!("draining {sample} no-op jobs after {jobs} jobs with an open transaction");
    figures.ratio(&figure, (after, before), "jobs/s", "without one", Bound::AtLeast(THROUGHPUT));

    enqueue(&mut connection, 1_000).await?;
    let mut marks = Marks::default();
    let (began, sweeping) = (marks.clone(), Instant::now());
    marks.swept(&began, &queue::sweep(&mut connection, QUEUE, &[WORKSPACE], &Paused::default()).await?);
    let swept = sweeping.elapsed();
    let (from_marks, from_the_front) = (marks.ranges(), Ranges::default());
    figures.alone("a claim, median", claim_ms(&mut connection, &from_marks).await?, "ms", Bound::AtMost(CLAIM_MS));
    figures.alone("the same from the front", claim_ms(&mut connection, &from_the_front).await?, "ms", Bound::None);
    figures.alone("a sweep", swept.as_secs_f64() * 1000.0, "ms", Bound::None);
    old.close().await?;
    Ok(figures.table())
}

async fn enqueue(connection: &mut PgConnection, jobs: usize) -> Result<()> {
    let payloads: Vec<LeadStep> = (0..jobs).map(|_| LeadStep::new()).collect();
    for chunk in payloads.chunks(CHUNK) {
        queue::enqueue_all(connection, WORKSPACE, chunk).await?;
    }
    Ok(())
}

/// The jobs per second of a worker that starts with all jobs queued.
async fn drain(harness: &Harness, connection: &mut PgConnection, jobs: usize, concurrency: usize) -> Result<f64> {
    enqueue(connection, jobs).await?;
    sqlx::raw_sql("ANALYZE jobs").execute(&mut *connection).await?;
    let mut settings = harness.settings()?;
    settings.worker.concurrency = concurrency;
    let shutdown = CancellationToken::new();
    let working = tokio::spawn(worker::run(settings, Tasks::new().with::<LeadStep>(), shutdown.clone()));
    let began = Instant::now();
    // Uses another index: the index of due work is what is measured.
    let last = "SELECT finished_at IS NOT NULL FROM jobs WHERE workspace_id = $1 ORDER BY id DESC LIMIT 1";
    while !sqlx::query_scalar::<_, bool>(last).bind(WORKSPACE).fetch_one(&mut *connection).await? {
        ensure!(began.elapsed() < Duration::from_secs(3600), "the queue was not drained in time");
        sleep(Duration::from_millis(10)).await;
    }
    let seconds = began.elapsed().as_secs_f64();
    shutdown.cancel();
    working.await??;
    Ok(jobs as f64 / seconds)
}

/// The median time of a claim of four jobs, each rolled back.
async fn claim_ms(connection: &mut PgConnection, ranges: &Ranges) -> Result<f64> {
    let mut times = Vec::new();
    for _ in 0..CLAIMS {
        let mut transaction = connection.begin().await?;
        let began = Instant::now();
        let claimed = queue::claim_in(&mut transaction, QUEUE, 4, ranges, &[], &Claimant::default()).await?;
        times.push(began.elapsed().as_secs_f64() * 1000.0);
        ensure!(claimed.len() == 4, "{} jobs were claimed", claimed.len());
        transaction.rollback().await?;
    }
    Ok(median(&times))
}
