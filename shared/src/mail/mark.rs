//! Marking: what became of a mail, and that the next one is on its way.
//!
//! A mail is `sending`, and that is committed, before a connection says a word about it; so whatever dies,
//! it is known which mails were on their way. Each connection marks its mails one by one.

use std::time::Duration;

use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::{EmailState, LEASE, Lease, Leased};
use crate::error::Result;
use crate::values::email_key;

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

/// The statement that records a sent email; its plan is tested. Like the others here it names no state in
/// WHERE: the attempt says everything, and the planner has nothing but the primary key to go by.
pub const SENT: &str = "
    UPDATE emails
    SET state = 'sent', answer = $4, sent_at = now(), lease_until = NULL, updated_at = now()
    WHERE workspace_id = $1 AND id = $2 AND attempt = $3";

/// The statement that records an email that was put off; its plan is tested.
pub const DEFERRED: &str = "
    UPDATE emails
    SET state = 'deferred', answer = $4, failures = failures + 1, run_at = now() + make_interval(secs => $5),
        lease_until = NULL, updated_at = now()
    WHERE workspace_id = $1 AND id = $2 AND attempt = $3";

/// The statement that records an email that has any other state now, or ($5 is NULL) the one before; its plan
/// is tested.
pub const ENDED: &str = "
    UPDATE emails
    SET state = CASE WHEN $5::text IS NOT NULL THEN $5 WHEN failures > 0 THEN 'deferred' ELSE 'queued' END,
        answer = coalesce($4, answer), lease_until = NULL, updated_at = now()
    WHERE workspace_id = $1 AND id = $2 AND attempt = $3";

/// The statement that records that an email is on its way, unless its address is suppressed; its plan is
/// tested.
pub const SENDING: &str = concat!(
    "
    UPDATE emails SET state = 'sending', lease_until = now() + make_interval(secs => $4), updated_at = now()
    WHERE workspace_id = $1 AND id = $2 AND attempt = $3 AND NOT EXISTS (
        SELECT FROM suppressions
        WHERE workspace_id = $1 AND ",
    email_key!("email"),
    " = $5
    )"
);

/// [`SENT`] and [`SENDING`] for two emails of one workspace, in one commit; its plan is tested.
pub const SENT_THEN_SENDING: &str = concat!(
    "
    WITH sent AS (
        UPDATE emails
        SET state = 'sent', answer = $4, sent_at = now(), lease_until = NULL, updated_at = now()
        WHERE workspace_id = $1 AND id = $2 AND attempt = $3
    )
    UPDATE emails SET state = 'sending', lease_until = now() + make_interval(secs => $7), updated_at = now()
    WHERE workspace_id = $1 AND id = $5 AND attempt = $6 AND NOT EXISTS (
        SELECT FROM suppressions
        WHERE workspace_id = $1 AND ",
    email_key!("email"),
    " = $8
    )"
);

/// Records what became of a connection's last mail, and that its next one is on its way. Doing it again is
/// harmless.
///
/// # Errors
/// [`Error::Unavailable`](crate::Error::Unavailable) when the database is away: then neither may
/// have been recorded, and nothing may be said about the next mail.
pub async fn mark(
    connection: &mut PgConnection,
    last: Option<&(Lease, Outcome)>,
    next: Option<&Leased>,
) -> Result<Option<Next>> {
    match (last, next) {
        (Some((lease, Outcome::Sent { answer })), Some(next)) if lease.workspace_id == next.workspace_id => {
            let marked = sqlx::query(SENT_THEN_SENDING)
                .bind(lease.workspace_id)
                .bind(lease.id)
                .bind(lease.attempt)
                .bind(answer)
                .bind(next.id)
                .bind(next.attempt)
                .bind(LEASE.as_secs_f64())
                .bind(email_key(&next.content.to_email))
                .execute(&mut *connection)
                .await?;
            or_suppressed(connection, next, marked.rows_affected()).await.map(Some)
        }
        _ => {
            if let Some((lease, outcome)) = last {
                record(connection, *lease, outcome).await?;
            }
            match next {
                Some(next) => begin(connection, next).await.map(Some),
                None => Ok(None),
            }
        }
    }
}

/// Records what became of a mail.
async fn record(connection: &mut PgConnection, lease: Lease, outcome: &Outcome) -> Result<()> {
    match outcome {
        Outcome::Sent { answer } => {
            let query = sqlx::query(SENT).bind(lease.workspace_id).bind(lease.id).bind(lease.attempt);
            query.bind(answer).execute(connection).await?;
        }
        Outcome::Deferred { answer, delay } => {
            let query = sqlx::query(DEFERRED).bind(lease.workspace_id).bind(lease.id).bind(lease.attempt);
            query.bind(answer).bind(delay.as_secs_f64()).execute(connection).await?;
        }
        Outcome::Bounced { answer, suppress: true } => bounce(connection, lease, answer).await?,
        Outcome::Bounced { answer, .. } => {
            end(connection, lease, Some(EmailState::Bounced), Some(answer)).await?;
        }
        Outcome::Unknown { answer } => {
            end(connection, lease, Some(EmailState::Unknown), Some(answer)).await?;
        }
        Outcome::Untouched => {
            end(connection, lease, None, None).await?;
        }
    }
    Ok(())
}

/// Returns whether the lease was still held.
async fn end(
    connection: &mut PgConnection,
    lease: Lease,
    state: Option<EmailState>,
    answer: Option<&str>,
) -> Result<bool> {
    let query = sqlx::query(ENDED).bind(lease.workspace_id).bind(lease.id).bind(lease.attempt);
    let ended = query.bind(answer).bind(state).execute(connection).await?;
    Ok(ended.rows_affected() > 0)
}

/// Records that there is no such address: it is suppressed, and what else waits for it is given up, in one
/// transaction, since the connection's next mail may be one of these.
async fn bounce(connection: &mut PgConnection, lease: Lease, answer: &str) -> Result<()> {
    let mut bounce = connection.begin().await?;
    if end(&mut bounce, lease, Some(EmailState::Bounced), Some(answer)).await? {
        sqlx::query(
            "INSERT INTO suppressions (workspace_id, id, email, reason, email_id, created_at)
             SELECT workspace_id, $3, to_email, 'bounced', id, now() FROM emails WHERE workspace_id = $1 AND id = $2
             ON CONFLICT DO NOTHING",
        )
        .bind(lease.workspace_id)
        .bind(lease.id)
        .bind(Uuid::now_v7())
        .execute(&mut *bounce)
        .await?;
        let email: String = sqlx::query_scalar("SELECT to_email FROM emails WHERE workspace_id = $1 AND id = $2")
            .bind(lease.workspace_id)
            .bind(lease.id)
            .fetch_one(&mut *bounce)
            .await?;
        super::suppress(&mut bounce, lease.workspace_id, &email_key(&email)).await?;
    }
    Ok(bounce.commit().await?)
}

/// Records that a mail is on its way.
async fn begin(connection: &mut PgConnection, next: &Leased) -> Result<Next> {
    let marked = sqlx::query(SENDING)
        .bind(next.workspace_id)
        .bind(next.id)
        .bind(next.attempt)
        .bind(LEASE.as_secs_f64())
        .bind(email_key(&next.content.to_email))
        .execute(&mut *connection)
        .await?;
    or_suppressed(connection, next, marked.rows_affected()).await
}

/// A mail that was not marked is suppressed or gone.
async fn or_suppressed(connection: &mut PgConnection, next: &Leased, marked: u64) -> Result<Next> {
    if marked > 0 {
        return Ok(Next::Sending);
    }
    let held = end(connection, next.lease(), Some(EmailState::Suppressed), None).await?;
    Ok(if held { Next::Suppressed } else { Next::Gone })
}
