//! What all workers know of a mail server that ends connections after the final dot of a message.
//!
//! Each such message is `unknown`: the server may have taken it. So after [`LIMIT`] in a row, over all
//! workers, messages are tried one at a time, after 1, 2, 4 … seconds and at last once a minute, until one
//! gets an answer. The state is one row of the database, and so the same for every worker.

use std::time::Duration;

use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use super::Leased;
use crate::error::Result;

/// Messages in a row, over all workers, whose connection ended after the final dot.
pub const LIMIT: i32 = 3;

/// The longest wait for the next try.
const LONGEST: Duration = Duration::from_secs(60);

/// How it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromRow)]
pub struct Breaks {
    /// Messages in a row that got no answer.
    pub in_a_row: i32,
}

impl Breaks {
    /// Whether messages are tried one at a time.
    pub fn are_too_many(self) -> bool {
        self.in_a_row >= LIMIT
    }
}

/// How it stands.
pub async fn get(connection: &mut PgConnection) -> Result<Breaks> {
    Ok(sqlx::query_as("SELECT in_a_row FROM mail_breaks").fetch_one(connection).await?)
}

/// Counts a message that got no answer, other than one that was tried on its own.
pub async fn record(connection: &mut PgConnection) -> Result<Breaks> {
    Ok(sqlx::query_as(
        "UPDATE mail_breaks
         SET in_a_row = in_a_row + 1, next_at = greatest(next_at, now() + interval '1 second')
         RETURNING in_a_row",
    )
    .fetch_one(connection)
    .await?)
}

/// Takes the turn to try one message, if there is one now: the wait is over, and no other worker tries one.
/// It is lost again unless [`begin_probe`] follows within ten seconds.
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

/// Notes which message is tried: as long as a worker holds it, no other one is.
pub async fn begin_probe(connection: &mut PgConnection, mail: &Leased) -> Result<()> {
    sqlx::query("UPDATE mail_breaks SET workspace_id = $1, email_id = $2")
        .bind(mail.workspace_id)
        .bind(mail.id)
        .execute(connection)
        .await?;
    Ok(())
}

/// What became of a message that was tried on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// It got no answer either: the next wait is twice as long.
    Broke,
    /// It said nothing about that: there was none, or it ended before the final dot.
    Nothing,
}

/// Ends a try that has not shown the server to be well.
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

/// Notes that a message got its answer.
pub async fn clear(connection: &mut PgConnection) -> Result<()> {
    sqlx::query(
        "UPDATE mail_breaks SET in_a_row = 0, probes = 0, email_id = NULL, workspace_id = NULL WHERE in_a_row > 0",
    )
    .execute(connection)
    .await?;
    Ok(())
}
