//! Marking: recording the outcome of an email, and that the next one is being sent.
//!
//! An email is committed as `sending` before anything about it is sent to the mail server. So after
//! a crash, the database shows which emails were being sent. Each connection marks its emails one
//! by one.

use std::time::Duration;

use sqlx::{Connection, PgConnection};

use super::place::is_released;
use super::suppressions::{self, NewSuppression, Reason};
use super::{EmailState, LEASE, Lease, Leased};
use crate::error::Result;
use crate::events::Actor;
use crate::mail::report::{also_record_events, record_events, reported};
use crate::values::email_key;

/// The outcome of an attempt to send an email.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The server accepted the email.
    Sent {
        /// The server's answer.
        answer: String,
    },
    /// Delivery failed permanently.
    Bounced {
        /// The server's answer, or the reason.
        answer: String,
        /// Whether the server reported that the address does not exist, so that the address is
        /// suppressed.
        suppress: bool,
    },
    /// Delivery failed temporarily, which counts as a failure. The email is retried after the
    /// delay.
    Deferred {
        /// The server's answer, or the reason why it did not answer.
        answer: String,
        /// The time until the next attempt.
        delay: Duration,
    },
    /// The attempt ended before delivery was in doubt, and does not count. The email is retried at
    /// once.
    Untouched,
    /// The message was handed over, but the server did not confirm delivery.
    Unknown {
        /// The reason why it did not answer.
        answer: String,
    },
}

impl Outcome {
    /// The outcome in one word, for the log.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Sent { .. } => "sent",
            Self::Bounced { .. } => "bounced",
            Self::Deferred { .. } => "deferred",
            Self::Untouched => "untouched",
            Self::Unknown { .. } => "unknown",
        }
    }
}

/// Whether a connection may send its next email.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// The email is `sending`, and no other worker will send it.
    Sending,
    /// The email is `suppressed`, because its address is.
    Suppressed,
    /// The email was cancelled, or another worker has it.
    Superseded,
    /// Email is [on hold](super::place), and the email waits as before.
    OnHold,
}

// No statement here tests the state in WHERE: the attempt is sufficient, and leaves the planner no
// index but the primary key. An outcome ends the lease, so one that is recorded again, because the first
// reply was lost, changes nothing and has no second event; `coalesce` keeps the planner from the index of
// leases. The statements are public so that tests can check their query plans.

/// Records a sent email.
pub const SENT: &str = concat!(
    "
    WITH sent AS (
        UPDATE emails
        SET state = 'sent', answer = $4, sent_at = now(), lease_until = NULL, updated_at = now()
        WHERE workspace_id = $1 AND id = $2 AND attempt = $3 AND coalesce(lease_until, '-infinity') > '-infinity'
        RETURNING ",
    reported!(),
    ") ",
    record_events!("sent")
);

/// Records a temporary failure.
pub const DEFERRED: &str = "
    UPDATE emails
    SET state = 'deferred', answer = $4, failures = failures + 1, run_at = now() + make_interval(secs => $5),
        lease_until = NULL, updated_at = now()
    WHERE workspace_id = $1 AND id = $2 AND attempt = $3 AND coalesce(lease_until, '-infinity') > '-infinity'";

/// Records any other state in which an email has ended.
pub const ENDED: &str = concat!(
    "
    WITH ended AS (
        UPDATE emails SET state = $5, answer = $4, lease_until = NULL, updated_at = now()
        WHERE workspace_id = $1 AND id = $2 AND attempt = $3 AND coalesce(lease_until, '-infinity') > '-infinity'
        RETURNING ",
    reported!(),
    ") ",
    record_events!("ended")
);

/// Restores the state before the lease.
pub const UNTOUCHED: &str = "
    UPDATE emails
    SET state = CASE WHEN failures > 0 THEN 'deferred' ELSE 'queued' END, lease_until = NULL, updated_at = now()
    WHERE workspace_id = $1 AND id = $2 AND attempt = $3 AND coalesce(lease_until, '-infinity') > '-infinity'";

/// Records that an email is being sent, unless a suppression of its address covers it or email is on hold.
pub const SENDING: &str = concat!(
    "
    UPDATE emails SET state = 'sending', lease_until = now() + make_interval(secs => $4), updated_at = now()
    WHERE workspace_id = $1 AND id = $2 AND attempt = $3 AND NOT EXISTS (
        SELECT FROM suppressions
        WHERE workspace_id = $1 AND email_key IN ($5, 'sha256:' || encode(sha256(convert_to($5, 'UTF8')), 'hex'))
            AND (scope = 'all' OR emails.event <> 'followups')
    ) AND ",
    is_released!("$6")
);

/// [`SENT`] and [`SENDING`] for two emails of one workspace, in one statement.
pub const SENT_THEN_SENDING: &str = concat!(
    "
    WITH sent AS (
        UPDATE emails
        SET state = 'sent', answer = $4, sent_at = now(), lease_until = NULL, updated_at = now()
        WHERE workspace_id = $1 AND id = $2 AND attempt = $3 AND coalesce(lease_until, '-infinity') > '-infinity'
        RETURNING ",
    reported!(),
    "), reported AS (",
    also_record_events!("sent"),
    ")
    UPDATE emails SET state = 'sending', lease_until = now() + make_interval(secs => $7), updated_at = now()
    WHERE workspace_id = $1 AND id = $5 AND attempt = $6 AND NOT EXISTS (
        SELECT FROM suppressions
        WHERE workspace_id = $1 AND email_key IN ($8, 'sha256:' || encode(sha256(convert_to($8, 'UTF8')), 'hex'))
            AND (scope = 'all' OR emails.event <> 'followups')
    ) AND ",
    is_released!("$9")
);

/// Records that an email is not sent, because a suppression of its address covers it.
pub const SUPPRESSED: &str = concat!(
    "
    WITH ended AS (
        UPDATE emails SET state = 'suppressed', lease_until = NULL, updated_at = now()
        WHERE workspace_id = $1 AND id = $2 AND attempt = $3 AND coalesce(lease_until, '-infinity') > '-infinity'
            AND EXISTS (
            SELECT FROM suppressions
            WHERE workspace_id = $1 AND email_key IN ($4, 'sha256:' || encode(sha256(convert_to($4, 'UTF8')), 'hex'))
                AND (scope = 'all' OR emails.event <> 'followups')
        )
        RETURNING ",
    reported!(),
    ") ",
    record_events!("ended")
);

/// Records the outcome of a connection's last email, and that its next email is being sent by a
/// process with this public URL. Repeating the call is harmless.
///
/// # Errors
/// [`Error::Unavailable`](crate::Error::Unavailable) when the database is unavailable: perhaps
/// neither was recorded, so the next email must not be sent yet.
pub async fn mark(
    connection: &mut PgConnection,
    last: Option<&(Lease, Outcome)>,
    next: Option<&Leased>,
    public_url: Option<&str>,
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
                .bind(public_url)
                .execute(&mut *connection)
                .await?;
            or_refused(connection, next, marked.rows_affected()).await.map(Some)
        }
        _ => {
            if let Some((lease, outcome)) = last {
                record(connection, *lease, outcome).await?;
            }
            match next {
                Some(next) => begin(connection, next, public_url).await.map(Some),
                None => Ok(None),
            }
        }
    }
}

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
            end(connection, lease, EmailState::Bounced, answer).await?;
        }
        Outcome::Unknown { answer } => {
            end(connection, lease, EmailState::Unknown, answer).await?;
        }
        Outcome::Untouched => {
            untouch(connection, lease).await?;
        }
    }
    Ok(())
}

/// Returns whether the lease was still held.
async fn end(connection: &mut PgConnection, lease: Lease, state: EmailState, answer: &str) -> Result<bool> {
    let query = sqlx::query(ENDED).bind(lease.workspace_id).bind(lease.id).bind(lease.attempt);
    let ended = query.bind(answer).bind(state).execute(connection).await?;
    Ok(ended.rows_affected() > 0)
}

/// Returns whether the lease was still held.
async fn untouch(connection: &mut PgConnection, lease: Lease) -> Result<bool> {
    let query = sqlx::query(UNTOUCHED).bind(lease.workspace_id).bind(lease.id).bind(lease.attempt);
    Ok(query.execute(connection).await?.rows_affected() > 0)
}

/// Records a bounce from an address that does not exist: suppresses the address and the other
/// emails that wait for it, in one transaction, since the connection's next email may be one of
/// them.
async fn bounce(connection: &mut PgConnection, lease: Lease, answer: &str) -> Result<()> {
    let mut bounce = connection.begin().await?;
    if end(&mut bounce, lease, EmailState::Bounced, answer).await? {
        let addressee = super::addressee(&mut bounce, lease.workspace_id, lease.id).await?;
        let bounced = NewSuppression::new(&addressee.email, Reason::Bounced);
        let bounced = NewSuppression { email_id: Some(lease.id), ..bounced };
        suppressions::add(&mut bounce, &Actor::worker(lease.workspace_id), &bounced).await?;
    }
    Ok(bounce.commit().await?)
}

async fn begin(connection: &mut PgConnection, next: &Leased, public_url: Option<&str>) -> Result<Next> {
    let marked = sqlx::query(SENDING)
        .bind(next.workspace_id)
        .bind(next.id)
        .bind(next.attempt)
        .bind(LEASE.as_secs_f64())
        .bind(email_key(&next.content.to_email))
        .bind(public_url)
        .execute(&mut *connection)
        .await?;
    or_refused(connection, next, marked.rows_affected()).await
}

/// An email that was not marked is suppressed, or its lease is lost, or email is on hold. Then it
/// waits again, also if an earlier call marked it whose reply was lost: nothing of it was sent.
async fn or_refused(connection: &mut PgConnection, next: &Leased, marked: u64) -> Result<Next> {
    if marked > 0 {
        return Ok(Next::Sending);
    }
    let query = sqlx::query(SUPPRESSED).bind(next.workspace_id).bind(next.id).bind(next.attempt);
    let suppressed = query.bind(email_key(&next.content.to_email)).execute(&mut *connection).await?;
    if suppressed.rows_affected() > 0 {
        return Ok(Next::Suppressed);
    }
    let held = untouch(connection, next.lease()).await?;
    Ok(if held { Next::OnHold } else { Next::Superseded })
}
