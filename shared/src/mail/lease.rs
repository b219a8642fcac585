//! What workers do with mails: lease, mark, hand back, renew, rescue.
//!
//! Mails are leased in batches and marked one by one. A mail is `sending`, and that is committed,
//! before a connection says a word about it; so whatever dies, it is known which mails were on
//! their way. As with jobs, `attempt` only ever rises, and is the fence of every write.
//!
//! The statements are constants because their plans are tested.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{Connection, FromRow, PgConnection};
use uuid::Uuid;

use super::{Content, EmailState};
use crate::error::Result;
use crate::queue::marks::{heads, sweep};
use crate::queue::rescue::look;
pub use crate::queue::{LEASE, Lease, Looked, Marks, Position, RENEW_EVERY, RESCUE_EVERY, Ranges, SWEEP_EVERY, Sweep};

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
        Lease { id: self.id, attempt: self.attempt }
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

/// The statement of [`lease`]; its plan is tested.
///
/// `head` is a loose index scan: one probe of the index for each workspace with emails that wait, and
/// for each mark. Each workspace with a due one gets an equal share of the batch. The rows are reached
/// by their places; one that moved between the statement's snapshot and its lock is left for the next
/// time.
pub const LEASE_DUE: &str = concat!(
    "WITH RECURSIVE ",
    heads!("emails", "state IN ('queued', 'deferred') AND lease_until IS NULL", "$3", "$4", "$5", "$6"),
    ", turn AS (
        SELECT workspace_id, run_at, id, ceil($1::float8 / count(*) OVER ())::bigint AS share
        FROM head WHERE run_at <= now()
        ORDER BY random() LIMIT $1
    )
    UPDATE emails
    SET attempt = attempt + 1, lease_until = now() + make_interval(secs => $2)
    WHERE ctid = ANY (ARRAY(
        SELECT due.ctid FROM turn CROSS JOIN LATERAL (
            SELECT ctid FROM emails
            WHERE state IN ('queued', 'deferred') AND lease_until IS NULL AND workspace_id = turn.workspace_id
                AND (run_at, id) >= (turn.run_at, turn.id) AND run_at <= now()
            ORDER BY run_at, id LIMIT turn.share FOR NO KEY UPDATE SKIP LOCKED
        ) AS due
        LIMIT $1
    ))
    RETURNING id, attempt, workspace_id, failures, to_domain, run_at, lease_until, from_name, from_email, reply_to,
        to_name, to_email, subject, text_body, html_body, unsubscribe, created_at"
);

/// Leases up to `limit` due emails in these ranges, oldest first within each workspace, and the
/// workspaces in turn.
pub async fn lease(connection: &mut PgConnection, limit: i64, ranges: &Ranges) -> Result<Vec<Leased>> {
    let mut leased: Vec<Leased> = sqlx::query_as(LEASE_DUE)
        .bind(limit)
        .bind(LEASE.as_secs_f64())
        .bind(&ranges.workspaces)
        .bind(&ranges.run_ats)
        .bind(&ranges.ids)
        .bind(&ranges.untils)
        .fetch_all(connection)
        .await?;
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

/// The statement of [`sweep`](fn@sweep); its plan is tested.
pub const SWEEP: &str = sweep!("emails", "state IN ('queued', 'deferred') AND lease_until IS NULL", "emails_due_idx");

/// Reads from the front of the outbox where the emails of each workspace begin.
pub async fn sweep(connection: &mut PgConnection) -> Result<Sweep> {
    Sweep::read(connection, SWEEP, None).await
}

/// What became of a mail that a worker had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The server has taken it.
    Sent {
        /// Its answer.
        answer: String,
    },
    /// The server has refused it for good.
    Bounced {
        /// Its answer.
        answer: String,
        /// Whether it said that there is no such address, so that nothing is sent there any more.
        suppress: bool,
    },
    /// Not now: again after the delay, with one failure more on its account.
    Deferred {
        /// What the server said, or why there was nothing to hear.
        answer: String,
        /// How long to wait.
        delay: Duration,
    },
    /// Nothing was said about it, or nothing that counts: again at once.
    Untouched,
    /// It was handed over, and whether the server has taken it is not known.
    Unknown {
        /// Why.
        answer: String,
    },
}

impl Outcome {
    /// The state it makes; `None` is the state before.
    fn state(&self) -> Option<EmailState> {
        match self {
            Self::Sent { .. } => Some(EmailState::Sent),
            Self::Bounced { .. } => Some(EmailState::Bounced),
            Self::Deferred { .. } => Some(EmailState::Deferred),
            Self::Unknown { .. } => Some(EmailState::Unknown),
            Self::Untouched => None,
        }
    }

    fn answer(&self) -> Option<&str> {
        match self {
            Self::Sent { answer }
            | Self::Bounced { answer, .. }
            | Self::Deferred { answer, .. }
            | Self::Unknown { answer } => Some(answer),
            Self::Untouched => None,
        }
    }
}

/// How the next mail of a connection may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// It is `sending`, and nobody else will send it: speak.
    Sending,
    /// Its address takes no mail any more; it is `suppressed`.
    Suppressed,
    /// It was cancelled, or another worker has it.
    Gone,
}

/// The statement of [`mark`]; its plan is tested. It names no state in WHERE: the attempt tells
/// everything, and the planner has nothing but the primary key to go by.
pub const MARK: &str = "
    WITH ended AS (
        UPDATE emails SET
            state = CASE WHEN $3::text IS NOT NULL THEN $3 WHEN failures > 0 THEN 'deferred' ELSE 'queued' END,
            answer = coalesce($4, answer),
            failures = CASE WHEN $3 = 'deferred' THEN failures + 1 ELSE failures END,
            run_at = CASE WHEN $3 = 'deferred' THEN now() + make_interval(secs => $5) ELSE run_at END,
            sent_at = CASE WHEN $3 = 'sent' THEN now() END,
            lease_until = NULL, updated_at = now()
        WHERE id = $1 AND attempt = $2
        RETURNING id, workspace_id, to_email
    ), suppressed AS (
        INSERT INTO suppressions (workspace_id, id, email, reason, email_id, created_at)
        SELECT workspace_id, $6, to_email, 'bounced', id, now() FROM ended WHERE $6::uuid IS NOT NULL
        ON CONFLICT DO NOTHING
    )
    UPDATE emails SET
        state = CASE WHEN stop.yes THEN 'suppressed' ELSE 'sending' END,
        lease_until = CASE WHEN stop.yes THEN NULL ELSE now() + make_interval(secs => $9) END,
        updated_at = now()
    FROM (
        SELECT EXISTS (
            SELECT FROM suppressions
            WHERE workspace_id = $10 AND lower(email COLLATE \"C\") = lower($11::text COLLATE \"C\")
        ) AS yes
    ) AS stop
    WHERE id = $7 AND attempt = $8
    RETURNING stop.yes";

/// Records what became of a connection's last mail, and that its next one is on its way, in one
/// statement. Doing it again is harmless.
///
/// Of a mail whose server says that there is no such address, it is recorded first, in a transaction that
/// also gives up what else waits for that address: the next mail may be one of these.
///
/// # Errors
/// [`Error::Unavailable`](crate::Error::Unavailable) when the database is away: then neither may
/// have been recorded, and nothing may be said about the next mail.
pub async fn mark(
    connection: &mut PgConnection,
    last: Option<&(Lease, Outcome)>,
    next: Option<&Leased>,
) -> Result<Option<Next>> {
    let Some((lease, Outcome::Bounced { suppress: true, .. })) = last else {
        return mark_both(connection, last, next).await;
    };
    let mut bounce = connection.begin().await?;
    mark_both(&mut bounce, last, None).await?;
    suppress_others(&mut bounce, *lease).await?;
    bounce.commit().await?;
    match next {
        Some(_) => mark_both(connection, None, next).await,
        None => Ok(None),
    }
}

/// Gives up what waits for the address of a mail that bounced, if the lease still holds.
async fn suppress_others(connection: &mut PgConnection, bounced: Lease) -> Result<()> {
    let address: Option<(Uuid, String)> =
        sqlx::query_as("SELECT workspace_id, lower(to_email COLLATE \"C\") FROM emails WHERE id = $1 AND attempt = $2")
            .bind(bounced.id)
            .bind(bounced.attempt)
            .fetch_optional(&mut *connection)
            .await?;
    if let Some((workspace_id, email_key)) = address {
        super::suppress(connection, workspace_id, &email_key).await?;
    }
    Ok(())
}

async fn mark_both(
    connection: &mut PgConnection,
    last: Option<&(Lease, Outcome)>,
    next: Option<&Leased>,
) -> Result<Option<Next>> {
    let outcome = last.map(|(_, outcome)| outcome);
    let delay = match outcome {
        Some(Outcome::Deferred { delay, .. }) => *delay,
        _ => Duration::ZERO,
    };
    let suppression = matches!(outcome, Some(Outcome::Bounced { suppress: true, .. })).then(Uuid::now_v7);
    let stopped: Option<bool> = sqlx::query_scalar(MARK)
        .bind(last.map(|(lease, _)| lease.id))
        .bind(last.map(|(lease, _)| lease.attempt))
        .bind(outcome.and_then(Outcome::state))
        .bind(outcome.and_then(Outcome::answer))
        .bind(delay.as_secs_f64())
        .bind(suppression)
        .bind(next.map(|mail| mail.id))
        .bind(next.map(|mail| mail.attempt))
        .bind(LEASE.as_secs_f64())
        .bind(next.map(|mail| mail.workspace_id))
        .bind(next.map(|mail| mail.content.to_email.as_str()))
        .fetch_optional(connection)
        .await?;
    Ok(next.map(|_| match stopped {
        Some(false) => Next::Sending,
        Some(true) => Next::Suppressed,
        None => Next::Gone,
    }))
}

/// The statement of [`hand_back`]; its plan is tested.
pub const HAND_BACK: &str = "
    UPDATE emails SET lease_until = NULL
    FROM unnest($1::uuid[], $2::integer[]) AS mine (id, attempt)
    WHERE emails.id = mine.id AND emails.attempt = mine.attempt";

/// Gives mails about which nothing was said back, as if they had never been leased.
///
/// # Errors
/// [`Error::Unavailable`](crate::Error::Unavailable) when the database is away.
pub async fn hand_back(connection: &mut PgConnection, leases: &[Lease]) -> Result<()> {
    let (ids, attempts) = columns(leases);
    sqlx::query(HAND_BACK).bind(ids).bind(attempts).execute(connection).await?;
    Ok(())
}

/// The statement of [`renew`]; its plan is tested. What was marked meanwhile has no lease, and gets none.
pub const RENEW: &str = "
    UPDATE emails SET lease_until = CASE WHEN lease_until IS NOT NULL THEN now() + make_interval(secs => $3) END
    FROM unnest($1::uuid[], $2::integer[]) AS mine (id, attempt)
    WHERE emails.id = mine.id AND emails.attempt = mine.attempt
    RETURNING emails.id, emails.attempt";

/// Renews leases, all in one statement, and returns those that are still held.
///
/// # Errors
/// [`Error::Unavailable`](crate::Error::Unavailable) when the database is away.
pub async fn renew(connection: &mut PgConnection, leases: &[Lease]) -> Result<Vec<Lease>> {
    let (ids, attempts) = columns(leases);
    Ok(sqlx::query_as(RENEW).bind(ids).bind(attempts).bind(LEASE.as_secs_f64()).fetch_all(connection).await?)
}

/// In the order of their ids, so that two statements never wait for each other in a circle.
fn columns(leases: &[Lease]) -> (Vec<Uuid>, Vec<i32>) {
    let mut leases = leases.to_vec();
    leases.sort_unstable();
    leases.iter().map(|lease| (lease.id, lease.attempt)).unzip()
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

/// The statement by which [`rescue`] writes; its plan is tested. Compared by itself, `lease_until` would
/// lure the planner to the index of leases.
pub const RESCUE: &str = "
    UPDATE emails
    SET attempt = attempt + 1, lease_until = NULL, updated_at = now(),
        state = CASE WHEN state = 'sending' THEN 'unknown' ELSE state END,
        answer = CASE WHEN state = 'sending' THEN 'the worker died while it sent this mail' ELSE answer END
    WHERE id = ANY (ARRAY(
        SELECT id FROM emails WHERE id = ANY ($1) AND coalesce(lease_until, 'infinity') < now()
        FOR NO KEY UPDATE SKIP LOCKED
    ))
    RETURNING id, state";

/// Frees emails whose worker died: those that were on their way are `unknown` from now on.
pub async fn rescue(connection: &mut PgConnection, looked: &mut Looked) -> Result<Vec<Rescued>> {
    let ids = looked.look(connection, LOOK).await?;
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    Ok(sqlx::query_as(RESCUE).bind(ids).fetch_all(connection).await?)
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
