//! Measures how long jobs of killed workers are interrupted.

use std::time::{Duration, Instant};

use anyhow::Result;
use sqlx::{FromRow, PgPool};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::sleep;
use uuid::Uuid;

const EVERY: Duration = Duration::from_millis(20);

/// A job and the attempt that a worker has claimed.
pub type Lease = (Uuid, i32);

/// A job whose worker was killed.
struct Hit {
    job: Uuid,
    attempt: i32,
    killed: Instant,
}

#[derive(FromRow)]
struct Job {
    id: Uuid,
    attempt: i32,
    status: String,
}

/// Watches the jobs of killed workers.
pub struct Watch {
    pool: PgPool,
    hits: UnboundedSender<Hit>,
    watching: JoinHandle<Result<Vec<Duration>>>,
}

impl Watch {
    pub fn new(pool: PgPool) -> Self {
        let (hits, hit) = unbounded_channel();
        Self { watching: tokio::spawn(watch(pool.clone(), hit)), pool, hits }
    }

    /// Records the jobs that a worker held when it was killed, among all that it had ever claimed.
    pub async fn killed(&self, claimed: &[Lease], killed: Instant) -> Result<()> {
        let held: Vec<Lease> =
            sqlx::query_as("SELECT id, attempt FROM jobs WHERE lease_until IS NOT NULL").fetch_all(&self.pool).await?;
        for (job, attempt) in held.into_iter().filter(|lease| claimed.contains(lease)) {
            self.hits.send(Hit { job, attempt, killed })?;
        }
        Ok(())
    }

    /// Returns the interruption of each job. Call this after all jobs have finished.
    pub async fn end(self) -> Result<Vec<Duration>> {
        drop(self.hits);
        self.watching.await?
    }
}

async fn watch(pool: PgPool, mut hits: UnboundedReceiver<Hit>) -> Result<Vec<Duration>> {
    let (mut interrupted, mut delays) = (Vec::new(), Vec::new());
    while !hits.is_closed() || !hits.is_empty() || !interrupted.is_empty() {
        while let Ok(hit) = hits.try_recv() {
            interrupted.push(hit);
        }
        let ids: Vec<Uuid> = interrupted.iter().map(|hit| hit.job).collect();
        let jobs: Vec<Job> = sqlx::query_as("SELECT id, attempt, status FROM jobs WHERE id = ANY ($1)")
            .bind(&ids)
            .fetch_all(&pool)
            .await?;
        interrupted.retain(|hit| {
            let Some(job) = jobs.iter().find(|job| job.id == hit.job) else { return true };
            // A rescue increments the attempt, and so does the next claim.
            let resumed = job.attempt > hit.attempt + 1;
            if resumed {
                delays.push(hit.killed.elapsed());
            }
            // The job may have been finished just before its worker was killed.
            let finished = job.attempt == hit.attempt && job.status == "succeeded";
            let failed = job.status == "failed";
            !(resumed || finished || failed)
        });
        sleep(EVERY).await;
    }
    Ok(delays)
}
