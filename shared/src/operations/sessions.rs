//! Sessions of operators in the console of the admin port.
//!
//! As in the console of a workspace, the browser keeps a token of which the database has the hash. A session ends when
//! the operator signs out, with the operator's key, [`SESSION_HOURS`] after it began, or [`IDLE_MINUTES`] after its
//! last use.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use super::operators::Operator;
use crate::accounts::sessions::{ACCURACY, IDLE_MINUTES, SESSION_HOURS, Token};
use crate::error::Result;
use crate::platform::db;

/// Begins a session, and deletes those that have ended.
pub async fn begin(connection: &mut PgConnection, operator: &Operator) -> Result<Token> {
    let (token, now) = (Token::generate(operator.id)?, db::now());
    sqlx::query("DELETE FROM operator_sessions WHERE expires_at <= $1 OR used_at <= $2")
        .bind(now)
        .bind(now - TimeDelta::minutes(IDLE_MINUTES))
        .execute(&mut *connection)
        .await?;
    sqlx::query(
        "INSERT INTO operator_sessions (id, operator_id, token_hash, created_at, used_at, expires_at)
         VALUES ($1, $2, $3, $4, $4, $5)",
    )
    .bind(Uuid::now_v7())
    .bind(operator.id)
    .bind(token.hash())
    .bind(now)
    .bind(now + TimeDelta::hours(SESSION_HOURS))
    .execute(connection)
    .await?;
    Ok(token)
}

#[derive(FromRow)]
struct Found {
    #[sqlx(flatten)]
    operator: Operator,
    used_at: DateTime<Utc>,
}

/// Returns the operator of a session; `None` if it has ended.
pub async fn open(connection: &mut PgConnection, token: &Token) -> Result<Option<Operator>> {
    let (hash, now) = (token.hash(), db::now());
    let found: Option<Found> = sqlx::query_as(
        "SELECT operators.id, name, prefix, operators.created_at, operators.expires_at, last_used_at, revoked_at, used_at
         FROM operator_sessions AS sessions JOIN operators ON operators.id = sessions.operator_id
         WHERE token_hash = $1 AND sessions.expires_at > $2 AND used_at > $3
             AND revoked_at IS NULL AND (operators.expires_at IS NULL OR operators.expires_at > $2)",
    )
    .bind(hash)
    .bind(now)
    .bind(now - TimeDelta::minutes(IDLE_MINUTES))
    .fetch_optional(&mut *connection)
    .await?;
    let Some(Found { operator, used_at }) = found else { return Ok(None) };
    if used_at + ACCURACY < now {
        sqlx::query("UPDATE operator_sessions SET used_at = $2 WHERE token_hash = $1 AND used_at < $2")
            .bind(hash)
            .bind(now)
            .execute(connection)
            .await?;
    }
    Ok(Some(operator))
}

/// Ends a session. Ending it again changes nothing.
pub async fn end(connection: &mut PgConnection, token: &Token) -> Result<()> {
    sqlx::query("DELETE FROM operator_sessions WHERE token_hash = $1").bind(token.hash()).execute(connection).await?;
    Ok(())
}
