//! Idempotency keys: an answer is kept with what it answers, and given again.

use std::collections::BTreeMap;

use sqlx::types::Json;
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use crate::error::{Error, Result};

/// For how many hours an answer is kept.
pub const KEPT_HOURS: i32 = 24;

/// The workspace of answers stored by 0.1.0, which did not store it. Their hashes include the API key, so none
/// is found by another workspace. None is left a day after the upgrade.
const BEFORE_WORKSPACES: Uuid = Uuid::nil();

/// A caller's key for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// The caller's workspace.
    pub workspace_id: Uuid,
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
         WHERE workspace_id IN ($1, $2) AND hash = $3 AND created_at > now() - make_interval(hours => $4)
         LIMIT 1",
    )
    .bind(key.workspace_id)
    .bind(BEFORE_WORKSPACES)
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
        "INSERT INTO idempotency_keys (workspace_id, hash, fingerprint, status, headers, body)
         VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (workspace_id, hash) DO UPDATE SET fingerprint = excluded.fingerprint, status = excluded.status,
             headers = excluded.headers, body = excluded.body, created_at = excluded.created_at",
    )
    .bind(key.workspace_id)
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
    let over: Vec<(Uuid, Vec<u8>)> = sqlx::query_as(
        "SELECT workspace_id, hash FROM idempotency_keys WHERE created_at < now() - make_interval(hours => $1)
         ORDER BY created_at LIMIT $2",
    )
    .bind(KEPT_HOURS)
    .bind(limit)
    .fetch_all(&mut *connection)
    .await?;
    let mut workspaces = BTreeMap::<Uuid, Vec<Vec<u8>>>::new();
    for (workspace_id, hash) in over {
        workspaces.entry(workspace_id).or_default().push(hash);
    }
    let mut pruned = 0;
    for (workspace_id, hashes) in workspaces {
        let deleted = sqlx::query(
            "DELETE FROM idempotency_keys
             WHERE workspace_id = $1 AND hash = ANY ($2) AND created_at < now() - make_interval(hours => $3)",
        );
        let deleted = deleted.bind(workspace_id).bind(hashes).bind(KEPT_HOURS).execute(&mut *connection).await?;
        pruned += deleted.rows_affected();
    }
    Ok(pruned)
}
