//! Idempotency keys: the response to a request is stored in the transaction of the request, and replayed.

use std::collections::BTreeMap;

use sqlx::types::Json;
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use crate::error::{Error, Result};

/// How many hours a response is stored.
pub const KEPT_HOURS: i32 = 24;

/// The workspace of responses stored by 0.1.0, which did not store it. Their hashes include the API key, so
/// another workspace cannot find them. They expire within a day of the upgrade.
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
    /// Whether 0.1.0 [may have stored](has_earlier) the response.
    pub may_be_earlier: bool,
}

impl Key {
    /// The key of the advisory lock.
    fn lock(&self) -> i64 {
        i64::from_be_bytes(self.hash.first_chunk().copied().unwrap_or_default())
    }
}

/// A stored response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: Vec<u8>,
}

/// The state of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Existing {
    /// The key was unused, and now belongs to this transaction.
    Free,
    /// The request was answered with this response.
    Kept(Kept),
    /// The key was used with a different request.
    OtherRequest,
    /// Another transaction is processing the request.
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
/// The rows of a concurrent transaction are not visible before its commit, so an advisory lock detects it.
/// The query for the stored response starts after the lock was acquired, and so sees committed rows.
pub async fn take(connection: &mut PgConnection, key: &Key) -> Result<Existing> {
    let free: bool =
        sqlx::query_scalar("SELECT pg_try_advisory_xact_lock($1)").bind(key.lock()).fetch_one(&mut *connection).await?;
    if !free {
        return Ok(Existing::Running);
    }
    let mut row = find(connection, key.workspace_id, key).await?;
    if row.is_none() && key.may_be_earlier {
        row = find(connection, BEFORE_WORKSPACES, key).await?;
    }
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

async fn find(connection: &mut PgConnection, workspace_id: Uuid, key: &Key) -> Result<Option<Row>> {
    let find = "SELECT fingerprint, status, headers, body FROM idempotency_keys
                WHERE workspace_id = $1 AND hash = $2 AND created_at > now() - make_interval(hours => $3)";
    let row = sqlx::query_as(find).bind(workspace_id).bind(&key.hash[..]).bind(KEPT_HOURS);
    Ok(row.fetch_optional(connection).await?)
}

/// Whether responses of 0.1.0 are stored, which never become more. They are rows of another workspace, and so perhaps on
/// another server: this is asked once, and not for each request.
pub async fn has_earlier(connection: &mut PgConnection) -> Result<bool> {
    let exists = "SELECT EXISTS (SELECT 1 FROM idempotency_keys WHERE workspace_id = $1)";
    Ok(sqlx::query_scalar(exists).bind(BEFORE_WORKSPACES).fetch_one(connection).await?)
}

/// Stores the response, as the last statement of the transaction that took the key.
pub async fn keep(connection: &mut PgConnection, key: &Key, kept: &Kept) -> Result<()> {
    // An expired row may still exist.
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

/// Deletes up to `limit` expired responses, and returns their number.
pub async fn prune(connection: &mut PgConnection, limit: i64) -> Result<u64> {
    let expired: Vec<(Uuid, Vec<u8>)> = sqlx::query_as(
        "SELECT workspace_id, hash FROM idempotency_keys WHERE created_at < now() - make_interval(hours => $1)
         ORDER BY created_at LIMIT $2",
    )
    .bind(KEPT_HOURS)
    .bind(limit)
    .fetch_all(&mut *connection)
    .await?;
    let mut workspaces = BTreeMap::<Uuid, Vec<Vec<u8>>>::new();
    for (workspace_id, hash) in expired {
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
