//! Jobs that do as they are told, well or badly: for tests, fault runs and benchmarks of the queue.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;
use shared::Error;
use shared::queue::{self, Payload, Progress};
use tokio::time::sleep;
use worker::queue::job::{Done, Running, Stop, Task, Tasks};

/// What a job is told to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Chore {
    /// Nothing.
    Nothing,
    /// To take a while, in one go.
    Sleep {
        /// Milliseconds.
        ms: u64,
    },
    /// To walk over steps. Its result names the attempt that did each of them.
    Walk {
        /// How many.
        steps: i64,
        /// Milliseconds that each takes.
        ms: u64,
    },
    /// To wait for an advisory lock, in one statement.
    WaitForLock {
        /// The lock.
        key: i64,
    },
    /// To kill the process.
    Abort,
    /// To panic.
    Panic,
    /// To meet an error that nobody foresaw.
    Stumble,
    /// To fail for good.
    Fail {
        /// Why.
        reason: String,
    },
    /// To fail with a text that no column can hold.
    FailUnspeakably,
    /// To ask for another try, until an attempt.
    RetryUntil {
        /// The attempt that succeeds.
        attempt: i32,
    },
    /// To run statements, each in a step, and all of them again with each attempt.
    Execute {
        /// The statements.
        statements: Vec<String>,
    },
    /// To put itself off, once.
    SnoozeOnce {
        /// Milliseconds.
        ms: u64,
    },
}

impl Payload for Chore {
    const KIND: &'static str = "chore";
    const QUEUE: &'static str = "chores";
}

impl Task for Chore {
    async fn run(self, job: &mut Running) -> Result<Done, Stop> {
        match self {
            Self::Nothing => {}
            Self::Sleep { ms } => sleep(Duration::from_millis(ms)).await,
            Self::Execute { statements } => return execute(job, &statements).await,
            Self::Walk { steps, ms } => return walk(job, steps, Duration::from_millis(ms)).await,
            Self::WaitForLock { key } => {
                let wait = sqlx::query("SELECT pg_advisory_lock_shared($1)").bind(key);
                wait.execute(&mut *job.connection().await?).await?;
            }
            Self::Abort => std::process::abort(),
            #[expect(clippy::panic, reason = "as told")]
            Self::Panic => panic!("as told"),
            Self::Stumble => return Err(Error::internal("stumbled over secret 12345").into()),
            Self::Fail { reason } => return Err(Stop::fail(reason)),
            Self::FailUnspeakably => return Err(Stop::fail("nul: \0")),
            Self::RetryUntil { attempt } if job.attempt() < attempt => return Err(Stop::retry("not yet")),
            Self::SnoozeOnce { ms } if job.attempt() == 1 => return Err(Stop::Snooze(Duration::from_millis(ms))),
            Self::RetryUntil { .. } | Self::SnoozeOnce { .. } => {}
        }
        Ok(Done::With(json!({ "attempt": job.attempt() })))
    }
}

async fn execute(job: &mut Running, statements: &[String]) -> Result<Done, Stop> {
    for statement in statements {
        let mut step = job.begin().await?;
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement.clone())).execute(&mut *step).await?;
        step.commit(Progress { done: 1, total: None }, &json!("as told")).await?;
    }
    Ok(Done::AsRecorded)
}

async fn walk(job: &mut Running, steps: i64, each: Duration) -> Result<Done, Stop> {
    let before = queue::get(&mut *job.connection().await?, job.workspace_id(), job.id()).await?;
    let mut attempts = before.result.unwrap_or_else(|| json!([]));
    for done in before.progress.done..steps {
        let attempt = job.attempt();
        let step = job.begin().await?;
        sleep(each).await;
        if let Some(attempts) = attempts.as_array_mut() {
            attempts.push(json!(attempt));
        }
        step.commit(Progress { done: done + 1, total: Some(steps) }, &attempts).await?;
    }
    Ok(Done::AsRecorded)
}

/// A registry with this kind beside those of the product.
#[must_use]
pub fn tasks() -> Tasks {
    worker::jobs::all().with::<Chore>()
}
