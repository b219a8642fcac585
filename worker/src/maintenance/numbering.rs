//! Gives events their numbers, if no other worker does.

use std::sync::Arc;
use std::time::{Duration, Instant};

use shared::events::numbering::{BATCH, Numberer, Pass, TERM, Term};
use shared::{Result, webhooks};

use crate::context::{WorkerContext, jittered};

/// The pause between two passes, while there are events and while there are none.
const BUSY: Duration = Duration::from_millis(15);
const IDLE: Duration = Duration::from_millis(40);
/// How often a term is prolonged, or another worker's is checked.
const EACH: Duration = Duration::from_secs(1);

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
    if pass.numbered > 0 {
        process.metrics.numbered.inc_by(pass.numbered as u64);
        process.metrics.delay.observe(pass.longest.as_secs_f64());
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
