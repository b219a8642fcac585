//! Workspaces and their API keys.

use std::fmt;

use chrono::{DateTime, Utc};
use rand::TryRng;
use rand::rngs::SysRng;
use serde::Serialize;
use sha2::{Digest, Sha256};
use sqlx::{Connection, FromRow, PgConnection};
use subtle::ConstantTimeEq;
use uuid::Uuid;

use super::nightly;
use crate::error::{Error, Reason, Result};
use crate::platform::db;
use crate::values::{Field, Name};

/// The tenant that owns records. Workspaces are isolated from each other.
#[derive(Debug, Clone, FromRow, Serialize)]
pub struct Workspace {
    /// The id of the workspace.
    pub id: Uuid,
    /// The name, unique among all workspaces.
    pub name: String,
    /// When the workspace was created.
    pub created_at: DateTime<Utc>,
}

/// All workspaces, ordered by name.
pub async fn list(connection: &mut PgConnection) -> Result<Vec<Workspace>> {
    Ok(sqlx::query_as("SELECT id, name, created_at FROM workspaces ORDER BY name").fetch_all(connection).await?)
}

/// The ids of all workspaces, in order.
pub async fn ids(connection: &mut PgConnection) -> Result<Vec<Uuid>> {
    Ok(sqlx::query_scalar("SELECT id FROM workspaces ORDER BY id").fetch_all(connection).await?)
}

/// The workspace with this id or name.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn get(connection: &mut PgConnection, id_or_name: &str) -> Result<Workspace> {
    Ok(sqlx::query_as("SELECT id, name, created_at FROM workspaces WHERE id = $1 OR (name = $2 AND $1 IS NULL)")
        .bind(Uuid::try_parse(id_or_name).ok())
        .bind(id_or_name)
        .fetch_one(connection)
        .await?)
}

/// Creates a workspace, with its nightly run.
///
/// # Errors
/// [`Error::Conflict`] if the name is taken, [`Error::Invalid`] if it is invalid.
pub async fn create(connection: &mut PgConnection, name: &str) -> Result<Workspace> {
    let name = parse_name(name)?;
    if Uuid::try_parse(name.as_ref()).is_ok() {
        return Err(Error::invalid("name", "invalid", "must not look like an id"));
    }
    let created = sqlx::query_as(
        "INSERT INTO workspaces (id, name) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING RETURNING id, name, created_at",
    );
    let mut transaction = connection.begin().await?;
    let created = created.bind(Uuid::now_v7()).bind(name).fetch_optional(&mut *transaction).await?;
    let created: Workspace =
        created.ok_or_else(|| Error::conflict(Reason::Taken, "name", "another workspace has this name"))?;
    nightly::create(&mut transaction, created.id).await?;
    transaction.commit().await?;
    Ok(created)
}

fn parse_name(name: &str) -> Result<Name> {
    Name::from_text(name.trim()).map_err(|fault| Error::Invalid(vec![fault.of("name")]))
}

/// The metadata of an API key; the key itself is not stored.
#[derive(Debug, Clone, FromRow, Serialize)]
pub struct ApiKey {
    /// The id of the key.
    pub id: Uuid,
    /// The workspace that the key gives access to.
    pub workspace_id: Uuid,
    /// The purpose of the key, for people.
    pub name: String,
    /// The first characters of the key, for recognition.
    pub prefix: String,
    /// When the key was created.
    pub created_at: DateTime<Utc>,
    /// When the key expires.
    pub expires_at: Option<DateTime<Utc>>,
    /// When the key was revoked.
    pub revoked_at: Option<DateTime<Utc>>,
    /// When the key was last used, accurate to about half a minute.
    pub last_used_at: Option<DateTime<Utc>>,
}

macro_rules! key_columns {
    () => {
        "id, workspace_id, name, prefix, created_at, expires_at, revoked_at, last_used_at"
    };
}

/// An API key in clear text: `crm_`, 30 random characters, and a checksum of six characters, which detects
/// a mistyped key without a query.
///
/// `Debug` shows only the prefix.
#[derive(Clone)]
pub struct Key(String);

impl Key {
    const MARK: &str = "crm_";
    const RANDOM: usize = 30;
    const CHECKSUM: usize = 6;
    const LENGTH: usize = Self::MARK.len() + Self::RANDOM + Self::CHECKSUM;
    const SHOWN: usize = Self::MARK.len() + 6;

    /// Generates a key with 178 bits from the operating system's random source.
    fn generate() -> Result<Self> {
        let mut key = String::with_capacity(Self::LENGTH);
        key.push_str(Self::MARK);
        while key.len() < Self::MARK.len() + Self::RANDOM {
            let byte = SysRng.try_next_u32().map_err(|error| Error::Internal(error.into()))? as u8;
            // 248 is the largest multiple of 62 below 256: the bytes above would favour some characters.
            if byte < 248 {
                key.push(base62(u32::from(byte)));
            }
        }
        key.push_str(&checksum(&key));
        Ok(Self(key))
    }

    /// Parses a key; `None` if the format or the checksum is wrong.
    pub fn parse(text: &str) -> Option<Self> {
        let (body, sum) = text.split_at_checked(Self::LENGTH - Self::CHECKSUM)?;
        let is_key = body.starts_with(Self::MARK)
            && body[Self::MARK.len()..].bytes().all(|byte| byte.is_ascii_alphanumeric())
            && sum == checksum(body);
        is_key.then(|| Self(text.to_owned()))
    }

    /// The hash that is stored and compared.
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(&self.0).into()
    }

    /// The key in clear text, to be shown once.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    fn prefix(&self) -> &str {
        &self.0[..Self::SHOWN]
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}…", self.prefix())
    }
}

fn base62(digit: u32) -> char {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    char::from(DIGITS[digit as usize % DIGITS.len()])
}

fn checksum(body: &str) -> String {
    let mut rest = crc32fast::hash(body.as_bytes());
    let mut digits = [' '; Key::CHECKSUM];
    for digit in digits.iter_mut().rev() {
        *digit = base62(rest % 62);
        rest /= 62;
    }
    digits.iter().collect()
}

/// The keys of a workspace, oldest first.
pub async fn list_keys(connection: &mut PgConnection, workspace_id: Uuid) -> Result<Vec<ApiKey>> {
    let select = concat!("SELECT ", key_columns!(), " FROM api_keys WHERE workspace_id = $1 ORDER BY id");
    Ok(sqlx::query_as(select).bind(workspace_id).fetch_all(connection).await?)
}

/// Creates a key. Its clear text is only returned here.
///
/// # Errors
/// [`Error::NotFound`] if the workspace does not exist, [`Error::Invalid`] for an invalid name.
pub async fn create_key(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    name: &str,
    expires_at: Option<DateTime<Utc>>,
) -> Result<(Key, ApiKey)> {
    let name = parse_name(name)?;
    let key = Key::generate()?;
    let insert = concat!(
        "INSERT INTO api_keys (id, workspace_id, name, hash, prefix, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6) RETURNING ",
        key_columns!()
    );
    let stored = sqlx::query_as(insert)
        .bind(Uuid::now_v7())
        .bind(workspace_id)
        .bind(name)
        .bind(key.hash())
        .bind(key.prefix())
        .bind(expires_at)
        .fetch_one(connection)
        .await?;
    Ok((key, stored))
}

/// Revokes a key. Revoking it again changes nothing.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn revoke_key(connection: &mut PgConnection, id: Uuid) -> Result<ApiKey> {
    let revoke =
        concat!("UPDATE api_keys SET revoked_at = coalesce(revoked_at, $2) WHERE id = $1 RETURNING ", key_columns!());
    Ok(sqlx::query_as(revoke).bind(id).bind(db::now()).fetch_one(connection).await?)
}

/// A valid key and its workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// The id of the key.
    pub key_id: Uuid,
    /// The workspace that the key gives access to.
    pub workspace_id: Uuid,
}

/// Authenticates a key. Returns `None` if the key is unknown, expired or revoked, without distinction.
pub async fn open(connection: &mut PgConnection, key: &Key) -> Result<Option<Opened>> {
    let hash = key.hash();
    let found: Option<(Uuid, Uuid, Vec<u8>)> = sqlx::query_as(
        "SELECT id, workspace_id, hash FROM api_keys
         WHERE hash = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())",
    )
    .bind(hash)
    .fetch_optional(connection)
    .await?;
    // The index has compared the hashes, but not in constant time.
    let opened = found.filter(|(_, _, stored)| stored.ct_eq(&hash).into());
    Ok(opened.map(|(key_id, workspace_id, _)| Opened { key_id, workspace_id }))
}

/// The given keys that are still valid.
pub async fn valid_keys(connection: &mut PgConnection, key_ids: &[Uuid]) -> Result<Vec<Uuid>> {
    let valid = sqlx::query_scalar(
        "SELECT id FROM api_keys
         WHERE id = ANY ($1) AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())",
    );
    Ok(valid.bind(key_ids).fetch_all(connection).await?)
}

/// Records when keys were last used, in one statement.
pub async fn touch_keys(connection: &mut PgConnection, used: &[(Uuid, DateTime<Utc>)]) -> Result<()> {
    let (ids, times): (Vec<Uuid>, Vec<DateTime<Utc>>) = used.iter().copied().unzip();
    sqlx::query(
        "UPDATE api_keys SET last_used_at = greatest(last_used_at, used.at)
         FROM unnest($1::uuid[], $2::timestamptz[]) AS used (id, at) WHERE api_keys.id = used.id",
    )
    .bind(ids)
    .bind(times)
    .execute(connection)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_with_any_wrong_character_is_rejected() {
        let key = Key::generate().unwrap();
        assert_eq!(key.reveal().len(), 40);
        assert_eq!(Key::parse(key.reveal()).unwrap().hash(), key.hash());
        for i in 0..key.reveal().len() {
            let mut mistyped = key.reveal().to_owned();
            let other = if &mistyped[i..=i] == "x" { "y" } else { "x" };
            mistyped.replace_range(i..=i, other);
            assert!(Key::parse(&mistyped).is_none(), "{i}");
        }
        for wrong in ["", "crm_", &key.reveal()[1..], &format!("{}0", key.reveal()), "crm_ééééééééééééééééééé"]
        {
            assert!(Key::parse(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn a_key_shows_only_its_prefix() {
        let key = Key::generate().unwrap();
        assert_eq!(format!("{key:?}"), format!("{}…", &key.reveal()[..10]));
    }
}
