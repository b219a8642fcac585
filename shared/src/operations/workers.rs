//! Workers: the processes that run jobs, as they registered.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::queue::notify::notify_now;
use crate::queue::{LEASE, STEERING};

/// How many days a worker that has ended is listed.
const KEPT_DAYS: i32 = 7;

/// What a worker says of itself.
#[derive(Debug, Clone)]
pub struct NewWorker {
    /// Its id, which its leases name.
    pub id: Uuid,
    /// The name of its machine.
    pub host: String,
    /// Its process id there.
    pub pid: i32,
    /// The version of the program.
    pub version: String,
    /// The queues it works on.
    pub queues: Vec<String>,
    /// How many jobs of each queue it runs at once.
    pub concurrency: i32,
    /// How many connections to the database it opens at most.
    pub connections: i32,
}

/// How a worker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, sqlx::Type)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum WorkerState {
    /// It claims work.
    Running,
    /// It claims nothing, and still holds leases.
    Draining,
    /// It claims nothing and holds nothing, so it can be stopped without any effect.
    Drained,
    /// Nothing was heard from it for a lease duration (15 s). Its work is, or will be, rescued.
    Lost,
    /// It ended by itself.
    Stopped,
}

/// A worker.
#[derive(Debug, Clone, FromRow, Serialize)]
pub struct Worker {
    /// Its id.
    pub id: Uuid,
    /// The name of its machine.
    pub host: String,
    /// Its process id there.
    pub pid: i32,
    /// The version of the program.
    pub version: String,
    /// The queues it works on.
    pub queues: Vec<String>,
    /// How many jobs of each queue it runs at once.
    pub concurrency: i32,
    /// How many connections to the database it opens at most.
    pub connections: i32,
    /// How it is.
    pub state: WorkerState,
    /// The jobs it has leased.
    pub jobs: i64,
    /// The emails it has leased.
    pub emails: i64,
    /// The workspaces whose webhooks it delivers.
    pub webhook_queues: i64,
    /// When it started.
    pub started_at: DateTime<Utc>,
    /// When it last said that it is there, accurate to about five seconds.
    pub heartbeat_at: DateTime<Utc>,
    /// Since when it is draining.
    pub draining_since: Option<DateTime<Utc>>,
    /// When it ended by itself.
    pub stopped_at: Option<DateTime<Utc>>,
}

/// Registers a worker. Registering again is a heartbeat.
pub async fn register(connection: &mut PgConnection, worker: &NewWorker) -> Result<()> {
    sqlx::query(
        "INSERT INTO workers (id, host, pid, version, queues, concurrency, connections, started_at, heartbeat_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, now(), now())
         ON CONFLICT (id) DO UPDATE SET heartbeat_at = excluded.heartbeat_at, stopped_at = NULL",
    )
    .bind(worker.id)
    .bind(&worker.host)
    .bind(worker.pid)
    .bind(&worker.version)
    .bind(&worker.queues)
    .bind(worker.concurrency)
    .bind(worker.connections)
    .execute(connection)
    .await?;
    Ok(())
}

/// Whether a worker is draining.
pub async fn is_draining(connection: &mut PgConnection, id: Uuid) -> Result<bool> {
    let draining = "SELECT draining_since IS NOT NULL FROM workers WHERE id = $1";
    Ok(sqlx::query_scalar(draining).bind(id).fetch_optional(connection).await?.unwrap_or(false))
}

/// Records that a worker ended by itself.
pub async fn stop(connection: &mut PgConnection, id: Uuid) -> Result<()> {
    sqlx::query("UPDATE workers SET stopped_at = now() WHERE id = $1").bind(id).execute(connection).await?;
    Ok(())
}

/// All workers that run, or that ended lately: those that were heard from last come first.
pub async fn list(connection: &mut PgConnection) -> Result<Vec<Worker>> {
    Ok(sqlx::query_as(LIST).bind(None::<Uuid>).bind(LEASE.as_secs_f64()).fetch_all(connection).await?)
}

/// A worker.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn get(connection: &mut PgConnection, id: Uuid) -> Result<Worker> {
    let found = sqlx::query_as(LIST).bind(id).bind(LEASE.as_secs_f64()).fetch_optional(connection).await?;
    found.ok_or(Error::NotFound)
}

/// The statement of [`list`]. It counts leases by the indexes of leases, which have few entries.
pub const LIST: &str = "
    SELECT id, host, pid, version, queues, concurrency, connections, started_at, heartbeat_at, draining_since, stopped_at,
        coalesce(held.jobs, 0)::bigint AS jobs, coalesce(held.emails, 0)::bigint AS emails,
        coalesce(held.webhook_queues, 0)::bigint AS webhook_queues,
        CASE
            WHEN stopped_at IS NOT NULL THEN 'stopped'
            WHEN heartbeat_at < statement_timestamp() - make_interval(secs => $2) THEN 'lost'
            WHEN draining_since IS NULL THEN 'running'
            WHEN coalesce(held.jobs + held.emails + held.webhook_queues, 0) > 0 THEN 'draining'
            ELSE 'drained'
        END AS state
    FROM workers LEFT JOIN (
        SELECT worker_id, sum(jobs) AS jobs, sum(emails) AS emails, sum(webhook_queues) AS webhook_queues
        FROM (
            SELECT worker_id, count(*) AS jobs, 0 AS emails, 0 AS webhook_queues
            FROM jobs WHERE lease_until IS NOT NULL GROUP BY worker_id
            UNION ALL
            SELECT worker_id, 0, count(*), 0 FROM emails WHERE lease_until IS NOT NULL GROUP BY worker_id
            UNION ALL
            SELECT worker_id, 0, 0, count(*) FROM webhook_queues WHERE lease_until IS NOT NULL GROUP BY worker_id
        ) AS leases
        GROUP BY worker_id
    ) AS held ON held.worker_id = workers.id
    WHERE $1::uuid IS NULL OR id = $1
    ORDER BY heartbeat_at DESC, id";

/// Drains a worker: it claims nothing more, and its jobs return to their queues after their current steps, as at its
/// end. It stays there, idle, until it is stopped or [undrained](undrain).
///
/// # Errors
/// [`Error::NotFound`].
pub async fn drain(connection: &mut PgConnection, id: Uuid) -> Result<Worker> {
    let drained = "UPDATE workers SET draining_since = coalesce(draining_since, $2) WHERE id = $1";
    let drained = sqlx::query(drained).bind(id).bind(crate::platform::db::now()).execute(&mut *connection).await?;
    steered(connection, id, drained.rows_affected()).await
}

/// Lets a worker claim again.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn undrain(connection: &mut PgConnection, id: Uuid) -> Result<Worker> {
    let undrained = "UPDATE workers SET draining_since = NULL WHERE id = $1";
    let undrained = sqlx::query(undrained).bind(id).execute(&mut *connection).await?;
    steered(connection, id, undrained.rows_affected()).await
}

async fn steered(connection: &mut PgConnection, id: Uuid, found: u64) -> Result<Worker> {
    if found == 0 {
        return Err(Error::NotFound);
    }
    notify_now(connection, &[STEERING]).await?;
    get(connection, id).await
}

/// Deletes workers that ended long ago, and returns their number.
pub async fn prune(connection: &mut PgConnection) -> Result<u64> {
    let pruned = sqlx::query("DELETE FROM workers WHERE heartbeat_at < now() - make_interval(days => $1)");
    Ok(pruned.bind(KEPT_DAYS).execute(connection).await?.rows_affected())
}
