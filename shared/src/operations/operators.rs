//! Operators: people and programs that use the operator API, each with a key.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{FromRow, PgConnection};
use subtle::ConstantTimeEq;
use uuid::Uuid;

use crate::accounts::OperatorKey;
use crate::error::{Error, Reason, Result};
use crate::platform::db;
use crate::values::{Field, Name};

/// How many days the key of an operator works, unless the command says otherwise.
pub const EXPIRES_IN_DAYS: u32 = 90;

/// Who may use the operator API.
#[derive(Debug, Clone, PartialEq, FromRow, Serialize)]
pub struct Operator {
    /// The operator's id.
    pub id: Uuid,
    /// The name, unique among the operators that are not revoked.
    pub name: String,
    /// The first characters of the key, for recognition.
    pub prefix: String,
    /// When the operator was created.
    pub created_at: DateTime<Utc>,
    /// When the key expires; `null` if it does not.
    pub expires_at: Option<DateTime<Utc>>,
    /// When the key was last used, accurate to half a minute.
    pub last_used_at: Option<DateTime<Utc>>,
    /// When the key was revoked.
    pub revoked_at: Option<DateTime<Utc>>,
}

macro_rules! columns {
    () => {
        "id, name, prefix, created_at, expires_at, last_used_at, revoked_at"
    };
}

/// Creates an operator, whose key works for so many days, or until it is revoked. Returns the key, which cannot be
/// shown again.
///
/// # Errors
/// [`Error::Invalid`] for an invalid name, [`Error::Conflict`] for one that is taken.
pub async fn create(
    connection: &mut PgConnection,
    name: &str,
    expires_in_days: Option<u32>,
) -> Result<(OperatorKey, Operator)> {
    let name = Name::from_text(name.trim()).map_err(|fault| Error::Invalid(vec![fault.of("name")]))?;
    let key = OperatorKey::generate()?;
    let insert = concat!(
        "INSERT INTO operators (id, name, prefix, hash, created_at, expires_at)
         VALUES ($1, $2, $3, $4, now(), now() + make_interval(days => $5))
         ON CONFLICT (name) WHERE revoked_at IS NULL DO NOTHING RETURNING ",
        columns!()
    );
    let created = sqlx::query_as(insert)
        .bind(Uuid::now_v7())
        .bind(name)
        .bind(key.prefix())
        .bind(key.hash())
        .bind(expires_in_days.map(|days| i32::try_from(days).unwrap_or(i32::MAX)))
        .fetch_optional(connection)
        .await?;
    let taken = || Error::conflict(Reason::Taken, "name", "another operator has this name");
    created.map(|operator| (key, operator)).ok_or_else(taken)
}

/// All operators, the oldest first.
pub async fn list(connection: &mut PgConnection) -> Result<Vec<Operator>> {
    Ok(sqlx::query_as(concat!("SELECT ", columns!(), " FROM operators ORDER BY id")).fetch_all(connection).await?)
}

/// Revokes an operator, whose next request is refused. Revoking it again changes nothing.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn revoke(connection: &mut PgConnection, id: Uuid) -> Result<Operator> {
    let revoke =
        concat!("UPDATE operators SET revoked_at = coalesce(revoked_at, $2) WHERE id = $1 RETURNING ", columns!());
    Ok(sqlx::query_as(revoke).bind(id).bind(db::now()).fetch_one(connection).await?)
}

/// The operator with this key, and notes that it is used. `None` if the key is unknown, expired or revoked, without
/// distinction.
pub async fn open(connection: &mut PgConnection, key: &OperatorKey) -> Result<Option<Operator>> {
    #[derive(FromRow)]
    struct Found {
        hash: Vec<u8>,
        is_noted: bool,
        #[sqlx(flatten)]
        operator: Operator,
    }
    let hash = key.hash();
    let select = concat!(
        "SELECT hash, coalesce(last_used_at > now() - interval '30 seconds', false) AS is_noted, ",
        columns!(),
        " FROM operators WHERE hash = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())"
    );
    let found: Option<Found> = sqlx::query_as(select).bind(&hash[..]).fetch_optional(&mut *connection).await?;
    // The index has compared the hashes, but not in constant time.
    let Some(found) = found.filter(|found| found.hash.ct_eq(&hash).into()) else { return Ok(None) };
    if !found.is_noted {
        let noted = "UPDATE operators SET last_used_at = now() WHERE id = $1";
        sqlx::query(noted).bind(found.operator.id).execute(connection).await?;
    }
    Ok(Some(found.operator))
}

/// The operator with this id, unless it is revoked or expired.
pub async fn valid(connection: &mut PgConnection, id: Uuid) -> Result<Option<Operator>> {
    let select = concat!(
        "SELECT ",
        columns!(),
        " FROM operators WHERE id = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())"
    );
    Ok(sqlx::query_as(select).bind(id).fetch_optional(connection).await?)
}
