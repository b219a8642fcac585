//! A mail server that closes connections after the final dot of a message, without an answer.
//!
//! Each such message is `unknown`, because the server may have accepted it. So after [`LIMIT`] in a
//! row, over all workers, messages are sent one at a time, after 1, 2, 4 … seconds and at most once
//! a minute, until the server answers one of them. All workers share this state: it is one row in
//! the database.

use std::time::Duration;

use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use super::Leased;
use crate::error::Result;

/// The number of messages in a row, over all workers, after which messages are sent one at a time.
pub const LIMIT: i32 = 3;

/// The longest wait before the next probe.
const LONGEST: Duration = Duration::from_secs(60);

/// The count of connections that broke after the final dot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromRow)]
pub struct Breaks {
    /// Messages in a row that the server did not answer.
    pub in_a_row: i32,
}

impl Breaks {
    /// Whether messages are sent one at a time.
    pub fn are_too_many(self) -> bool {
        self.in_a_row >= LIMIT
    }
}

/// Reads the present count.
pub async fn get(connection: &mut PgConnection) -> Result<Breaks> {
    Ok(sqlx::query_as("SELECT in_a_row FROM mail_breaks").fetch_one(connection).await?)
}

/// Counts a message that the server did not answer. Probes are counted by [`end_probe`] instead.
pub async fn record(connection: &mut PgConnection) -> Result<Breaks> {
    Ok(sqlx::query_as(
        "UPDATE mail_breaks
         SET in_a_row = in_a_row + 1, next_at = greatest(next_at, now() + interval '1 second')
         RETURNING in_a_row",
    )
    .fetch_one(connection)
    .await?)
}

/// Takes the turn to probe the server with one message, if the wait is over and no other worker is
/// probing. The turn expires unless [`begin_probe`] follows within ten seconds.
pub async fn take_turn(connection: &mut PgConnection) -> Result<bool> {
    let tried: Option<(Option<Uuid>, Option<Uuid>)> =
        sqlx::query_as("SELECT workspace_id, email_id FROM mail_breaks WHERE in_a_row >= $1 AND next_at <= now()")
            .bind(LIMIT)
            .fetch_optional(&mut *connection)
            .await?;
    let Some((workspace_id, email_id)) = tried else { return Ok(false) };
    let is_held: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM emails WHERE workspace_id = $1 AND id = $2 AND lease_until IS NOT NULL)",
    )
    .bind(workspace_id)
    .bind(email_id)
    .fetch_one(&mut *connection)
    .await?;
    if is_held {
        return Ok(false);
    }
    let taken = sqlx::query(
        "UPDATE mail_breaks
         SET next_at = now() + interval '10 seconds', workspace_id = NULL, email_id = NULL
         WHERE in_a_row >= $1 AND next_at <= now() AND email_id IS NOT DISTINCT FROM $2",
    )
    .bind(LIMIT)
    .bind(email_id)
    .execute(connection)
    .await?;
    Ok(taken.rows_affected() > 0)
}

/// Records the message of a probe. No other probe begins while a worker holds its lease.
pub async fn begin_probe(connection: &mut PgConnection, email: &Leased) -> Result<()> {
    sqlx::query("UPDATE mail_breaks SET workspace_id = $1, email_id = $2")
        .bind(email.workspace_id)
        .bind(email.id)
        .execute(connection)
        .await?;
    Ok(())
}

/// The result of a probe that the server did not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// The connection broke after the final dot again, so the next wait is twice as long.
    Broke,
    /// The probe was inconclusive: no message was due, or the attempt ended before the final dot.
    Nothing,
}

/// Ends a probe that the server did not answer.
pub async fn end_probe(connection: &mut PgConnection, probe: Probe) -> Result<()> {
    sqlx::query(
        "UPDATE mail_breaks
         SET probes = probes + $1, email_id = NULL, workspace_id = NULL,
             next_at = now() + make_interval(secs => least($2, power(2, least(probes + $1, 30))))",
    )
    .bind(i32::from(probe == Probe::Broke))
    .bind(LONGEST.as_secs_f64())
    .execute(connection)
    .await?;
    Ok(())
}

/// Resets the count after the server answered a message.
pub async fn clear(connection: &mut PgConnection) -> Result<()> {
    sqlx::query(
        "UPDATE mail_breaks SET in_a_row = 0, probes = 0, email_id = NULL, workspace_id = NULL WHERE in_a_row > 0",
    )
    .execute(connection)
    .await?;
    Ok(())
}
