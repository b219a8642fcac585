//! Which keys are accepted, and when they were last used.

use std::net::IpAddr;

use chrono::{DateTime, Utc};
use sqlx::{FromRow, PgConnection};
use subtle::ConstantTimeEq;
use uuid::Uuid;

use crate::accounts::key::Key;
use crate::accounts::scopes::Scopes;
use crate::accounts::workspaces::OwnLimit;
use crate::error::Result;

/// A valid key, its workspace, and what the key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// The id of the key.
    pub key_id: Uuid,
    /// The workspace that the key gives access to.
    pub workspace_id: Uuid,
    /// What the key may do.
    pub scopes: Scopes,
    /// The rate limit that an operator set for the workspace's keys.
    pub limit: OwnLimit,
    /// Whether an operator suspended the workspace.
    pub is_suspended: bool,
}

#[derive(FromRow)]
struct Found {
    id: Uuid,
    workspace_id: Uuid,
    scopes: Scopes,
    stored: Vec<u8>,
    #[sqlx(flatten)]
    limit: OwnLimit,
    is_suspended: bool,
}

/// Authenticates a key. Returns `None` if the key is unknown, expired or revoked, without distinction.
pub async fn open(connection: &mut PgConnection, key: &Key) -> Result<Option<Opened>> {
    let hash = key.hash();
    let found: Option<Found> = sqlx::query_as(
        "SELECT api_keys.id, api_keys.workspace_id, api_keys.scopes, presented.hash AS stored,
             workspaces.rate_limit_per_minute, workspaces.rate_limit_burst,
             workspaces.suspended_at IS NOT NULL AS is_suspended
         FROM (SELECT id, hash FROM api_keys WHERE hash = $1
               UNION ALL SELECT key_id, hash FROM rotated_keys WHERE hash = $1 AND valid_until > now()) AS presented
         JOIN api_keys ON api_keys.id = presented.id
         JOIN workspaces ON workspaces.id = api_keys.workspace_id
         WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())",
    )
    .bind(hash)
    .fetch_optional(connection)
    .await?;
    // The index has compared the hashes, but not in constant time.
    let found = found.filter(|found| found.stored.ct_eq(&hash).into());
    Ok(found.map(|Found { id: key_id, workspace_id, scopes, limit, is_suspended, .. }| Opened {
        key_id,
        workspace_id,
        scopes,
        limit,
        is_suspended,
    }))
}

/// Those of the given keys that are still valid and whose workspaces are not suspended, with what they may do now.
pub async fn valid(connection: &mut PgConnection, key_ids: &[Uuid]) -> Result<Vec<(Uuid, Scopes)>> {
    let valid = sqlx::query_as(
        "SELECT id, scopes FROM api_keys
         WHERE id = ANY ($1) AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
             AND NOT EXISTS (SELECT 1 FROM workspaces WHERE workspaces.id = workspace_id AND suspended_at IS NOT NULL)",
    );
    Ok(valid.bind(key_ids).fetch_all(connection).await?)
}

/// The hashes of all keys that are accepted, in every workspace, in ascending order.
pub async fn hashes(connection: &mut PgConnection) -> Result<Vec<Vec<u8>>> {
    let valid = "SELECT presented.hash
         FROM (SELECT id, hash FROM api_keys
               UNION ALL SELECT key_id, hash FROM rotated_keys WHERE valid_until > now()) AS presented
         JOIN api_keys USING (id)
         WHERE api_keys.revoked_at IS NULL AND (api_keys.expires_at IS NULL OR api_keys.expires_at > now())
         ORDER BY presented.hash";
    Ok(sqlx::query_scalar(valid).fetch_all(connection).await?)
}

/// When and from where a key was used.
#[derive(Debug, Clone, Copy)]
pub struct LastUse {
    /// When.
    pub at: DateTime<Utc>,
    /// From which address, if it is known.
    pub from: Option<IpAddr>,
}

/// Records when keys were last used, in one statement.
pub async fn touch(connection: &mut PgConnection, used: &[(Uuid, LastUse)]) -> Result<()> {
    let ids: Vec<Uuid> = used.iter().map(|(id, _)| *id).collect();
    let times: Vec<DateTime<Utc>> = used.iter().map(|(_, last)| last.at).collect();
    let addresses: Vec<Option<String>> =
        used.iter().map(|(_, last)| last.from.map(|address| address.to_string())).collect();
    sqlx::query(
        "UPDATE api_keys SET last_used_at = used.at, last_used_ip = coalesce(used.address, last_used_ip)
         FROM unnest($1::uuid[], $2::timestamptz[], $3::text[]) AS used (id, at, address)
         WHERE api_keys.id = used.id AND (last_used_at IS NULL OR last_used_at < used.at)",
    )
    .bind(ids)
    .bind(times)
    .bind(addresses)
    .execute(connection)
    .await?;
    Ok(())
}
