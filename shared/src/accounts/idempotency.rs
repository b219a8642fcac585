//! Idempotency keys: an answer is kept with what it answers, and given again.

use std::collections::BTreeMap;

use sqlx::types::Json;
use sqlx::{FromRow, PgConnection};

use crate::error::{Error, Result};

/// For how many hours an answer is kept.
pub const KEPT_HOURS: i32 = 24;

/// A caller's key for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// SHA-256 over the API key, the route and the caller's key.
    pub hash: [u8; 32],
    /// SHA-256 over the request.
    pub fingerprint: [u8; 32],
}

impl Key {
    /// What the advisory lock takes.
    fn lock(&self) -> i64 {
        i64::from_be_bytes(self.hash.first_chunk().copied().unwrap_or_default())
    }
}

/// An answer that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The status of the answer.
    pub status: u16,
    /// Its headers.
    pub headers: BTreeMap<String, String>,
    /// Its body.
    pub body: Vec<u8>,
}

/// How things stand with a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Existing {
    /// It is this transaction's.
    Free,
    /// Its request was answered.
    Kept(Kept),
    /// It was used with another request.
    OtherRequest,
    /// Another transaction has it.
    Running,
}

#[derive(FromRow)]
struct Row {
    fingerprint: Vec<u8>,
    status: i16,
    headers: Json<BTreeMap<String, String>>,
    body: Vec<u8>,
}

/// Takes a key for this transaction, if it is free.
///
/// What a rival has written is not visible before its commit, so a lock tells that there is one.
/// The statement that looks for its answer begins when the lock is held, and so sees it.
///
/// # Errors
/// [`Error::Unavailable`] when the database is away.
pub async fn take(connection: &mut PgConnection, key: &Key) -> Result<Existing> {
    let free: bool =
        sqlx::query_scalar("SELECT pg_try_advisory_xact_lock($1)").bind(key.lock()).fetch_one(&mut *connection).await?;
    if !free {
        return Ok(Existing::Running);
    }
    let row: Option<Row> = sqlx::query_as(
        "SELECT fingerprint, status, headers, body FROM idempotency_keys
         WHERE hash = $1 AND created_at > now() - make_interval(hours => $2)",
    )
    .bind(&key.hash[..])
    .bind(KEPT_HOURS)
    .fetch_optional(connection)
    .await?;
    Ok(match row {
        None => Existing::Free,
        Some(row) if row.fingerprint != key.fingerprint => Existing::OtherRequest,
        Some(row) => Existing::Kept(Kept {
            status: u16::try_from(row.status).map_err(Error::internal)?,
            headers: row.headers.0,
            body: row.body,
        }),
    })
}

/// Keeps the answer, as the last statement of the transaction that took the key.
///
/// # Errors
/// [`Error::Unavailable`] when the database is away.
pub async fn keep(connection: &mut PgConnection, key: &Key, kept: &Kept) -> Result<()> {
    // There may be a row whose time is over.
    sqlx::query(
        "INSERT INTO idempotency_keys (hash, fingerprint, status, headers, body) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (hash) DO UPDATE SET fingerprint = excluded.fingerprint, status = excluded.status,
             headers = excluded.headers, body = excluded.body, created_at = excluded.created_at",
    )
    .bind(&key.hash[..])
    .bind(&key.fingerprint[..])
    .bind(i16::try_from(kept.status).map_err(Error::internal)?)
    .bind(Json(&kept.headers))
    .bind(&kept.body)
    .execute(connection)
    .await?;
    Ok(())
}

/// Deletes up to `limit` answers whose time is over, and returns how many there were.
///
/// # Errors
/// [`Error::Unavailable`] when the database is away.
pub async fn prune(connection: &mut PgConnection, limit: i64) -> Result<u64> {
    let pruned = sqlx::query(
        "DELETE FROM idempotency_keys WHERE hash = ANY (ARRAY(
             SELECT hash FROM idempotency_keys WHERE created_at < now() - make_interval(hours => $1)
             ORDER BY created_at LIMIT $2 FOR UPDATE SKIP LOCKED
         ))",
    )
    .bind(KEPT_HOURS)
    .bind(limit)
    .execute(connection)
    .await?;
    Ok(pruned.rows_affected())
}
