//! The job of the queue benchmarks, and the worker that runs it.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::json;
use shared::platform::config::Settings;
use shared::queue::Payload;
use tokio::sync::oneshot;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use worker::queue::job::{Done, Running, Stop, Task, Tasks};

/// The workspace of the jobs.
pub const WORKSPACE: Uuid = Uuid::from_u128(1);

/// The payload for all measured queues. Its handler does nothing, or sleeps.
#[derive(Debug, Serialize, Deserialize)]
pub struct LeadStep {
    pub lead_id: Uuid,
    step: u32,
}

impl LeadStep {
    pub fn new() -> Self {
        Self { lead_id: Uuid::from_u128(rand::random()), step: 1 }
    }
}

impl Payload for LeadStep {
    const KIND: &'static str = "lead_step";
    const QUEUE: &'static str = "bench";

    type Result = serde_json::Value;
}

impl Task for LeadStep {
    async fn run(self, _: &mut Running) -> Result<Done, Stop> {
        HANDLERS.log('S', self.lead_id);
        if !HANDLERS.duration.is_zero() {
            sleep(HANDLERS.duration).await;
        }
        HANDLERS.log('E', self.lead_id);
        HANDLERS.done.fetch_add(1, Relaxed);
        HANDLERS.last_end_us.store((unix_time() * 1e6) as u64, Relaxed);
        Ok(Done::AsRecorded)
    }
}

/// The settings and counts of the handlers of this process.
static HANDLERS: LazyLock<Handlers> = LazyLock::new(|| Handlers {
    duration: Duration::from_secs_f64(
        std::env::var("QB_JOB_MS").ok().and_then(|ms| ms.parse().ok()).unwrap_or(0.0) / 1000.0,
    ),
    log: std::env::var("QB_RUNLOG").ok().and_then(|path| OpenOptions::new().append(true).create(true).open(path).ok()),
    done: AtomicU64::new(0),
    last_end_us: AtomicU64::new(0),
});

struct Handlers {
    duration: Duration,
    log: Option<File>,
    done: AtomicU64,
    last_end_us: AtomicU64,
}

impl Handlers {
    /// Logs a start or an end with one unbuffered write, which survives a killed process.
    fn log(&self, what: char, lead_id: Uuid) {
        if let Some(mut log) = self.log.as_ref() {
            let record = format!("{what} {lead_id} {:.6} {}\n", unix_time(), std::process::id());
            // The driver counts the records, and so notices a missing one.
            let _ = log.write_all(record.as_bytes());
        }
    }

    fn report(&self, done: u64) {
        println!("{}", json!({ "done": done, "t": self.last_end_us.load(Relaxed) as f64 / 1e6 }));
    }
}

/// Seconds since 1970.
pub fn unix_time() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// Runs the product's worker with only this kind of job, from the first line on standard input until SIGTERM, and
/// reports its progress.
pub async fn work(settings: Settings) -> Result<()> {
    let shutdown = CancellationToken::new();
    tokio::spawn(worker::cli::wait_for_signals(shutdown.clone())?);
    println!("{}", json!({ "ready": true, "pid": std::process::id() }));
    tokio::select! {
        go = line() => if !go { return Ok(()) },
        () = shutdown.cancelled() => return Ok(()),
    }
    tokio::spawn(async {
        let mut reported = 0;
        loop {
            sleep(Duration::from_millis(50)).await;
            let done = HANDLERS.done.load(Relaxed);
            if done != reported {
                HANDLERS.report(done);
                reported = done;
            }
        }
    });
    worker::run(settings, Tasks::new().with::<LeadStep>(), shutdown).await?;
    HANDLERS.report(HANDLERS.done.load(Relaxed));
    Ok(())
}

/// Waits for a line on standard input. Returns false at the end of the input.
async fn line() -> bool {
    let (sender, line) = oneshot::channel();
    // A separate thread, since a blocking read cannot be cancelled.
    std::thread::spawn(move || sender.send(std::io::stdin().read_line(&mut String::new()).is_ok_and(|read| read > 0)));
    line.await.unwrap_or(false)
}
