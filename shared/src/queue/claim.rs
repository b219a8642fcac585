//! Claiming due jobs, in turn for each workspace.
//!
//! The statements are constants because tests check their plans.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::value::RawValue;
use sqlx::types::Json;
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use super::fronts::{Front, Share, Waiting};
use super::{Claimant, LEASE, Lease, Paused, Payload, Position, Ranges, RetryState, Sweep};
use crate::error::{Error, Result};
use crate::events::{Actor, ActorKind};
use crate::platform::db::{self, Among};

/// A job that a worker has claimed.
#[derive(Debug, FromRow)]
pub struct Claimed {
    /// The id of the job.
    pub id: Uuid,
    /// The workspace of the job.
    pub workspace_id: Uuid,
    /// The kind of the job.
    pub kind: String,
    /// The attempt that this claim started.
    pub attempt: i32,
    /// The errors that count, since a step last recorded progress.
    pub failures: i16,
    /// The crashes of the job's process since then.
    pub crashes: i16,
    /// All errors since then, if there were any.
    pub retry_state: Option<Json<RetryState>>,
    /// The [`Payload`], as JSON.
    pub payload: Json<Box<RawValue>>,
    /// The request that enqueued the job.
    pub request_id: Option<String>,
    /// The stored [trace](crate::platform::trace) that the job continues.
    pub trace_context: Option<String>,
    /// When the job became due.
    pub run_at: DateTime<Utc>,
    /// When the lease expires, unless it is renewed.
    pub lease_until: DateTime<Utc>,
}

impl Claimed {
    /// The lease of this claim.
    pub fn lease(&self) -> Lease {
        Lease { workspace_id: self.workspace_id, id: self.id, attempt: self.attempt }
    }

    /// The job as the actor of what it does.
    pub fn actor(&self) -> Actor {
        let Self { workspace_id, id, request_id, .. } = self;
        Actor { workspace_id: *workspace_id, kind: ActorKind::Job, id: *id, request_id: request_id.clone() }
    }

    /// The position of the job in its workspace's queue.
    pub fn position(&self) -> Position {
        Position { run_at: self.run_at, id: self.id }
    }

    /// When the job was claimed, by the database's clock.
    pub fn claimed_at(&self) -> DateTime<Utc> {
        self.lease_until - LEASE
    }
}

/// The statement that finds [`fronts`](super::fronts). Without `coalesce` around the condition on kinds, the planner would
/// expect that it leaves out nearly all jobs, and choose another index.
pub const ENTRIES: &str = "
    SELECT workspace_id, run_at, id, now() AS now FROM jobs
    WHERE queue = $5 AND status = 'queued' AND crashes = 0
        AND (workspace_id, run_at, id) >= ($1, $2, $3) AND workspace_id < $4 AND coalesce(kind <> ALL ($6), true)
    ORDER BY workspace_id, run_at, id LIMIT 64";

/// The statement that finds the front of one workspace.
pub const HEAD: &str = "
    SELECT head.run_at, head.id, before.walked AS walked_before,
        pg_stat_get_xact_tuples_returned('jobs_due_idx'::regclass) AS walked_after, now() AS now
    FROM (SELECT pg_stat_get_xact_tuples_returned('jobs_due_idx'::regclass) AS walked) AS before
    LEFT JOIN LATERAL (
        SELECT run_at, id FROM jobs
        WHERE workspace_id = $1 AND queue = $2 AND status = 'queued' AND crashes = 0 AND coalesce(kind <> ALL ($3), true)
        ORDER BY run_at, id LIMIT 1
    ) AS head ON true";

fn waiting<'a>(queue: &'a str, paused: &'a Paused) -> Waiting<'a> {
    Waiting { entries: ENTRIES, head: HEAD, queue: Some((queue, paused.kinds())) }
}

/// The statement of [`claim`] for one workspace. It updates rows by `ctid`; a row that was updated between
/// the snapshot and the lock is left for the next claim.
pub const CLAIM: &str = "
    UPDATE jobs
    SET status = 'running', attempt = attempt + 1, lease_until = now() + make_interval(secs => $4),
        started_at = coalesce(started_at, $5), yielded = false, worker_id = $9
    WHERE workspace_id = $1 AND ctid = ANY (ARRAY(
        SELECT ctid FROM jobs
        WHERE workspace_id = $1 AND queue = $2 AND status = 'queued' AND crashes = 0
            AND (run_at, id) >= ($6, $7) AND run_at <= now() AND coalesce(kind <> ALL ($8), true)
        ORDER BY run_at, id LIMIT $3 FOR NO KEY UPDATE SKIP LOCKED
    ))
    RETURNING id, workspace_id, kind, attempt, failures, crashes, retry_state, payload, request_id, trace_context, run_at,
        lease_until";

/// Claims up to `limit` due jobs of a queue: an equal share for each workspace with due jobs, oldest first.
/// Each workspace's claim is a separate transaction, unless the connection is in one.
pub async fn claim(connection: &mut PgConnection, queue: &str, limit: i64) -> Result<Vec<Claimed>> {
    claim_in(connection, queue, limit, &Ranges::default(), &[], &Claimant::default()).await
}

/// Like [`claim`], but only in these ranges, for the workspaces in `holders` last, and nothing that is paused.
pub async fn claim_in(
    connection: &mut PgConnection,
    queue: &str,
    limit: i64,
    ranges: &Ranges,
    holders: &[Uuid],
    Claimant { worker_id, paused }: &Claimant,
) -> Result<Vec<Claimed>> {
    let mut claimed: Vec<Claimed> = Vec::new();
    if paused.has_queue(queue) {
        return Ok(claimed);
    }
    let shares = waiting(queue, paused).shares(connection, limit, ranges, holders, paused).await?;
    for Share { front, limit: share } in shares {
        let left = limit - i64::try_from(claimed.len()).unwrap_or(i64::MAX);
        let jobs = sqlx::query_as(CLAIM)
            .bind(front.workspace_id)
            .bind(queue)
            .bind(share.min(left))
            .bind(LEASE.as_secs_f64())
            .bind(front.now)
            .bind(front.position.run_at)
            .bind(front.position.id)
            .bind(paused.kinds())
            .bind(worker_id)
            .fetch_all(&mut *connection)
            .await;
        claimed.extend(db::or_nothing(jobs)?);
    }
    claimed.sort_unstable_by_key(|job| job.id);
    Ok(claimed)
}

/// The statement that finds jobs for [`claim_quarantined`].
pub const QUARANTINED: &str = "
    SELECT workspace_id, id, now() AS now FROM jobs
    WHERE status = 'queued' AND crashes > 0 AND run_at <= now() AND queue = ANY ($1)
        AND coalesce(kind <> ALL ($2), true) AND coalesce(workspace_id <> ALL ($3), true)
        AND ($4::uuid[] IS NULL OR workspace_id = ANY ($4))
    ORDER BY crashes, run_at LIMIT 8";

/// The statement of [`claim_quarantined`].
pub const CLAIM_QUARANTINED: &str = "
    UPDATE jobs
    SET status = 'running', attempt = attempt + 1, lease_until = now() + make_interval(secs => $3),
        started_at = coalesce(started_at, $4), yielded = false, worker_id = $5
    WHERE workspace_id = $1 AND id = $2 AND status = 'queued' AND crashes > 0 AND run_at <= now()
    RETURNING id, workspace_id, kind, attempt, failures, crashes, retry_state, payload, request_id, trace_context, run_at,
        lease_until";

/// Claims one due job of the quarantine: the one with the fewest crashes, since the job that causes the
/// crashes has the most.
pub async fn claim_quarantined(
    connection: &mut PgConnection,
    queues: &[&str],
    Claimant { worker_id, paused }: &Claimant,
) -> Result<Option<Claimed>> {
    let queues: Vec<&str> = queues.iter().copied().filter(|queue| !paused.has_queue(queue)).collect();
    let mut among = Among::new();
    let found: Vec<(Uuid, Uuid, DateTime<Utc>)> = loop {
        let found = sqlx::query_as(QUARANTINED).bind(&queues).bind(paused.kinds()).bind(paused.workspaces());
        let found = found.bind(among.workspaces()).fetch_all(&mut *connection).await.map_err(Error::from);
        if let Some(found) = among.accept(connection, found).await? {
            break found;
        }
    };
    for (workspace_id, id, now) in found {
        let claimed = sqlx::query_as(CLAIM_QUARANTINED)
            .bind(workspace_id)
            .bind(id)
            .bind(LEASE.as_secs_f64())
            .bind(now)
            .bind(worker_id)
            .fetch_optional(&mut *connection)
            .await?;
        // `None`: another worker has claimed the job.
        if claimed.is_some() {
            return Ok(claimed);
        }
    }
    Ok(None)
}

/// How long a job must have been due before another workspace's job yields to it. Any worker with a free
/// slot has claimed it by then.
const OVERDUE: TimeDelta = TimeDelta::milliseconds(200);

/// Up to `limit` workspaces, other than `holders` and paused ones, with a job that no worker has claimed in time.
pub async fn workspaces_waiting(
    connection: &mut PgConnection,
    queue: &str,
    limit: usize,
    ranges: &Ranges,
    holders: &[Uuid],
    paused: &Paused,
) -> Result<Vec<Uuid>> {
    let mut workspaces = Vec::new();
    if paused.has_queue(queue) {
        return Ok(workspaces);
    }
    let visit = |front: Front| {
        let is_left_out = holders.contains(&front.workspace_id) || paused.has_workspace(front.workspace_id);
        if front.position.run_at <= front.now - OVERDUE && !is_left_out {
            workspaces.push(front.workspace_id);
        }
        workspaces.len() < limit
    };
    waiting(queue, paused).visit(connection, ranges, visit).await?;
    Ok(workspaces)
}

/// Finds the first waiting jobs of these workspaces, except those of paused kinds, reading from the front of the
/// queue.
pub async fn sweep(connection: &mut PgConnection, queue: &str, workspaces: &[Uuid], paused: &Paused) -> Result<Sweep> {
    waiting(queue, paused).sweep(connection, workspaces).await
}

/// Parses the payload of a claimed job.
///
/// # Errors
/// [`Error::Internal`](crate::Error::Internal) for a payload of an incompatible version of the program.
pub fn payload<P: Payload>(claimed: &Claimed) -> Result<P> {
    Ok(serde_json::from_str(claimed.payload.0.get())?)
}
