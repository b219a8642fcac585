//! `cargo dev bench queue`: an adapter of the product's queue for a driver that compares several queues.
//!
//! The last line of the output is a JSON object; logs go to standard error. `QB_URL` is the driver's
//! database, `QB_JOB_MS` the duration of a job, `QB_CONC` the number of jobs at once, and `QB_RUNLOG` a file
//! that receives a line for each start and end of a handler.

use std::fs::File;
use std::io::Write;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Subcommand;
use serde_json::{Value, json};
use shared::platform::config::Settings;
use shared::platform::db;
use shared::queue::notify::Notifier;
use shared::queue::{self, LEASE, NewJob, Payload, RESCUE_EVERY};
use sqlx::{Connection, PgConnection};
use tokio::time::{Instant, sleep};

use super::lead_step::{LeadStep, WORKSPACE, unix_time, work};

/// The number of jobs that one statement enqueues in bulk.
const CHUNK: usize = 10_000;

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Describes the queue.
    Info,
    /// Creates the schema in an empty database.
    Setup,
    /// Enqueues one job after another for a time, over one connection for each client.
    Enqueue { seconds: f64, clients: usize },
    /// Enqueues many jobs as fast as possible.
    Bulk { jobs: usize },
    /// Runs jobs from the first line on standard input until SIGTERM.
    Work,
    /// Enqueues jobs one by one with a pause after each, and writes the times into a file.
    Latency { jobs: usize, gap_ms: f64, file: std::path::PathBuf },
    /// Counts the jobs.
    Stats,
    /// Expires leases: not needed, since leases expire within seconds.
    Age { seconds: f64 },
}

/// Runs a command of the driver.
pub async fn run(verb: Verb) -> Result<()> {
    let output = match verb {
        Verb::Info => info(),
        Verb::Setup => setup().await?,
        Verb::Enqueue { seconds, clients } => enqueue(seconds, clients).await?,
        Verb::Bulk { jobs } => bulk(jobs).await?,
        Verb::Work => return work(settings()?).await,
        Verb::Latency { jobs, gap_ms, file } => latency(jobs, gap_ms, &file).await?,
        Verb::Stats => stats().await?,
        Verb::Age { seconds: _ } => json!({ "ok": false, "what": "not needed" }),
    };
    println!("{output}");
    Ok(())
}

fn info() -> Value {
    let recovery = LEASE + 2 * RESCUE_EVERY;
    json!({
        "version": concat!("ours ", env!("CARGO_PKG_VERSION")),
        "runtime": "rust",
        "store": "postgres",
        "settings": { "concurrency": concurrency(), "bulk": format!("enqueue_all, chunks of {CHUNK}") },
        "recovery_seconds": recovery.as_secs(),
    })
}

fn concurrency() -> String {
    std::env::var("QB_CONC").unwrap_or_else(|_| "24".to_owned())
}

/// The product's settings for the driver's database.
fn settings() -> Result<Settings> {
    let url = std::env::var("QB_URL").context("QB_URL must be set")?;
    let ours = [
        ("DATABASE_URL", url),
        ("CRM_WORKER__CONCURRENCY", concurrency()),
        ("CRM_WORKER__LISTEN", "127.0.0.1:0".to_owned()),
    ];
    Ok(Settings::from_layers(None, ours.map(|(name, value)| (name.to_owned(), value)))?)
}

async fn connect() -> Result<PgConnection> {
    Ok(PgConnection::connect(&settings()?.database.url).await?)
}

/// The notifier of a process that enqueues.
async fn notifier() -> Result<Notifier> {
    let pool = db::pool(&settings()?.database, "bench queue")?;
    drop(pool.acquire().await?);
    Ok(Notifier::new(pool))
}

async fn setup() -> Result<Value> {
    shared::migrate::run(&settings()?.database, |_| ()).await?;
    Ok(json!({ "ok": true }))
}

/// Enqueues one job like a request: commits it, and then notifies the workers.
async fn enqueue_one(connection: &mut PgConnection, notifier: &Notifier, payload: &LeadStep) -> Result<()> {
    queue::enqueue(connection, NewJob::new(WORKSPACE, payload)?).await?;
    notifier.notify(LeadStep::QUEUE);
    Ok(())
}

async fn enqueue(seconds: f64, clients: usize) -> Result<Value> {
    let notifier = notifier().await?;
    let mut connections = Vec::new();
    for _ in 0..clients {
        let mut connection = connect().await?;
        enqueue_one(&mut connection, &notifier, &LeadStep::new()).await?;
        connections.push(connection);
    }
    let began = Instant::now();
    let end = began + Duration::from_secs_f64(seconds);
    let clients = connections.into_iter().map(async |mut connection| {
        let mut count = 0;
        while Instant::now() < end {
            enqueue_one(&mut connection, &notifier, &LeadStep::new()).await?;
            count += 1;
        }
        Ok::<u64, anyhow::Error>(count)
    });
    let counts = futures_util::future::try_join_all(clients).await?;
    let seconds = began.elapsed().as_secs_f64();
    Ok(json!({ "n": counts.iter().sum::<u64>(), "clients": counts.len(), "seconds": seconds }))
}

async fn bulk(jobs: usize) -> Result<Value> {
    let payloads: Vec<LeadStep> = (0..jobs).map(|_| LeadStep::new()).collect();
    let notifier = notifier().await?;
    let mut connection = connect().await?;
    let began = Instant::now();
    for chunk in payloads.chunks(CHUNK) {
        queue::enqueue_all(&mut connection, WORKSPACE, chunk).await?;
    }
    notifier.notify(LeadStep::QUEUE);
    let seconds = began.elapsed().as_secs_f64();
    connection.close().await?;
    Ok(json!({ "n": jobs, "seconds": seconds, "call": format!("enqueue_all({CHUNK})") }))
}

async fn latency(jobs: usize, gap_ms: f64, file: &std::path::Path) -> Result<Value> {
    let notifier = notifier().await?;
    let mut connection = connect().await?;
    let mut lines = Vec::new();
    for _ in 0..jobs {
        let payload = LeadStep::new();
        let called = unix_time();
        enqueue_one(&mut connection, &notifier, &payload).await?;
        writeln!(lines, "Q {} {called:.6} {:.6}", payload.lead_id, unix_time())?;
        sleep(Duration::from_secs_f64(gap_ms / 1000.0 * rand::random_range(0.5..1.5))).await;
    }
    File::create(file)?.write_all(&lines)?;
    Ok(json!({ "n": jobs }))
}

async fn stats() -> Result<Value> {
    let counts = "SELECT count(*), count(*) FILTER (WHERE finished_at IS NULL), count(lease_until) FROM jobs";
    let (rows, left, locked): (i64, i64, i64) = sqlx::query_as(counts).fetch_one(&mut connect().await?).await?;
    Ok(json!({ "rows": rows, "left": left, "locked": locked }))
}
