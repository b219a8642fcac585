//! How long killed jobs stand still.

use std::time::{Duration, Instant};

use anyhow::Result;
use sqlx::{FromRow, PgPool};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::sleep;
use uuid::Uuid;

const EVERY: Duration = Duration::from_millis(20);

/// A job and the attempt under which a worker held it.
pub type Lease = (Uuid, i32);

/// A job whose process was killed.
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

/// Watches jobs that were hit.
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

    /// Notes which of the jobs that a worker has ever claimed it held when it was killed.
    pub async fn killed(&self, claimed: &[Lease], killed: Instant) -> Result<()> {
        let held: Vec<Lease> =
            sqlx::query_as("SELECT id, attempt FROM jobs WHERE lease_until IS NOT NULL").fetch_all(&self.pool).await?;
        for (job, attempt) in held.into_iter().filter(|lease| claimed.contains(lease)) {
            self.hits.send(Hit { job, attempt, killed })?;
        }
        Ok(())
    }

    /// For how long each job that was hit stood still; call it when all have ended.
    pub async fn end(self) -> Result<Vec<Duration>> {
        drop(self.hits);
        self.watching.await?
    }
}

async fn watch(pool: PgPool, mut hits: UnboundedReceiver<Hit>) -> Result<Vec<Duration>> {
    let (mut still, mut stood) = (Vec::new(), Vec::new());
    while !hits.is_closed() || !hits.is_empty() || !still.is_empty() {
        while let Ok(hit) = hits.try_recv() {
            still.push(hit);
        }
        let ids: Vec<Uuid> = still.iter().map(|hit| hit.job).collect();
        let jobs: Vec<Job> = sqlx::query_as("SELECT id, attempt, status FROM jobs WHERE id = ANY ($1)")
            .bind(&ids)
            .fetch_all(&pool)
            .await?;
        still.retain(|hit| {
            let Some(job) = jobs.iter().find(|job| job.id == hit.job) else { return true };
            // A rescue raises the attempt, and so does the claim after it.
            let again = job.attempt > hit.attempt + 1;
            if again {
                stood.push(hit.killed.elapsed());
            }
            // The server may have heard the end of the job before its worker was killed.
            let over = job.attempt == hit.attempt && job.status == "succeeded";
            let given_up = job.status == "failed";
            !(again || over || given_up)
        });
        sleep(EVERY).await;
    }
    Ok(stood)
}
