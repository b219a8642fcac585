//! Jobs that succeed or fail on demand, for tests, fault runs and benchmarks of the queue.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;
use shared::Error;
use shared::queue::{self, Payload, Progress};
use tokio::time::sleep;
use worker::queue::job::{Done, Running, Stop, Task, Tasks};

/// A test job.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Chore {
    /// Succeeds at once.
    Nothing,
    /// Sleeps without committing a step.
    Sleep {
        /// Milliseconds.
        ms: u64,
    },
    /// Commits steps. The result lists the attempt of each step.
    Walk {
        /// The number of steps.
        steps: i64,
        /// The duration of each step in milliseconds.
        ms: u64,
    },
    /// Waits for an advisory lock, in one statement.
    WaitForLock {
        /// The key of the lock.
        key: i64,
    },
    /// Kills the process.
    Abort,
    /// Panics.
    Panic,
    /// Returns an unexpected error.
    Stumble,
    /// Fails permanently.
    Fail {
        /// The reason.
        reason: String,
    },
    /// Fails with a text that no column can store.
    FailUnspeakably,
    /// Asks for a retry until this attempt.
    RetryUntil {
        /// The attempt that succeeds.
        attempt: i32,
    },
    /// Runs each statement in a step; every attempt runs all of them again.
    Execute {
        /// The statements.
        statements: Vec<String>,
    },
    /// Snoozes once.
    SnoozeOnce {
        /// Milliseconds.
        ms: u64,
    },
}

impl Payload for Chore {
    const KIND: &'static str = "chore";
    const QUEUE: &'static str = "chores";

    type Result = serde_json::Value;
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

/// The product's handlers and the one of test jobs.
#[must_use]
pub fn tasks() -> Tasks {
    worker::jobs::all().with::<Chore>()
}
