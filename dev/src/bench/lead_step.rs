//! The job whose queue is measured, and the worker that runs it.

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

/// Whose jobs they are.
pub const WORKSPACE: Uuid = Uuid::from_u128(1);

/// The payload that all measured queues get. Running it does nothing, or sleeps.
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
}

impl Task for LeadStep {
    async fn run(self, _: &mut Running) -> Result<Done, Stop> {
        HANDLERS.note('S', self.lead_id);
        if !HANDLERS.length.is_zero() {
            sleep(HANDLERS.length).await;
        }
        HANDLERS.note('E', self.lead_id);
        HANDLERS.done.fetch_add(1, Relaxed);
        HANDLERS.last_end_us.store((unix_time() * 1e6) as u64, Relaxed);
        Ok(Done::AsRecorded)
    }
}

/// What the handlers of this process are told, and what they tell.
static HANDLERS: LazyLock<Handlers> = LazyLock::new(|| Handlers {
    length: Duration::from_secs_f64(
        std::env::var("QB_JOB_MS").ok().and_then(|ms| ms.parse().ok()).unwrap_or(0.0) / 1000.0,
    ),
    log: std::env::var("QB_RUNLOG").ok().and_then(|path| OpenOptions::new().append(true).create(true).open(path).ok()),
    done: AtomicU64::new(0),
    last_end_us: AtomicU64::new(0),
});

struct Handlers {
    length: Duration,
    log: Option<File>,
    done: AtomicU64,
    last_end_us: AtomicU64,
}

impl Handlers {
    /// One write for each record: what is written survives a killed process.
    fn note(&self, what: char, lead_id: Uuid) {
        if let Some(mut log) = self.log.as_ref() {
            let record = format!("{what} {lead_id} {:.6} {}\n", unix_time(), std::process::id());
            // A record that is missing shows in the driver's count.
            let _ = log.write_all(record.as_bytes());
        }
    }

    fn tell(&self, done: u64) {
        println!("{}", json!({ "done": done, "t": self.last_end_us.load(Relaxed) as f64 / 1e6 }));
    }
}

/// Seconds since 1970.
pub fn unix_time() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// Runs the product's worker with this one kind of job, from the first line on standard input until
/// SIGTERM, and tells how far it is.
pub async fn work(settings: Settings) -> Result<()> {
    let shutdown = CancellationToken::new();
    tokio::spawn(worker::cli::wait_for_signals(shutdown.clone())?);
    println!("{}", json!({ "ready": true, "pid": std::process::id() }));
    tokio::select! {
        go = line() => if !go { return Ok(()) },
        () = shutdown.cancelled() => return Ok(()),
    }
    tokio::spawn(async {
        let mut told = 0;
        loop {
            sleep(Duration::from_millis(50)).await;
            let done = HANDLERS.done.load(Relaxed);
            if done != told {
                HANDLERS.tell(done);
                told = done;
            }
        }
    });
    worker::run(settings, Tasks::new().with::<LeadStep>(), shutdown).await?;
    HANDLERS.tell(HANDLERS.done.load(Relaxed));
    Ok(())
}

/// Waits for a line on standard input. False: there is none.
async fn line() -> bool {
    let (sender, line) = oneshot::channel();
    // A thread that nobody waits for: reading cannot be given up.
    std::thread::spawn(move || sender.send(std::io::stdin().read_line(&mut String::new()).is_ok_and(|read| read > 0)));
    line.await.unwrap_or(false)
}
