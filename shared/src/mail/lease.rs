//! What workers do with mails that they hold: lease, hand back, renew, rescue.
//!
//! Mails are leased in batches and marked one by one. As with jobs, `attempt` only ever rises, and is the
//! fence of every write.
//!
//! The statements are constants because their plans are tested.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use super::{Content, EmailState};
use crate::error::Result;
use crate::queue::fronts::{Share, Waiting};
use crate::queue::rescue::look;
pub use crate::queue::{LEASE, Lease, Looked, Marks, Position, RENEW_EVERY, RESCUE_EVERY, Ranges, SWEEP_EVERY, Sweep};
use crate::queue::{by_workspace, renew_by};

/// A mail in the hands of a worker.
#[derive(Debug, Clone, FromRow)]
pub struct Leased {
    /// The mail.
    pub id: Uuid,
    /// The attempt that this lease began.
    pub attempt: i32,
    /// Whose mail it is.
    pub workspace_id: Uuid,
    /// Tries in a row that were put off.
    pub failures: i16,
    /// The domain of its recipient.
    pub to_domain: String,
    /// When it became due.
    pub run_at: DateTime<Utc>,
    /// Until when it is held, unless the lease is renewed.
    pub lease_until: DateTime<Utc>,
    /// What it says, and to whom.
    #[sqlx(flatten)]
    pub content: Content,
}

impl Leased {
    /// The right to write for this mail.
    pub fn lease(&self) -> Lease {
        Lease { workspace_id: self.workspace_id, id: self.id, attempt: self.attempt }
    }

    /// Its place among the emails of its workspace.
    pub fn position(&self) -> Position {
        Position { run_at: self.run_at, id: self.id }
    }

    /// When it was leased, by the database's clock.
    pub fn leased_at(&self) -> DateTime<Utc> {
        self.lease_until - LEASE
    }
}

/// The statement that finds the [`fronts`](crate::queue::fronts) of the outbox; its plan is tested.
pub const ENTRIES: &str = "
    SELECT workspace_id, run_at, id, now() AS now FROM emails
    WHERE state IN ('queued', 'deferred') AND lease_until IS NULL
        AND (workspace_id, run_at, id) >= ($1, $2, $3) AND workspace_id < $4
    ORDER BY workspace_id, run_at, id LIMIT 64";

/// The statement that finds the front of one workspace; its plan is tested.
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

/// The statement of [`lease`] for one workspace; its plan is tested. The rows are reached by their places;
/// one that moved between the statement's snapshot and its lock is left for the next time.
pub const LEASE_DUE: &str = "
    UPDATE emails
    SET attempt = attempt + 1, lease_until = now() + make_interval(secs => $3)
    WHERE workspace_id = $1 AND ctid = ANY (ARRAY(
        SELECT ctid FROM emails
        WHERE workspace_id = $1 AND state IN ('queued', 'deferred') AND lease_until IS NULL
            AND (run_at, id) >= ($4, $5) AND run_at <= now()
        ORDER BY run_at, id LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED
    ))
    RETURNING id, attempt, workspace_id, failures, to_domain, run_at, lease_until, from_name, from_email, reply_to,
        to_name, to_email, subject, text_body, html_body, unsubscribe, created_at";

/// Leases up to `limit` due emails in these ranges: an equal share for each workspace that has any, oldest
/// first within it. Each workspace's lease is a transaction of its own, unless the connection is in one.
pub async fn lease(connection: &mut PgConnection, limit: i64, ranges: &Ranges) -> Result<Vec<Leased>> {
    let mut leased: Vec<Leased> = Vec::new();
    for Share { front, limit: share } in WAITING.shares(connection, limit, ranges, &[]).await? {
        let left = limit - i64::try_from(leased.len()).unwrap_or(i64::MAX);
        let emails: Vec<Leased> = sqlx::query_as(LEASE_DUE)
            .bind(front.workspace_id)
            .bind(share.min(left))
            .bind(LEASE.as_secs_f64())
            .bind(front.position.run_at)
            .bind(front.position.id)
            .fetch_all(&mut *connection)
            .await?;
        leased.extend(emails);
    }
    leased.sort_unstable_by_key(|mail| (mail.workspace_id, mail.id));
    // The first of each workspace, then the second of each, so that a single one waits for few.
    let mut places = std::collections::HashMap::<Uuid, u32>::new();
    leased.sort_by_cached_key(|mail| {
        let place = places.entry(mail.workspace_id).or_default();
        *place += 1;
        *place
    });
    Ok(leased)
}

/// Reads from the front of the outbox where the emails of these workspaces begin.
pub async fn sweep(connection: &mut PgConnection, workspaces: &[Uuid]) -> Result<Sweep> {
    WAITING.sweep(connection, workspaces).await
}

/// The statement of [`hand_back`] for one workspace; its plan is tested.
pub const HAND_BACK: &str = "
    UPDATE emails SET lease_until = NULL
    FROM unnest($2::uuid[], $3::integer[]) AS mine (id, attempt)
    WHERE emails.workspace_id = $1 AND emails.id = mine.id AND emails.attempt = mine.attempt";

/// Gives mails about which nothing was said back, as if they had never been leased.
pub async fn hand_back(connection: &mut PgConnection, leases: &[Lease]) -> Result<()> {
    for (workspace_id, ids, attempts) in by_workspace(leases) {
        sqlx::query(HAND_BACK).bind(workspace_id).bind(ids).bind(attempts).execute(&mut *connection).await?;
    }
    Ok(())
}

/// The statement of [`renew`] for one workspace; its plan is tested. What was marked meanwhile has no lease,
/// and gets none.
pub const RENEW: &str = "
    UPDATE emails SET lease_until = CASE WHEN lease_until IS NOT NULL THEN $4::timestamptz END
    FROM unnest($2::uuid[], $3::integer[]) AS mine (id, attempt)
    WHERE emails.workspace_id = $1 AND emails.id = mine.id AND emails.attempt = mine.attempt
    RETURNING emails.workspace_id, emails.id, emails.attempt";

/// Renews leases, all of a workspace in one statement, and returns those that are still held.
pub async fn renew(connection: &mut PgConnection, leases: &[Lease]) -> Result<Vec<Lease>> {
    renew_by(RENEW, connection, leases).await
}

/// A mail whose lease had run out.
#[derive(Debug, FromRow)]
pub struct Rescued {
    /// The mail.
    pub id: Uuid,
    /// `unknown` if it was on its way, else what it was before.
    pub state: EmailState,
}

/// The statement by which [`rescue`] looks; its plan is tested.
pub const LOOK: &str = look!("emails");

/// The statement by which [`rescue`] frees the emails of one workspace; its plan is tested. Compared by itself, `lease_until` would
/// lure the planner to the index of leases.
pub const RESCUE: &str = "
    UPDATE emails
    SET attempt = attempt + 1, lease_until = NULL, updated_at = now(),
        state = CASE WHEN state = 'sending' THEN 'unknown' ELSE state END,
        answer = CASE WHEN state = 'sending' THEN 'the worker died while it sent this mail' ELSE answer END
    WHERE workspace_id = $1 AND id = ANY (ARRAY(
        SELECT id FROM emails
        WHERE workspace_id = $1 AND id = ANY ($2) AND coalesce(lease_until, 'infinity') < now()
        ORDER BY id FOR NO KEY UPDATE SKIP LOCKED
    ))
    RETURNING id, state";

/// Frees emails whose worker died: those that were on their way are `unknown` from now on.
pub async fn rescue(connection: &mut PgConnection, looked: &mut Looked) -> Result<Vec<Rescued>> {
    let mut rescued = Vec::new();
    for (workspace_id, ids) in looked.look(connection, LOOK).await? {
        rescued.extend(sqlx::query_as(RESCUE).bind(workspace_id).bind(ids).fetch_all(&mut *connection).await?);
    }
    Ok(rescued)
}

/// The first wait of a mail that the server put off; each further one is twice as long.
const FIRST_WAIT: Duration = Duration::from_secs(60);
/// The longest.
const LONGEST_WAIT: Duration = Duration::from_secs(60 * 60);

/// How long a mail waits that was put off after so many failures before: one minute at first, double
/// each time, at most an hour, spread by a fifth up and down. `None`: it has been tried for long enough.
pub fn backoff(failures: i16, give_up_after: Duration) -> Option<Duration> {
    let waited: Duration = (0..failures).map(wait).sum();
    (waited < give_up_after).then(|| wait(failures).mul_f64(rand::random_range(0.8..1.2)))
}

fn wait(failures: i16) -> Duration {
    FIRST_WAIT.saturating_mul(1 << failures.clamp(0, 10)).min(LONGEST_WAIT)
}

/// How much waits in the outbox and how much wants an operator, for operators.
#[derive(Debug, Clone, Copy, Default, FromRow)]
pub struct Depth {
    /// Mails that were not tried yet.
    pub queued: i64,
    /// Mails that were put off.
    pub deferred: i64,
    /// Mails on their way.
    pub sending: i64,
    /// Mails of which it is not known whether they were sent.
    pub unknown: i64,
    /// For how many seconds the longest waiting due mail has been due.
    pub oldest_due_s: f64,
}

/// Counts what is not at its end.
///
/// # Errors
/// [`Error::Unavailable`](crate::Error::Unavailable) when the database is away.
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
