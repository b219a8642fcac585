//! Gives events their numbers, if no other worker does.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use shared::events::numbering::{BATCH, Numberer, Pass, TERM, Term};
use shared::{Result, webhooks};

use crate::context::{WorkerContext, jittered};

/// The pause between two passes, while there are events and while there are none.
const BUSY: Duration = Duration::from_millis(15);
const IDLE: Duration = Duration::from_millis(40);
/// How often a term is prolonged, or another worker's is checked.
const EACH: Duration = Duration::from_secs(1);

/// The upper bounds of the buckets of [`Delays`], in seconds.
const BOUNDS: [f64; 7] = [0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 60.0];

/// How long events waited for their numbers: the longest of each pass.
#[derive(Debug, Default)]
pub(crate) struct Delays {
    /// Events numbered by this process.
    pub numbered: AtomicU64,
    passes: [AtomicU64; BOUNDS.len() + 1],
    micros: AtomicU64,
}

impl Delays {
    fn note(&self, pass: Pass) {
        if pass.numbered == 0 {
            return;
        }
        self.numbered.fetch_add(pass.numbered as u64, Relaxed);
        let seconds = pass.longest.as_secs_f64();
        let bucket = BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS.len());
        self.passes[bucket].fetch_add(1, Relaxed);
        self.micros.fetch_add(u64::try_from(pass.longest.as_micros()).unwrap_or(u64::MAX), Relaxed);
    }

    /// The buckets with their upper bounds, each with the passes up to its bound; then the sum in seconds.
    pub fn histogram(&self) -> (Vec<(String, u64)>, f64) {
        let mut total = 0;
        let bounds = BOUNDS.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
        let buckets = bounds.zip(&self.passes).map(|(bound, passes)| {
            total += passes.load(Relaxed);
            (bound, total)
        });
        (buckets.collect(), Duration::from_micros(self.micros.load(Relaxed)).as_secs_f64())
    }
}

/// Numbers events until the process stops.
pub(crate) async fn keep(process: Arc<WorkerContext>) {
    let (term, mut numberer) = (Term::default(), Numberer::default());
    while !process.stopping.is_cancelled() {
        let held = process.upkeep(async |connection| term.take(connection).await).await;
        if let Some(pause) = process.services.numbering.note(&held) {
            tokio::time::sleep(pause).await;
        } else if held.is_ok_and(|held| held) {
            number(&process, &mut numberer).await;
        } else {
            numberer = Numberer::default();
            pause(&process, jittered(EACH)).await;
        }
    }
    let ended = process.upkeep(async |connection| term.end(connection).await).await;
    if let Err(error) = ended {
        tracing::debug!(%error, "the term of numbering could not be ended; another worker begins {TERM:?} later");
    }
}

/// Numbers events until the term must be prolonged.
async fn number(process: &WorkerContext, numberer: &mut Numberer) {
    let began = Instant::now();
    while began.elapsed() < EACH && !process.stopping.is_cancelled() {
        let pass = process.upkeep(async |connection| numberer.pass(connection).await).await;
        if let Some(pause) = process.services.numbering.note(&pass) {
            tokio::time::sleep(pause).await;
            return;
        }
        let numbered = noted(process, pass);
        if numbered < BATCH {
            pause(process, if numbered > 0 { BUSY } else { IDLE }).await;
        }
    }
}

fn noted(process: &WorkerContext, pass: Result<Pass>) -> usize {
    let pass = pass.unwrap_or_default();
    process.delays.note(pass);
    if pass.numbered > 0 {
        process.numbered.notify_waiters();
        // The webhooks of this process at once, those of others by a notification.
        if let Some(hooks) = &process.hooks {
            hooks.wake.notify_one();
        }
        process.notifier.notify(webhooks::QUEUE);
    }
    pass.numbered
}

async fn pause(process: &WorkerContext, time: Duration) {
    tokio::select! {
        () = process.stopping.cancelled() => {}
        () = tokio::time::sleep(time) => {}
    }
}
