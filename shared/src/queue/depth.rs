//! How much work waits, for operators.

use sqlx::{FromRow, PgConnection};

use super::QUEUES;
use crate::error::Result;

/// How many jobs wait in a queue and how many are running, for operators.
#[derive(Debug, Clone, FromRow)]
pub struct Depth {
    /// The queue.
    pub queue: String,
    /// Jobs that wait for a worker or for their due time.
    pub queued: i64,
    /// Jobs leased by workers.
    pub running: i64,
    /// For how many seconds the longest waiting due job has been due.
    pub oldest_due_s: f64,
}

/// Counts the unfinished jobs of each queue, including empty queues.
pub async fn depths(connection: &mut PgConnection) -> Result<Vec<Depth>> {
    let mut depths: Vec<Depth> = sqlx::query_as(
        "SELECT queue, count(*) FILTER (WHERE status = 'queued') AS queued, count(*) FILTER (WHERE status = 'running') AS running,
             coalesce(greatest(extract(epoch FROM now() - min(run_at) FILTER (WHERE status = 'queued')), 0), 0)::float8 AS oldest_due_s
         FROM (SELECT queue, status, run_at FROM jobs WHERE status = 'queued' AND crashes = 0
               UNION ALL
               SELECT queue, status, run_at FROM jobs WHERE status = 'queued' AND crashes > 0
               UNION ALL
               SELECT queue, status, run_at FROM jobs WHERE lease_until IS NOT NULL) AS unfinished
         GROUP BY queue",
    )
    .fetch_all(connection)
    .await?;
    for queue in QUEUES {
        if !depths.iter().any(|depth| depth.queue == *queue) {
            depths.push(Depth { queue: (*queue).to_owned(), queued: 0, running: 0, oldest_due_s: 0.0 });
        }
    }
    Ok(depths)
}

/// Jobs that wait for a retry after the same error.
#[derive(Debug, Clone, FromRow)]
pub struct Waiting {
    /// The kind of job.
    pub kind: String,
    /// The error, as the API shows it.
    pub error: String,
    /// How many jobs there are.
    pub jobs: i64,
}

/// Returns the jobs of all workspaces that wait for a retry, grouped by kind and error.
pub async fn waiting(connection: &mut PgConnection) -> Result<Vec<Waiting>> {
    Ok(sqlx::query_as(
        "SELECT kind, error, count(*) AS jobs FROM jobs WHERE status = 'queued' AND error IS NOT NULL
         GROUP BY kind, error ORDER BY jobs DESC, kind, error",
    )
    .fetch_all(connection)
    .await?)
}
