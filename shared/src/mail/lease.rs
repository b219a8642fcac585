//! Leases of emails: claiming, handing back, renewing and rescuing.
//!
//! Emails are leased in batches, and their outcomes are recorded one by one. As with jobs,
//! `attempt` only rises, and fences every write.
//!
//! The statements are public constants, so that tests can check their query plans.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use super::{Content, EmailState, QUEUE, Window};
use crate::error::Result;
use crate::mail::report::{record_events, reported};
use crate::platform::db;
use crate::queue::fronts::{Share, Waiting};
use crate::queue::rescue::look;
use crate::queue::{Claimant, by_workspace, renew_by};
pub use crate::queue::{LEASE, Lease, Looked, Marks, Position, RENEW_EVERY, RESCUE_EVERY, Ranges, SWEEP_EVERY, Sweep};

/// An email that a worker has leased.
#[derive(Debug, Clone, FromRow)]
pub struct Leased {
    /// The email's id.
    pub id: Uuid,
    /// The attempt that this lease began.
    pub attempt: i32,
    /// The workspace that sends the email.
    pub workspace_id: Uuid,
    /// The number of attempts in a row that failed temporarily.
    pub failures: i16,
    /// The domain of the recipient.
    pub to_domain: String,
    /// When the email became due.
    pub run_at: DateTime<Utc>,
    /// When the lease expires, unless it is renewed.
    pub lease_until: DateTime<Utc>,
    /// The recipient's time zone, if it is known.
    pub to_time_zone: Option<String>,
    /// The job that wrote the email, if one did.
    pub job_id: Option<Uuid>,
    /// The request that caused the email, if one did.
    pub request_id: Option<String>,
    /// The stored [trace](crate::platform::trace) that the email continues.
    pub trace_context: Option<String>,
    /// The sending window, if the workspace has one and the email is bulk email.
    #[sqlx(skip)]
    pub window: Option<Window>,
    /// The addresses and the content.
    #[sqlx(flatten)]
    pub content: Content,
}

impl Leased {
    /// The lease, which every write for this email must present.
    pub fn lease(&self) -> Lease {
        Lease { workspace_id: self.workspace_id, id: self.id, attempt: self.attempt }
    }

    /// The position among the due emails of the workspace.
    pub fn position(&self) -> Position {
        Position { run_at: self.run_at, id: self.id }
    }

    /// When the email was leased, by the database's clock.
    pub fn leased_at(&self) -> DateTime<Utc> {
        self.lease_until - LEASE
    }

    /// Whether the email's window is open.
    pub fn may_leave(&self, now: DateTime<Utc>) -> bool {
        self.window.as_ref().is_none_or(|window| window.is_open(now))
    }

    /// The first time from `at` on at which the email's window is open.
    pub fn next_opening(&self, at: DateTime<Utc>) -> DateTime<Utc> {
        self.window.as_ref().map_or(at, |window| window.next_opening(at))
    }
}

/// Finds the [`fronts`](crate::queue::fronts) of the outbox.
pub const ENTRIES: &str = "
    SELECT workspace_id, run_at, id, now() AS now FROM emails
    WHERE state IN ('queued', 'deferred') AND lease_until IS NULL
        AND (workspace_id, run_at, id) >= ($1, $2, $3) AND workspace_id < $4
    ORDER BY workspace_id, run_at, id LIMIT 64";

/// Finds the front of one workspace.
pub const HEAD: &str = "
    SELECT head.run_at, head.id, before.walked AS walked_before,
        pg_stat_get_xact_tuples_returned('emails_due_idx'::regclass) AS walked_after, now() AS now
    FROM (SELECT pg_stat_get_xact_tuples_returned('emails_due_idx'::regclass) AS walked) AS before
    LEFT JOIN LATERAL (
        SELECT run_at, id FROM emails
        WHERE workspace_id = $1 AND state IN ('queued', 'deferred') AND lease_until IS NULL
        ORDER BY run_at, id LIMIT 1
    ) AS head ON true";

const WAITING: Waiting<'static> = Waiting { entries: ENTRIES, head: HEAD, queue: None };

/// Leases due emails of one workspace. The rows are read by `ctid`: a row that moved between the
/// statement's snapshot and its lock is left for the next lease.
pub const LEASE_DUE: &str = "
    UPDATE emails
    SET attempt = attempt + 1, lease_until = now() + make_interval(secs => $3), worker_id = $6
    WHERE workspace_id = $1 AND ctid = ANY (ARRAY(
        SELECT ctid FROM emails
        WHERE workspace_id = $1 AND state IN ('queued', 'deferred') AND lease_until IS NULL
            AND (run_at, id) >= ($4, $5) AND run_at <= now()
        ORDER BY run_at, id LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED
    ))
    RETURNING id, attempt, workspace_id, failures, to_domain, run_at, lease_until, to_time_zone, event,
        event_key, from_name, from_email, reply_to, to_name, to_email, subject, text_body, html_body, unsubscribe,
        created_at, opens_at, job_id, request_id, trace_context";

/// Leases up to `limit` due emails in these ranges: an equal share for each workspace that has any,
/// the oldest first within a workspace. Each workspace's emails are leased in a separate
/// transaction, unless the connection is in one. Nothing that is paused is leased.
pub async fn lease(
    connection: &mut PgConnection,
    limit: i64,
    ranges: &Ranges,
    Claimant { worker_id, paused }: &Claimant,
) -> Result<Vec<Leased>> {
    let mut leased: Vec<Leased> = Vec::new();
    if paused.has_queue(QUEUE) {
        return Ok(leased);
    }
    for Share { front, limit: share } in WAITING.shares(connection, limit, ranges, &[], paused).await? {
        let left = limit - i64::try_from(leased.len()).unwrap_or(i64::MAX);
        let emails = sqlx::query_as(LEASE_DUE)
            .bind(front.workspace_id)
            .bind(share.min(left))
            .bind(LEASE.as_secs_f64())
            .bind(front.position.run_at)
            .bind(front.position.id)
            .bind(worker_id)
            .fetch_all(&mut *connection)
            .await;
        leased.extend(db::or_nothing(emails)?);
    }
    leased.sort_unstable_by_key(|email| (email.workspace_id, email.id));
    // The first email of each workspace, then the second of each, so that a single email waits for
    // few others.
    let mut ranks = std::collections::HashMap::<Uuid, u32>::new();
    leased.sort_by_cached_key(|email| {
        let rank = ranks.entry(email.workspace_id).or_default();
        *rank += 1;
        *rank
    });
    Ok(leased)
}

/// Finds where the waiting emails of these workspaces begin.
pub async fn sweep(connection: &mut PgConnection, workspaces: &[Uuid]) -> Result<Sweep> {
    WAITING.sweep(connection, workspaces).await
}

/// Hands emails of one workspace back.
pub const HAND_BACK: &str = "
    UPDATE emails SET lease_until = NULL
    FROM unnest($2::uuid[], $3::integer[]) AS mine (id, attempt)
    WHERE emails.workspace_id = $1 AND emails.id = mine.id AND emails.attempt = mine.attempt";

/// Hands emails back that were not attempted, as if they had never been leased.
pub async fn hand_back(connection: &mut PgConnection, leases: &[Lease]) -> Result<()> {
    for (workspace_id, ids, attempts) in by_workspace(leases) {
        let hand_back = sqlx::query(HAND_BACK).persistent(false);
        hand_back.bind(workspace_id).bind(ids).bind(attempts).execute(&mut *connection).await?;
    }
    Ok(())
}

/// Renews leases of one workspace. An email whose outcome was recorded meanwhile has no lease, and
/// gets none.
pub const RENEW: &str = "
    UPDATE emails SET lease_until = CASE WHEN lease_until IS NOT NULL THEN $4::timestamptz END
    FROM unnest($2::uuid[], $3::integer[]) AS mine (id, attempt)
    WHERE emails.workspace_id = $1 AND emails.id = mine.id AND emails.attempt = mine.attempt
    RETURNING emails.workspace_id, emails.id, emails.attempt";

/// Renews leases, with one statement for each workspace, and returns those that are still held.
pub async fn renew(connection: &mut PgConnection, leases: &[Lease]) -> Result<Vec<Lease>> {
    renew_by(RENEW, connection, leases).await
}

/// An email whose lease had expired.
#[derive(Debug, FromRow)]
pub struct Rescued {
    /// The email's id.
    pub id: Uuid,
    /// `unknown` if the email was being sent, else its state before the lease.
    pub state: EmailState,
}

/// Finds expired leases.
pub const LOOK: &str = look!("emails");

/// Frees emails of one workspace whose leases expired. Without `coalesce`, the planner would choose
/// the index on `lease_until` instead of the primary key.
pub const RESCUE: &str = concat!(
    "
    WITH rescued AS (
        UPDATE emails
        SET attempt = attempt + 1, lease_until = NULL, updated_at = now(),
            state = CASE WHEN state = 'sending' THEN 'unknown' ELSE state END,
            answer = CASE WHEN state = 'sending' THEN 'the worker died while sending this message' ELSE answer END
        WHERE workspace_id = $1 AND id = ANY (ARRAY(
            SELECT id FROM emails
            WHERE workspace_id = $1 AND id = ANY ($2) AND coalesce(lease_until, 'infinity') < now()
            ORDER BY id FOR NO KEY UPDATE SKIP LOCKED
        ))
        RETURNING ",
    reported!(),
    "), reported AS (",
    record_events!("rescued WHERE state = 'unknown'"),
    ")
    SELECT id, state FROM rescued"
);

/// Frees the emails of workers that died. Those that were being sent become `unknown`.
pub async fn rescue(connection: &mut PgConnection, looked: &mut Looked) -> Result<Vec<Rescued>> {
    let mut rescued = Vec::new();
    for (workspace_id, ids) in looked.look(connection, LOOK).await? {
        rescued.extend(sqlx::query_as(RESCUE).bind(workspace_id).bind(ids).fetch_all(&mut *connection).await?);
    }
    Ok(rescued)
}

/// Marks up to `limit` emails of a workspace as `unknown` that wait or are being sent, with the
/// reason as their answer. A higher attempt revokes the leases. Returns their number.
pub async fn give_up(connection: &mut PgConnection, workspace_id: Uuid, reason: &str, limit: i64) -> Result<u64> {
    let mut given_up = 0;
    // One index has the emails that wait, another those that are being sent.
    for found in [
        "SELECT id FROM emails WHERE workspace_id = $1 AND state IN ('queued', 'deferred')
         ORDER BY run_at, id LIMIT $2 FOR UPDATE",
        "SELECT id FROM emails WHERE workspace_id = $1 AND state = 'sending' AND lease_until IS NOT NULL
         ORDER BY id LIMIT $2 FOR UPDATE",
    ] {
        let ids: Vec<Uuid> =
            sqlx::query_scalar(found).bind(workspace_id).bind(limit).fetch_all(&mut *connection).await?;
        let updated = sqlx::query(concat!(
            "WITH given_up AS (
                 UPDATE emails
                 SET state = 'unknown', attempt = attempt + 1, lease_until = NULL, answer = $3, updated_at = now()
                 WHERE workspace_id = $1 AND id = ANY ($2)
                 RETURNING ",
            reported!(),
            ") ",
            record_events!("given_up")
        ));
        given_up += updated.bind(workspace_id).bind(ids).bind(reason).execute(&mut *connection).await?.rows_affected();
    }
    Ok(given_up)
}

const FIRST_WAIT: Duration = Duration::from_secs(60);
const LONGEST_WAIT: Duration = Duration::from_secs(60 * 60);

/// How long to wait before the next attempt after a temporary failure, given the number of earlier
/// failures: one minute at first, then twice as long each time, at most an hour, with 20% jitter.
/// `None` if the waits so far add up to `give_up_after`.
pub fn backoff(failures: i16, give_up_after: Duration) -> Option<Duration> {
    let waited: Duration = (0..failures).map(wait).sum();
    (waited < give_up_after).then(|| wait(failures).mul_f64(rand::random_range(0.8..1.2)))
}

fn wait(failures: i16) -> Duration {
    FIRST_WAIT.saturating_mul(1 << failures.clamp(0, 10)).min(LONGEST_WAIT)
}

/// The number of unfinished emails by state.
#[derive(Debug, Clone, Copy, Default, FromRow)]
pub struct Depth {
    /// Emails in the state `queued`.
    pub queued: i64,
    /// Emails in the state `deferred`.
    pub deferred: i64,
    /// Emails in the state `sending`.
    pub sending: i64,
    /// Emails in the state `unknown`, which an operator must resolve.
    pub unknown: i64,
    /// How many seconds the longest waiting email has been due.
    pub oldest_due_s: f64,
}

/// Counts the unfinished emails of all workspaces.
pub async fn depth(connection: &mut PgConnection) -> Result<Depth> {
    Ok(sqlx::query_as(
        "SELECT count(*) FILTER (WHERE state = 'queued') AS queued, count(*) FILTER (WHERE state = 'deferred') AS deferred,
             count(*) FILTER (WHERE state = 'sending') AS sending, count(*) FILTER (WHERE state = 'unknown') AS unknown,
             coalesce(greatest(extract(epoch FROM now() - min(run_at) FILTER (WHERE state IN ('queued', 'deferred'))), 0), 0)::float8
                 AS oldest_due_s
         FROM (SELECT state, run_at FROM emails WHERE state IN ('queued', 'deferred') AND lease_until IS NULL
               UNION ALL
               SELECT state, run_at FROM emails WHERE lease_until IS NOT NULL
               UNION ALL
               SELECT state, run_at FROM emails WHERE state = 'unknown') AS open",
    )
    .fetch_one(connection)
    .await?)
}
