//! Which worker delivers the webhooks of a workspace.
//!
//! A workspace has one row in `webhook_queues`. The worker that holds its lease is the only one that delivers to the
//! workspace's endpoints, so it keeps their limits and order in memory. `attempt` only rises, with each claim and
//! rescue, and fences all writes of a worker that has lost its lease. Whoever writes what that worker must know locks
//! the row first, and sets `due_at`.

use chrono::{DateTime, Utc};
use sqlx::{Connection, FromRow, PgConnection};
use uuid::Uuid;

use super::QUEUE;
use crate::error::{Error, Result};
use crate::events::feed;
use crate::mail::place::is_released;
use crate::platform::db::{self, Among};
use crate::queue::{LEASE, Looked, Paused};

/// The most workspaces that a look for work returns.
const CANDIDATES: i64 = 256;

/// Locks the row of a workspace, which is created on first use. Returns the number of the last event.
pub(super) async fn lock(connection: &mut PgConnection, workspace_id: Uuid) -> Result<i64> {
    let last_event = feed::reach(connection, workspace_id).await?.number;
    sqlx::query("INSERT INTO webhook_queues (workspace_id, last_event) VALUES ($1, $2) ON CONFLICT DO NOTHING")
        .bind(workspace_id)
        .bind(last_event)
        .execute(&mut *connection)
        .await?;
    sqlx::query("SELECT 1 FROM webhook_queues WHERE workspace_id = $1 FOR UPDATE")
        .bind(workspace_id)
        .execute(&mut *connection)
        .await?;
    Ok(last_event)
}

/// Makes work of the workspace due, in a transaction that has [locked](lock) its row.
pub(super) async fn set_due(connection: &mut PgConnection, workspace_id: Uuid) -> Result<()> {
    sqlx::query("UPDATE webhook_queues SET due_at = $2 WHERE workspace_id = $1")
        .bind(workspace_id)
        .bind(db::now())
        .execute(connection)
        .await?;
    Ok(())
}

/// Makes all deliveries due that wait for an earlier one, since the endpoint has no order any more.
pub(super) async fn release_all(connection: &mut PgConnection, workspace_id: Uuid, webhook_id: Uuid) -> Result<()> {
    sqlx::query(
        "UPDATE webhook_deliveries SET state = 'pending'
         WHERE workspace_id = $1 AND webhook_id = $2 AND subject_id IS NOT NULL AND state = 'waiting'",
    )
    .bind(workspace_id)
    .bind(webhook_id)
    .execute(connection)
    .await?;
    Ok(())
}

/// The right to deliver the webhooks of a workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, FromRow)]
pub struct Hold {
    /// The workspace.
    pub workspace_id: Uuid,
    /// The attempt, which fences every write.
    pub attempt: i32,
}

/// A workspace with work to do.
#[derive(Debug, Clone, Copy, FromRow)]
pub struct Candidate {
    /// The workspace.
    pub workspace_id: Uuid,
    /// Whether no worker holds its lease.
    pub is_free: bool,
    /// Whether there is work besides new events: due deliveries, or changes of endpoints.
    pub is_due: bool,
    /// Whether there are new events.
    pub has_events: bool,
}

/// Returns workspaces with new events or due deliveries that no worker holds, and those in `held`, but none that is
/// paused.
pub async fn candidates(connection: &mut PgConnection, held: &[Uuid], paused: &Paused) -> Result<Vec<Candidate>> {
    if paused.has_queue(QUEUE) {
        return Ok(Vec::new());
    }
    // Begins anywhere, so that no workspace is always the last.
    let (begin, mut among) = (Uuid::from_u128(rand::random()), Among::new());
    loop {
        let found = sqlx::query_as(
            "SELECT queues.workspace_id, lease_until IS NULL AS is_free, coalesce(due_at <= $4, false) AS is_due,
                 coalesce(last_event < cursors.number, false) AS has_events
             FROM webhook_queues AS queues LEFT JOIN event_cursors AS cursors ON cursors.workspace_id = queues.workspace_id
             WHERE (lease_until IS NULL OR queues.workspace_id = ANY ($1)) AND (due_at <= $4 OR last_event < cursors.number)
                 AND coalesce(queues.workspace_id <> ALL ($5), true)
                 AND ($6::uuid[] IS NULL OR queues.workspace_id = ANY ($6))
             ORDER BY queues.workspace_id < $2, queues.workspace_id LIMIT $3",
        );
        let found = found.bind(held).bind(begin).bind(CANDIDATES).bind(db::now()).bind(paused.workspaces());
        let found = found.bind(among.workspaces()).fetch_all(&mut *connection).await.map_err(Error::from);
        if let Some(found) = among.accept(connection, found).await? {
            return Ok(found);
        }
    }
}

/// Claims the lease of a workspace, unless another worker has it or the database is on hold.
pub async fn claim(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    public_url: Option<&str>,
    worker_id: Uuid,
) -> Result<Option<Hold>> {
    let claimed = sqlx::query_as(concat!(
        "UPDATE webhook_queues
         SET attempt = attempt + 1, lease_until = now() + make_interval(secs => $2), due_at = NULL, worker_id = $4
         WHERE workspace_id = $1 AND lease_until IS NULL AND ",
        is_released!("$3"),
        " RETURNING workspace_id, attempt"
    ));
    let claimed = claimed.bind(workspace_id).bind(LEASE.as_secs_f64()).bind(public_url).bind(worker_id);
    Ok(claimed.fetch_optional(connection).await?)
}

/// Renews leases, and returns those that are still held.
pub async fn renew(connection: &mut PgConnection, held: &[Hold]) -> Result<Vec<Hold>> {
    let mut renewed = Vec::with_capacity(held.len());
    for hold in held {
        let found = sqlx::query_as::<_, Hold>(
            "UPDATE webhook_queues SET lease_until = now() + make_interval(secs => $3)
             WHERE workspace_id = $1 AND attempt = $2 AND lease_until IS NOT NULL
             RETURNING workspace_id, attempt",
        );
        let found = found.bind(hold.workspace_id).bind(hold.attempt).bind(LEASE.as_secs_f64());
        renewed.extend(found.fetch_optional(&mut *connection).await?);
    }
    Ok(renewed)
}

/// Records that the holder looks at all that is due now.
pub async fn acknowledge(connection: &mut PgConnection, hold: Hold) -> Result<()> {
    sqlx::query(
        "UPDATE webhook_queues SET due_at = NULL WHERE workspace_id = $1 AND attempt = $2 AND due_at IS NOT NULL",
    )
    .bind(hold.workspace_id)
    .bind(hold.attempt)
    .execute(connection)
    .await?;
    Ok(())
}

/// Locks the row for a write of its holder, and returns the number of the last event that has its deliveries.
///
/// # Errors
/// [`Error::Superseded`] if another worker has claimed the lease; the caller rolls back.
pub(super) async fn fence(connection: &mut PgConnection, hold: Hold) -> Result<i64> {
    let held = "SELECT last_event FROM webhook_queues WHERE workspace_id = $1 AND attempt = $2 FOR UPDATE";
    let held = sqlx::query_scalar(held).bind(hold.workspace_id).bind(hold.attempt);
    held.fetch_optional(connection).await?.ok_or(Error::Superseded)
}

/// Gives a lease back. The workspace is due again when its next delivery is.
///
/// # Errors
/// [`Error::Superseded`] if another worker has claimed the lease.
pub async fn release(connection: &mut PgConnection, hold: Hold) -> Result<()> {
    let mut transaction = connection.begin().await?;
    fence(&mut transaction, hold).await?;
    // A second statement, so that it sees what whoever had the lock before has written.
    sqlx::query(
        "UPDATE webhook_queues
         SET lease_until = NULL, attempt = attempt + 1, due_at = least(due_at, (
             SELECT min(first.run_at)
             FROM (
                 SELECT id FROM webhooks WHERE workspace_id = $1 AND enabled AND deleted_at IS NULL
                 UNION ALL
                 SELECT id FROM webhook_callbacks WHERE workspace_id = $1 AND url IS NOT NULL
             ) AS target
             CROSS JOIN LATERAL (
                 SELECT run_at FROM webhook_deliveries
                 WHERE workspace_id = $1 AND webhook_id = target.id AND state = 'pending'
                 ORDER BY run_at, id LIMIT 1
             ) AS first
         ), (SELECT min(created_at) FROM webhook_walks WHERE workspace_id = $1))
         WHERE workspace_id = $1 AND attempt = $2",
    )
    .bind(hold.workspace_id)
    .bind(hold.attempt)
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(())
}

/// Frees the workspaces of workers that died, and returns their number.
pub async fn rescue(connection: &mut PgConnection, looked: &mut Looked) -> Result<usize> {
    let mut rescued = 0;
    for (workspace_id, _) in looked.look(connection, LOOK).await? {
        let freed = sqlx::query(
            "UPDATE webhook_queues SET lease_until = NULL, attempt = attempt + 1, due_at = now()
             WHERE workspace_id = $1 AND lease_until < now()",
        );
        rescued += freed.bind(workspace_id).execute(&mut *connection).await?.rows_affected();
    }
    Ok(usize::try_from(rescued).unwrap_or_default())
}

/// Finds expired leases.
const LOOK: &str =
    crate::queue::rescue::look!("(SELECT workspace_id, workspace_id AS id, lease_until FROM webhook_queues) AS leases");

/// Deliveries of all workspaces that are due, for operators.
#[derive(Debug, Clone, Copy, Default, FromRow)]
pub struct Depth {
    /// Their number.
    pub due: i64,
    /// How many seconds the longest waiting one has been due.
    pub oldest_due_s: f64,
}

/// Counts the deliveries that are due to enabled endpoints and callbacks.
pub async fn depth(connection: &mut PgConnection) -> Result<Depth> {
    let now: DateTime<Utc> = db::database_now(connection).await?;
    Ok(sqlx::query_as(
        "SELECT count(*) AS due, greatest(coalesce(extract(epoch FROM $1 - min(run_at)), 0), 0)::float8 AS oldest_due_s
         FROM webhook_deliveries AS deliveries
         WHERE state = 'pending' AND run_at <= $1 AND NOT EXISTS (
             SELECT FROM webhooks
             WHERE webhooks.workspace_id = deliveries.workspace_id AND webhooks.id = deliveries.webhook_id
                 AND NOT enabled
         )",
    )
    .bind(now)
    .fetch_one(connection)
    .await?)
}
