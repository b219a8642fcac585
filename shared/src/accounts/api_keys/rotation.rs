//! Replacing keys by new ones.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use sqlx::PgConnection;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use uuid::Uuid;

use super::{ApiKey, key_columns};
use crate::accounts::key::Key;
use crate::error::{Error, Reason, Result};
use crate::platform::db;
use crate::values::json_body::Object;
use crate::values::json_schema::closed;
use crate::values::{Fault, Field};

/// How many hours an old key works after a rotation, unless the request says otherwise.
pub const OVERLAP_HOURS: u32 = 24;
/// The most hours that an old key can work after a rotation.
const MAX_OVERLAP_HOURS: u32 = 30 * 24;

/// How long old keys work after a rotation.
#[derive(Debug, Clone, Copy)]
pub struct OverlapHours(u32);

impl Default for OverlapHours {
    fn default() -> Self {
        Self(OVERLAP_HOURS)
    }
}

impl TryFrom<u32> for OverlapHours {
    type Error = String;

    fn try_from(hours: u32) -> std::result::Result<Self, String> {
        match hours {
            0..=MAX_OVERLAP_HOURS => Ok(Self(hours)),
            _ => Err(format!("must be between 0 and {MAX_OVERLAP_HOURS}")),
        }
    }
}

impl Field for OverlapHours {
    const IS_STRING: bool = false;

    fn from_text(text: &str) -> std::result::Result<Self, Fault> {
        Self::from_json(Value::String(text.to_owned()))
    }

    fn from_json(value: Value) -> std::result::Result<Self, Fault> {
        let hours = value.as_u64().ok_or_else(|| Fault::new("invalid", "must be a whole number of hours"))?;
        Self::try_from(u32::try_from(hours).unwrap_or(u32::MAX)).map_err(|message| Fault::new("out_of_range", message))
    }
}

impl OverlapHours {
    /// Reads the body of a request.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every fault.
    pub fn read(mut body: Object) -> Result<Self> {
        let hours = body.present("overlap_hours");
        body.finish()?;
        Ok(hours.unwrap_or_default())
    }

    /// The schema of the body that it is read from.
    pub fn schema() -> RefOr<Schema> {
        let hours = ObjectBuilder::new()
            .schema_type(Type::Integer)
            .minimum(Some(0))
            .maximum(Some(MAX_OVERLAP_HOURS))
            .default(Some(OVERLAP_HOURS.into()))
            .description(Some("How many hours the old key works."));
        let body = ObjectBuilder::new().property("overlap_hours", hours);
        closed(body.examples([json!({ "overlap_hours": OVERLAP_HOURS })]))
    }
}

/// Replaces a key by a new one with the same id, scopes and expiry. The old one works for some hours, like
/// those of earlier rotations. Needs a transaction.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Conflict`] for a key that has expired.
pub async fn rotate(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    id: Uuid,
    overlap: OverlapHours,
) -> Result<(Key, ApiKey)> {
    let lock =
        "SELECT hash, expires_at FROM api_keys WHERE workspace_id = $1 AND id = $2 AND revoked_at IS NULL FOR UPDATE";
    let (hash, expires_at): (Vec<u8>, Option<DateTime<Utc>>) =
        sqlx::query_as(lock).bind(workspace_id).bind(id).fetch_one(&mut *connection).await?;
    let now = db::database_now(connection).await?;
    if expires_at.is_some_and(|at| at <= now) {
        return Err(Error::conflict_with(
            id,
            Reason::KeyExpired,
            "expires_at",
            "the key has expired; create another one",
        ));
    }
    let until = now + TimeDelta::hours(i64::from(overlap.0));
    sqlx::query("DELETE FROM rotated_keys WHERE key_id = $1 AND valid_until <= $2")
        .bind(id)
        .bind(now)
        .execute(&mut *connection)
        .await?;
    if until > now {
        let insert = "INSERT INTO rotated_keys (hash, key_id, valid_until) VALUES ($1, $2, $3)";
        sqlx::query(insert).bind(hash).bind(id).bind(until).execute(&mut *connection).await?;
    }
    let key = Key::generate()?;
    let update = concat!(
        "UPDATE api_keys SET hash = $3, prefix = $4, rotated_at = $5,
             old_key_until = (SELECT max(valid_until) FROM rotated_keys WHERE key_id = $2)
         WHERE workspace_id = $1 AND id = $2 RETURNING ",
        key_columns!()
    );
    let rotated = sqlx::query_as(update)
        .bind(workspace_id)
        .bind(id)
        .bind(key.hash())
        .bind(key.prefix())
        .bind(now)
        .fetch_one(connection)
        .await?;
    Ok((key, rotated))
}
