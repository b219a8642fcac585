//! Sessions of the console: a person signs in with an API key, and acts with what the key may do.
//!
//! The browser keeps a token, of which the database has the hash. A session ends when it is revoked, with its key or
//! a change of the key's scopes, [`SESSION_HOURS`] after it began, or [`IDLE_MINUTES`] after its last use.

use std::fmt;
use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, TimeDelta, Utc};
use rand::TryRng;
use rand::rngs::SysRng;
use serde::Serialize;
use sha2::{Digest, Sha256};
use sqlx::{FromRow, PgConnection};
use utoipa::ToSchema;
use uuid::Uuid;

use super::api_keys::authentication::Opened;
use super::scopes::Scopes;
use super::workspaces::OwnLimit;
use crate::error::{Error, Result};
use crate::events::{self, Actor, EventType, NewEvent, Subject, SubjectType};
use crate::platform::db;
use crate::query::{Item, ListField, Order, OrderKind, Spec};
use crate::values::etag::Tagged;
use crate::values::kind::Kind;

/// How many hours a session lasts at most.
pub const SESSION_HOURS: i64 = 12;
/// How many minutes without a request end a session.
pub const IDLE_MINUTES: i64 = 60;
/// How many minutes a link to sign in works.
pub const LINK_MINUTES: i64 = 10;
/// How accurate the last use of a session is, so that few requests write.
pub(crate) const ACCURACY: TimeDelta = TimeDelta::minutes(1);
/// The most characters of a browser's name that are stored.
const MAX_USER_AGENT: usize = 200;

/// A secret that a browser presents: the id of its workspace or operator, by which it is found, and 256 random bits.
///
/// `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token([u8; Self::LENGTH]);

impl Token {
    const RANDOM: usize = 32;
    const LENGTH: usize = size_of::<uuid::Bytes>() + Self::RANDOM;

    pub(crate) fn generate(owner_id: Uuid) -> Result<Self> {
        let mut bytes = [0; Self::LENGTH];
        let (owner, random) = bytes.split_at_mut(Self::LENGTH - Self::RANDOM);
        owner.copy_from_slice(owner_id.as_bytes());
        SysRng.try_fill_bytes(random).map_err(|error| Error::Internal(error.into()))?;
        Ok(Self(bytes))
    }

    /// Parses a token; `None` if it is none.
    pub fn parse(text: &str) -> Option<Self> {
        URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok().map(Self)
    }

    /// The token as a cookie or a link has it.
    pub fn reveal(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }

    /// Another secret, which whoever has this token can compute, and which does not reveal it.
    pub fn derive(&self, purpose: &str) -> String {
        URL_SAFE_NO_PAD.encode(Sha256::new().chain_update(purpose).chain_update([0]).chain_update(self.0).finalize())
    }

    fn workspace_id(&self) -> Uuid {
        let mut bytes = uuid::Bytes::default();
        bytes.copy_from_slice(&self.0[..size_of::<uuid::Bytes>()]);
        Uuid::from_bytes(bytes)
    }

    pub(crate) fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.0).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// A session of the console.
#[derive(Debug, Clone, PartialEq, FromRow, Serialize, ToSchema)]
pub struct Session {
    /// The id of the session, which the audit log has as the actor.
    pub id: Uuid,
    /// The key that it was begun with.
    pub key_id: Uuid,
    /// The address that it was begun from.
    pub address: Option<String>,
    /// What the browser calls itself.
    pub user_agent: Option<String>,
    /// When it began.
    pub created_at: DateTime<Utc>,
    /// When it was last used, accurate to about a minute.
    pub used_at: DateTime<Utc>,
    /// When it ends at the latest.
    pub expires_at: DateTime<Utc>,
}

impl Item for Session {}

impl Tagged for Session {
    const COMPUTED: &'static [&'static str] = &["used_at"];
}

/// The columns of [`Session`].
pub const COLUMNS: &str = "id, key_id, address, user_agent, created_at, used_at, expires_at";

/// How sessions are listed: those that have not ended.
pub const LIST: Spec = Spec {
    table: "sessions",
    fields: &[
        ListField::new("id", Kind::Id),
        ListField::new("key_id", Kind::Id),
        ListField::new("address", Kind::Line),
        ListField::new("user_agent", Kind::Line),
        ListField::new("created_at", Kind::Time),
        ListField::new("used_at", Kind::Time),
        ListField::new("expires_at", Kind::Time),
    ],
    filters: &[],
    orders: &[Order { name: "created_at", expression: "id", kind: OrderKind::Id }],
    indexed: &[],
    searchable: false,
    branches: None,
    only: Some(
        "expires_at > now() AND used_at > now() - interval '60 minutes' AND (key_id, scopes) IN (
             SELECT api_keys.id, api_keys.scopes FROM api_keys
             WHERE api_keys.workspace_id = $1 AND revoked_at IS NULL
                 AND (api_keys.expires_at IS NULL OR api_keys.expires_at > now()))",
    ),
};

/// A session in progress, and what its key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignedIn {
    /// The id of the session.
    pub session_id: Uuid,
    /// Its key.
    pub key: Opened,
}

/// From where a session is begun.
#[derive(Debug, Clone, Default)]
pub struct From {
    /// The address, if it is known.
    pub address: Option<IpAddr>,
    /// What the browser calls itself.
    pub user_agent: Option<String>,
}

/// Begins a session, and deletes those of the workspace that have ended. Needs a transaction.
pub async fn begin(connection: &mut PgConnection, key: &Opened, from: From, request_id: &str) -> Result<Token> {
    let (workspace_id, token, now) = (key.workspace_id, Token::generate(key.workspace_id)?, db::now());
    let (until, idle) = (now + TimeDelta::hours(SESSION_HOURS), TimeDelta::minutes(IDLE_MINUTES));
    sqlx::query("DELETE FROM sessions WHERE workspace_id = $1 AND (expires_at <= $2 OR used_at <= $3)")
        .bind(workspace_id)
        .bind(now)
        .bind(now - idle)
        .execute(&mut *connection)
        .await?;
    let user_agent = from.user_agent.map(|name| name.chars().take(MAX_USER_AGENT).collect::<String>());
    let session: Session = sqlx::query_as(
        "INSERT INTO sessions
             (workspace_id, id, key_id, token_hash, scopes, address, user_agent, created_at, used_at, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8, $9)
         RETURNING id, key_id, address, user_agent, created_at, used_at, expires_at",
    )
    .bind(workspace_id)
    .bind(Uuid::now_v7())
    .bind(key.key_id)
    .bind(token.hash())
    .bind(key.scopes)
    .bind(from.address.map(|address| address.to_string()))
    .bind(user_agent)
    .bind(now)
    .bind(until)
    .fetch_one(&mut *connection)
    .await?;
    let actor = Actor::key(workspace_id, key.key_id, request_id.to_owned());
    report(connection, &actor, EventType::SessionStarted, &session).await?;
    Ok(token)
}

#[derive(FromRow)]
struct Found {
    session_id: Uuid,
    used_at: DateTime<Utc>,
    key_id: Uuid,
    scopes: Scopes,
    #[sqlx(flatten)]
    limit: OwnLimit,
    is_suspended: bool,
}

/// Finds the session of a token, and notes that it is used. Returns `None` if there is none or it has ended, without
/// distinction.
pub async fn open(connection: &mut PgConnection, token: &Token) -> Result<Option<SignedIn>> {
    let (workspace_id, now) = (token.workspace_id(), db::now());
    let found: Option<Found> = sqlx::query_as(
        "SELECT sessions.id AS session_id, used_at, api_keys.id AS key_id, api_keys.scopes,
             workspaces.rate_limit_per_minute, workspaces.rate_limit_burst,
             workspaces.suspended_at IS NOT NULL AS is_suspended
         FROM sessions
         JOIN api_keys ON api_keys.id = sessions.key_id
         JOIN workspaces ON workspaces.id = sessions.workspace_id
         WHERE sessions.workspace_id = $1 AND sessions.token_hash = $2
             AND sessions.expires_at > $3 AND used_at > $4
             AND revoked_at IS NULL AND (api_keys.expires_at IS NULL OR api_keys.expires_at > $3)
             AND api_keys.scopes = sessions.scopes",
    )
    .bind(workspace_id)
    .bind(token.hash())
    .bind(now)
    .bind(now - TimeDelta::minutes(IDLE_MINUTES))
    .fetch_optional(&mut *connection)
    .await?;
    let Some(Found { session_id, used_at, key_id, scopes, limit, is_suspended }) = found else { return Ok(None) };
    if used_at + ACCURACY < now {
        sqlx::query("UPDATE sessions SET used_at = $3 WHERE workspace_id = $1 AND id = $2 AND used_at < $3")
            .bind(workspace_id)
            .bind(session_id)
            .bind(now)
            .execute(connection)
            .await?;
    }
    Ok(Some(SignedIn { session_id, key: Opened { key_id, workspace_id, scopes, limit, is_suspended } }))
}

/// Whether a session has not ended.
pub async fn lasts(connection: &mut PgConnection, workspace_id: Uuid, id: Uuid) -> Result<bool> {
    Ok(sqlx::query_scalar(
        "SELECT EXISTS (
             SELECT 1 FROM sessions JOIN api_keys ON api_keys.id = sessions.key_id
             WHERE sessions.workspace_id = $1 AND sessions.id = $2 AND sessions.expires_at > $3
                 AND revoked_at IS NULL AND (api_keys.expires_at IS NULL OR api_keys.expires_at > $3)
                 AND api_keys.scopes = sessions.scopes)",
    )
    .bind(workspace_id)
    .bind(id)
    .bind(db::now())
    .fetch_one(connection)
    .await?)
}

/// Returns a session, also one that has ended and was not deleted yet.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn get(connection: &mut PgConnection, workspace_id: Uuid, id: Uuid) -> Result<Session> {
    let select = "SELECT id, key_id, address, user_agent, created_at, used_at, expires_at FROM sessions
                  WHERE workspace_id = $1 AND id = $2";
    Ok(sqlx::query_as(select).bind(workspace_id).bind(id).fetch_one(connection).await?)
}

/// Ends a session everywhere. Needs a transaction.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn end(connection: &mut PgConnection, actor: &Actor, id: Uuid) -> Result<()> {
    let session: Session = sqlx::query_as(
        "DELETE FROM sessions WHERE workspace_id = $1 AND id = $2
         RETURNING id, key_id, address, user_agent, created_at, used_at, expires_at",
    )
    .bind(actor.workspace_id)
    .bind(id)
    .fetch_one(&mut *connection)
    .await?;
    report(connection, actor, EventType::SessionEnded, &session).await
}

/// Forgets a session that the same browser replaces by another one.
pub async fn forget(connection: &mut PgConnection, workspace_id: Uuid, id: Uuid) -> Result<()> {
    let delete = sqlx::query("DELETE FROM sessions WHERE workspace_id = $1 AND id = $2");
    delete.bind(workspace_id).bind(id).execute(connection).await?;
    Ok(())
}

async fn report(connection: &mut PgConnection, actor: &Actor, what: EventType, session: &Session) -> Result<()> {
    let subject = Subject { kind: SubjectType::Session, id: session.id };
    events::record(connection, actor, vec![NewEvent::new(what, subject, session)?]).await
}

/// Makes a link's token, which begins one session within [`LINK_MINUTES`]. Needs a transaction.
///
/// # Errors
/// [`Error::NotFound`] for a key that is not valid.
pub async fn link(connection: &mut PgConnection, workspace_id: Uuid, key_id: Uuid) -> Result<Token> {
    let (token, now) = (Token::generate(workspace_id)?, db::now());
    opened(connection, workspace_id, key_id).await?.ok_or(Error::NotFound)?;
    sqlx::query("DELETE FROM sign_in_links WHERE workspace_id = $1 AND expires_at <= $2")
        .bind(workspace_id)
        .bind(now)
        .execute(&mut *connection)
        .await?;
    sqlx::query("INSERT INTO sign_in_links (workspace_id, token_hash, key_id, expires_at) VALUES ($1, $2, $3, $4)")
        .bind(workspace_id)
        .bind(token.hash())
        .bind(key_id)
        .bind(now + TimeDelta::minutes(LINK_MINUTES))
        .execute(connection)
        .await?;
    Ok(token)
}

/// Uses a link up, and returns its key. Returns `None` if it was used before, has expired or is none. Needs a
/// transaction.
pub async fn redeem(connection: &mut PgConnection, link: &Token) -> Result<Option<Opened>> {
    let workspace_id = link.workspace_id();
    let key_id: Option<Uuid> = sqlx::query_scalar(
        "DELETE FROM sign_in_links WHERE workspace_id = $1 AND token_hash = $2 AND expires_at > $3 RETURNING key_id",
    )
    .bind(workspace_id)
    .bind(link.hash())
    .bind(db::now())
    .fetch_optional(&mut *connection)
    .await?;
    match key_id {
        Some(key_id) => opened(connection, workspace_id, key_id).await,
        None => Ok(None),
    }
}

/// A valid key by its id.
async fn opened(connection: &mut PgConnection, workspace_id: Uuid, key_id: Uuid) -> Result<Option<Opened>> {
    let found: Option<(Scopes, Option<i32>, Option<i32>, bool)> = sqlx::query_as(
        "SELECT scopes, rate_limit_per_minute, rate_limit_burst, suspended_at IS NOT NULL
         FROM api_keys JOIN workspaces ON workspaces.id = api_keys.workspace_id
         WHERE api_keys.workspace_id = $1 AND api_keys.id = $2
             AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $3)",
    )
    .bind(workspace_id)
    .bind(key_id)
    .bind(db::now())
    .fetch_optional(connection)
    .await?;
    Ok(found.map(|(scopes, per_minute, burst, is_suspended)| Opened {
        key_id,
        workspace_id,
        scopes,
        limit: OwnLimit { per_minute, burst },
        is_suspended,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_its_text_and_nothing_else_is_one() {
        let workspace_id = Uuid::now_v7();
        let token = Token::generate(workspace_id).unwrap();
        assert_eq!(Token::parse(&token.reveal()), Some(token.clone()));
        assert_eq!(token.workspace_id(), workspace_id);
        for wrong in ["", "crm", &token.reveal()[1..], &format!("{}A", token.reveal()), &"A".repeat(65)] {
            assert_eq!(Token::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_derived_differs_by_purpose_and_token() {
        let [one, other] = [Uuid::nil(), Uuid::nil()].map(|id| Token::generate(id).unwrap());
        assert_eq!(one.derive("form"), one.derive("form"));
        assert_ne!(one.derive("form"), one.derive("file"));
        assert_ne!(one.derive("form"), other.derive("form"));
        assert!(!format!("{one:?}").contains(&one.reveal()));
    }
}
