//! The statements that read the gauges. None reads finished jobs, sent emails or delivered webhooks.

use chrono::{DateTime, Utc};
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use crate::error::Result;
use crate::operations::pauses::{self, Pause};
use crate::operations::workers::{self, Worker};
use crate::queue::Paused;

/// How many schedules the page shows at most.
const SCHEDULES: i64 = 200;
/// How many tables the page shows.
const TABLES: i64 = 10;

/// Unfinished jobs, and those that failed.
#[derive(Debug)]
pub(super) struct Jobs {
    pub open: Vec<OpenJobs>,
    pub failed: Vec<FailedJobs>,
}

/// Jobs of a workspace in the same state.
#[derive(Debug, FromRow)]
pub(super) struct OpenJobs {
    pub workspace_id: Uuid,
    pub queue: String,
    pub kind: String,
    /// One of [`STATES`].
    pub state: String,
    pub jobs: i64,
    /// For how long the first of them has been due.
    pub oldest_s: f64,
}

/// The states of unfinished jobs. The page shows due jobs that nobody claims as `paused`.
pub(super) const STATES: [&str; 5] = ["due", "future", "paused", "retrying", "running"];

/// Jobs that failed lately.
#[derive(Debug, FromRow)]
pub(super) struct FailedJobs {
    pub queue: String,
    pub kind: String,
    pub jobs: i64,
}

/// Counts jobs of a queue by the indexes of due jobs, of jobs that may have killed their process, and of leases. A
/// queue that is longer than 50,000 jobs is not read to its end, so that the figures stay cheap when they matter most.
pub const OPEN_JOBS: &str = "
    SELECT workspace_id, queue, kind,
        CASE WHEN status = 'running' THEN 'running' WHEN run_at <= now() THEN 'due'
            WHEN error IS NOT NULL THEN 'retrying' ELSE 'future' END AS state,
        count(*) AS jobs, greatest(extract(epoch FROM now() - min(run_at)), 0)::float8 AS oldest_s
    FROM ((SELECT workspace_id, queue, kind, status, run_at, error FROM jobs
           WHERE queue = $1 AND status = 'queued' AND crashes = 0 LIMIT 50000)
          UNION ALL
          SELECT workspace_id, queue, kind, status, run_at, error FROM jobs
          WHERE queue = $1 AND status = 'queued' AND crashes > 0
          UNION ALL
          SELECT workspace_id, queue, kind, status, run_at, error FROM jobs
          WHERE queue = $1 AND lease_until IS NOT NULL) AS unfinished
    GROUP BY workspace_id, queue, kind, state";
/// Counts the jobs that failed in the last 24 hours.
pub const FAILED_JOBS: &str = "
    SELECT queue, kind, count(*) AS jobs FROM jobs
    WHERE status = 'failed' AND finished_at > now() - interval '24 hours'
    GROUP BY queue, kind";

pub(super) async fn jobs(connection: &mut PgConnection, queues: &[String]) -> Result<Jobs> {
    let mut open = Vec::new();
    for queue in queues {
        open.extend(sqlx::query_as(OPEN_JOBS).bind(queue).fetch_all(&mut *connection).await?);
    }
    Ok(Jobs { open, failed: sqlx::query_as(FAILED_JOBS).fetch_all(connection).await? })
}

/// Unfinished emails.
#[derive(Debug)]
pub(super) struct Emails(pub Vec<OpenEmails>);

/// Emails of a workspace in the same state.
#[derive(Debug, FromRow)]
pub(super) struct OpenEmails {
    pub workspace_id: Uuid,
    pub state: String,
    pub emails: i64,
    /// Those that are due, and for how long the first of them has been.
    pub due: i64,
    pub oldest_due_s: f64,
}

/// Counts emails by the indexes of due emails (50,000 at most), of leases and of unknown emails.
pub const OPEN_EMAILS: &str = "
    SELECT workspace_id, state, count(*) AS emails, count(*) FILTER (WHERE is_waiting AND run_at <= now()) AS due,
        greatest(coalesce(extract(epoch FROM now() - min(run_at) FILTER (WHERE is_waiting)), 0), 0)::float8 AS oldest_due_s
    FROM ((SELECT workspace_id, state, run_at, true AS is_waiting FROM emails
           WHERE state IN ('queued', 'deferred') AND lease_until IS NULL LIMIT 50000)
          UNION ALL
          SELECT workspace_id, state, run_at, state <> 'sending' FROM emails WHERE lease_until IS NOT NULL
          UNION ALL
          SELECT workspace_id, state, run_at, false FROM emails WHERE state = 'unknown') AS open
    GROUP BY workspace_id, state";

pub(super) async fn emails(connection: &mut PgConnection) -> Result<Emails> {
    Ok(Emails(sqlx::query_as(OPEN_EMAILS).fetch_all(connection).await?))
}

/// Deliveries that are due, and endpoints that are disabled.
#[derive(Debug)]
pub(super) struct Webhooks {
    pub due: Vec<DueWebhooks>,
    pub disabled: i64,
}

/// Due deliveries of a workspace.
#[derive(Debug, FromRow)]
pub(super) struct DueWebhooks {
    pub workspace_id: Uuid,
    pub due: i64,
    /// For how long the first of them has been due.
    pub oldest_s: f64,
}

/// Counts the deliveries that are due to enabled endpoints and callbacks, 50,000 at most.
pub const DUE_WEBHOOKS: &str = "
    SELECT workspace_id, count(*) AS due, greatest(extract(epoch FROM now() - min(run_at)), 0)::float8 AS oldest_s
    FROM (SELECT workspace_id, run_at FROM webhook_deliveries AS deliveries
          WHERE state = 'pending' AND run_at <= now() AND NOT EXISTS (
              SELECT FROM webhooks
              WHERE webhooks.workspace_id = deliveries.workspace_id AND webhooks.id = deliveries.webhook_id AND NOT enabled
          ) LIMIT 50000) AS due
    GROUP BY workspace_id";

pub(super) async fn webhooks(connection: &mut PgConnection) -> Result<Webhooks> {
    let disabled = sqlx::query_scalar(
        "SELECT count(*) FROM webhooks WHERE disabled_at IS NOT NULL AND NOT enabled AND deleted_at IS NULL",
    );
    let disabled = disabled.fetch_one(&mut *connection).await?;
    Ok(Webhooks { due: sqlx::query_as(DUE_WEBHOOKS).fetch_all(connection).await?, disabled })
}

/// Schedules.
#[derive(Debug)]
pub(super) struct Schedules {
    pub oldest_due_s: f64,
    pub last: Vec<LastSuccess>,
}

/// When a schedule last succeeded.
#[derive(Debug, FromRow)]
pub(super) struct LastSuccess {
    pub workspace_id: Uuid,
    pub id: Uuid,
    pub kind: String,
    /// When its last successful job ended, or else when it was created.
    pub at: DateTime<Utc>,
}

/// Finds the last success of schedules that are neither paused nor over. A nightly run is overdue after 26 hours.
pub const LAST_SUCCESSES: &str = "
    SELECT workspace_id, id, kind, at
    FROM (SELECT schedules.workspace_id, schedules.id, schedules.kind, coalesce(success.at, schedules.created_at) AS at
          FROM schedules
          LEFT JOIN LATERAL (
              SELECT coalesce(jobs.finished_at, runs.created_at) AS at FROM scheduled_runs AS runs
              LEFT JOIN jobs ON jobs.workspace_id = runs.workspace_id AND jobs.id = runs.job_id
              WHERE runs.workspace_id = schedules.workspace_id AND runs.schedule_id = schedules.id
                  AND coalesce(jobs.status, runs.status) = 'succeeded'
              ORDER BY runs.id DESC LIMIT 1
          ) AS success ON true
          WHERE schedules.due_at IS NOT NULL AND schedules.workspace_id <> ALL ($2)) AS active
    ORDER BY kind = 'nightly' AND at < now() - interval '26 hours' DESC, at LIMIT $1";

/// Reads the schedules of workspaces that are not suspended.
pub(super) async fn schedules(connection: &mut PgConnection, suspended: &[Uuid]) -> Result<Schedules> {
    let oldest = sqlx::query_scalar(
        "SELECT greatest(coalesce(extract(epoch FROM now() - min(due_at)), 0), 0)::float8 FROM schedules
         WHERE due_at IS NOT NULL AND workspace_id <> ALL ($1)",
    );
    let oldest_due_s = oldest.bind(suspended).fetch_one(&mut *connection).await?;
    let last = sqlx::query_as(LAST_SUCCESSES).bind(SCHEDULES).bind(suspended).fetch_all(connection).await?;
    Ok(Schedules { oldest_due_s, last })
}

/// The workers, and what they do not claim.
#[derive(Debug)]
pub(super) struct Workers {
    pub all: Vec<Worker>,
    pub pauses: Vec<Pause>,
    pub paused: Paused,
    pub read_at: DateTime<Utc>,
}

pub(super) async fn workers(connection: &mut PgConnection) -> Result<Workers> {
    let read_at = sqlx::query_scalar("SELECT now()").fetch_one(&mut *connection).await?;
    let (all, pauses) = (workers::list(&mut *connection).await?, pauses::list(&mut *connection).await?);
    Ok(Workers { all, pauses, paused: Paused::read(connection).await?, read_at })
}

/// The number of workspaces, and the names of the busiest.
#[derive(Debug)]
pub(super) struct Workspaces {
    pub all: i64,
    pub names: Vec<(Uuid, String)>,
}

pub(super) async fn workspaces(connection: &mut PgConnection, busiest: &[Uuid]) -> Result<Workspaces> {
    let all = sqlx::query_scalar("SELECT count(*) FROM workspaces").fetch_one(&mut *connection).await?;
    let names = sqlx::query_as("SELECT id, name FROM workspaces WHERE id = ANY ($1)").bind(busiest);
    Ok(Workspaces { all, names: names.fetch_all(connection).await? })
}

/// The database server.
#[derive(Debug)]
pub(super) struct Database {
    pub server: Server,
    pub connections: Vec<(String, i64)>,
    pub tables: Vec<Table>,
    pub replicas: Vec<Replica>,
}

/// The server's limits and its load.
#[derive(Debug, FromRow)]
pub(super) struct Server {
    pub max_connections: i32,
    pub size: i64,
    pub oldest_transaction_s: f64,
    pub lock_waits: i64,
}

/// The estimated rows of a table.
#[derive(Debug, FromRow)]
pub(super) struct Table {
    pub name: String,
    pub live: i64,
    pub dead: i64,
}

/// How far a replica lags behind. Roles without `pg_monitor` do not see it.
#[derive(Debug, FromRow)]
pub(super) struct Replica {
    pub name: String,
    pub lag_bytes: Option<f64>,
    pub lag_s: Option<f64>,
}

pub(super) async fn database(connection: &mut PgConnection) -> Result<Database> {
    let server = sqlx::query_as(
        "SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
                 - coalesce(current_setting('reserved_connections', true)::int, 0) AS max_connections,
             pg_database_size(current_database()) AS size,
             greatest(coalesce(max(extract(epoch FROM clock_timestamp() - xact_start)), 0), 0)::float8 AS oldest_transaction_s,
             count(*) FILTER (WHERE wait_event_type = 'Lock') AS lock_waits
         FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()",
    );
    let server = server.fetch_one(&mut *connection).await?;
    let connections = sqlx::query_as(
        "SELECT CASE WHEN state IN ('active', 'idle') THEN state WHEN starts_with(state, 'idle in transaction')
             THEN 'idle_in_transaction' ELSE 'other' END, count(*)
         FROM pg_stat_activity WHERE backend_type = 'client backend' GROUP BY 1",
    );
    let connections = connections.fetch_all(&mut *connection).await?;
    let tables = sqlx::query_as(
        "SELECT relname::text AS name, n_live_tup AS live, n_dead_tup AS dead FROM pg_stat_user_tables
         WHERE schemaname = current_schema() ORDER BY n_dead_tup DESC, relname LIMIT $1",
    );
    let tables = tables.bind(TABLES).fetch_all(&mut *connection).await?;
    let replicas = sqlx::query_as(
        "SELECT coalesce(nullif(application_name, ''), host(client_addr), 'unknown') AS name,
             max(pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn))::float8 AS lag_bytes,
             max(extract(epoch FROM replay_lag))::float8 AS lag_s
         FROM pg_stat_replication GROUP BY 1",
    );
    Ok(Database { server, connections, tables, replicas: replicas.fetch_all(connection).await? })
}
