//! API keys: created, rotated, revoked, and verified with each request.

use std::borrow::Cow;
use std::net::IpAddr;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use serde_json::{Value, json};
use sqlx::{FromRow, PgConnection};
use subtle::ConstantTimeEq;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, SchemaType, Type};
use utoipa::{PartialSchema, ToSchema};
use uuid::Uuid;

use super::key::Key;
use super::scopes::{Scope, Scopes};
use super::workspaces::OwnLimit;
use crate::error::{Error, FieldError, Reason, Result};
use crate::events::{self, Actor, EventType, NewEvent, Subject, SubjectType};
use crate::platform::db;
use crate::query::{Item, ListField, Order, OrderKind, Spec};
use crate::values::etag::{Condition, Tagged};
use crate::values::json_body::Object;
use crate::values::json_schema::{Shape, clearable, closed};
use crate::values::kind::Kind;
use crate::values::{Fault, Field, Name, Time};

/// How many hours an old key works after a rotation, unless the request says otherwise.
pub const OVERLAP_HOURS: u32 = 24;
/// The most hours that an old key can work after a rotation.
const MAX_OVERLAP_HOURS: u32 = 30 * 24;

/// An API key, without the key itself, which is not stored.
#[derive(Debug, Clone, PartialEq, FromRow, Serialize, ToSchema)]
pub struct ApiKey {
    /// The id of the key. A rotation does not change it.
    pub id: Uuid,
    /// The purpose of the key, for people.
    pub name: String,
    /// What the key may do; `*` is everything.
    #[schema(value_type = Vec<Scope>)]
    pub scopes: Scopes,
    /// The first characters of the key, for recognition.
    pub prefix: String,
    /// When the key was created.
    pub created_at: DateTime<Utc>,
    /// When the key expires; `null` if it does not.
    pub expires_at: Option<DateTime<Utc>>,
    /// When the key was last replaced by a new one.
    pub rotated_at: Option<DateTime<Utc>>,
    /// Until when keys that a rotation replaced work.
    pub old_key_until: Option<DateTime<Utc>>,
    /// When the key was last used, accurate to about half a minute.
    pub last_used_at: Option<DateTime<Utc>>,
    /// The address that it was last used from.
    pub last_used_ip: Option<String>,
    /// When the key was revoked. Only operators see revoked keys.
    #[serde(skip)]
    pub revoked_at: Option<DateTime<Utc>>,
}

impl Item for ApiKey {}

impl Tagged for ApiKey {
    const COMPUTED: &'static [&'static str] = &["last_used_at", "last_used_ip"];
}

macro_rules! columns {
    () => {
        "id, name, scopes, prefix, created_at, expires_at, rotated_at, old_key_until, last_used_at, last_used_ip, \
            revoked_at"
    };
}

/// The columns of [`ApiKey`], for the statement of a list.
pub const COLUMNS: &str = columns!();

/// How keys are listed. Revoked ones no longer exist for callers.
pub const LIST: Spec = Spec {
    table: "api_keys",
    fields: &[
        ListField::new("id", Kind::Id),
        ListField::new("name", Kind::Line),
        ListField::new("scopes", Kind::Json),
        ListField::new("prefix", Kind::Line),
        ListField::new("created_at", Kind::Time),
        ListField::new("expires_at", Kind::Time),
        ListField::new("rotated_at", Kind::Time),
        ListField::new("old_key_until", Kind::Time),
        ListField::new("last_used_at", Kind::Time),
        ListField::new("last_used_ip", Kind::Line),
    ],
    filters: &[],
    orders: &[Order { name: "created_at", expression: "id", kind: OrderKind::Id }],
    indexed: &[],
    searchable: false,
    branches: None,
    only: Some("revoked_at IS NULL"),
};

/// An API key with the key itself, which is shown only once.
#[derive(Debug, Serialize)]
pub struct NewlyIssued {
    /// The key as requests send it; `null` when the response is replayed for an `Idempotency-Key`.
    pub key: Option<String>,
    /// Everything else about it.
    #[serde(flatten)]
    pub about: ApiKey,
}

impl PartialSchema for NewlyIssued {
    fn schema() -> RefOr<Schema> {
        let mut about = ApiKey::schema();
        if let RefOr::T(Schema::Object(object)) = &mut about {
            let key = ObjectBuilder::new().schema_type(SchemaType::from_iter([Type::String, Type::Null])).description(
                Some("The key as requests send it; `null` when the response is replayed for an `Idempotency-Key`."),
            );
            object.description = Some("An API key with the key itself, which is shown only once.".to_owned());
            object.properties.insert("key".to_owned(), key.into());
            object.required.push("key".to_owned());
            object.examples = vec![example()];
        }
        about
    }
}

impl ToSchema for NewlyIssued {
    fn name() -> Cow<'static, str> {
        "IssuedApiKey".into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        ApiKey::schemas(schemas);
    }
}

fn example() -> Value {
    json!({
        "key": "crm_7tGmWq0Zr5XnB2vKdY8hLs4cJf1uEa3pQ9oT",
        "id": "019ab3f2-6b1e-7c3a-9f52-3d8c1e0a7b44",
        "name": "website",
        "scopes": ["records:read", "records:write"],
        "prefix": "crm_7tGmWq",
        "created_at": "2026-01-15T10:00:00Z",
        "expires_at": null,
        "rotated_at": null,
        "old_key_until": null,
        "last_used_at": null,
        "last_used_ip": null,
    })
}

/// A key to create.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// Its purpose.
    pub name: Name,
    /// What it may do.
    pub scopes: Scopes,
    /// When it expires.
    pub expires_at: Option<DateTime<Utc>>,
}

impl NewKey {
    /// Reads the body of a request.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every fault.
    pub fn read(mut body: Object) -> Result<Self> {
        let (name, scopes) = (body.required("name"), body.required("scopes"));
        let expires_at = body.take::<Time>("expires_at").into_value();
        if expires_at.is_some_and(|at| at <= db::now()) {
            body.refuse(FieldError::new("expires_at", "out_of_range", "must be in the future"));
        }
        body.finish()?;
        match (name, scopes) {
            (Some(name), Some(scopes)) => Ok(Self { name, scopes, expires_at }),
            _ => Err(Error::internal("a body was accepted without a name or scopes")),
        }
    }

    /// A key of an operator's command.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an invalid name.
    pub fn of(name: &str, scopes: Scopes, expires_at: Option<DateTime<Utc>>) -> Result<Self> {
        let name = Name::from_text(name.trim()).map_err(|fault| Error::Invalid(vec![fault.of("name")]))?;
        Ok(Self { name, scopes, expires_at })
    }
}

/// The schema of the body that [`NewKey::read`] reads.
pub fn create_schema() -> RefOr<Schema> {
    let scopes = Scopes::shape();
    let body = ObjectBuilder::new()
        .property("name", Name::shape())
        .required("name")
        .property("scopes", scopes)
        .required("scopes")
        .property("expires_at", clearable(Time::shape()));
    closed(body.examples([json!({ "name": "website", "scopes": ["records:read", "records:write"] })]))
}

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

/// The keys of a workspace with those that were revoked, oldest first.
pub async fn list(connection: &mut PgConnection, workspace_id: Uuid) -> Result<Vec<ApiKey>> {
    let select = concat!("SELECT ", columns!(), " FROM api_keys WHERE workspace_id = $1 ORDER BY id");
    Ok(sqlx::query_as(select).bind(workspace_id).fetch_all(connection).await?)
}

/// Returns a key that was not revoked.
pub async fn get(connection: &mut PgConnection, workspace_id: Uuid, id: Uuid) -> Result<ApiKey> {
    let select =
        concat!("SELECT ", columns!(), " FROM api_keys WHERE workspace_id = $1 AND id = $2 AND revoked_at IS NULL");
    Ok(sqlx::query_as(select).bind(workspace_id).bind(id).fetch_one(connection).await?)
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

/// The workspace of a key, whether or not the key was revoked.
pub async fn workspace_of(connection: &mut PgConnection, id: Uuid) -> Result<Uuid> {
    Ok(sqlx::query_scalar("SELECT workspace_id FROM api_keys WHERE id = $1").bind(id).fetch_one(connection).await?)
}

/// Creates a key. Its clear text is only returned here.
///
/// # Errors
/// [`Error::NotFound`] if the workspace does not exist.
pub async fn create(connection: &mut PgConnection, workspace_id: Uuid, new: &NewKey) -> Result<(Key, ApiKey)> {
    let key = Key::generate()?;
    let insert = concat!(
        "INSERT INTO api_keys (id, workspace_id, name, hash, prefix, scopes, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING ",
        columns!()
    );
    let stored = sqlx::query_as(insert)
        .bind(Uuid::now_v7())
        .bind(workspace_id)
        .bind(&new.name)
        .bind(key.hash())
        .bind(key.prefix())
        .bind(new.scopes)
        .bind(new.expires_at)
        .fetch_one(connection)
        .await?;
    Ok((key, stored))
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
        columns!()
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

/// Revokes a key. Needs a transaction.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Conflict`] for the last valid key that can manage keys, without which only an
/// operator could create others; [`Error::Changed`] if the condition is not met.
pub async fn revoke(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    id: Uuid,
    condition: &Condition,
) -> Result<ApiKey> {
    // Two requests must not revoke the last two keys at once.
    sqlx::query("SELECT FROM workspaces WHERE id = $1 FOR NO KEY UPDATE")
        .bind(workspace_id)
        .execute(&mut *connection)
        .await?;
    let key = get(connection, workspace_id, id).await?;
    condition.check(&key)?;
    if key.scopes.allows(Scope::Keys) && is_last(connection, workspace_id, id).await? {
        let message = "the last valid key that can manage keys cannot be revoked";
        return Err(Error::conflict_with(id, Reason::LastKey, "id", message));
    }
    revoke_any(connection, workspace_id, id).await
}

/// Whether a key is valid, and no other valid key of the workspace can manage keys.
async fn is_last(connection: &mut PgConnection, workspace_id: Uuid, id: Uuid) -> Result<bool> {
    let managers: Vec<Uuid> = sqlx::query_scalar(
        "SELECT id FROM api_keys
         WHERE workspace_id = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
             AND scopes && $2
         LIMIT 2",
    )
    .bind(workspace_id)
    .bind(Scopes::of(&[Scope::All, Scope::Keys]))
    .fetch_all(connection)
    .await?;
    Ok(managers == [id])
}

/// Revokes a key, also the last one, and ends its sessions. Revoking it again changes nothing. Needs a transaction.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn revoke_any(connection: &mut PgConnection, workspace_id: Uuid, id: Uuid) -> Result<ApiKey> {
    let revoke = concat!(
        "UPDATE api_keys SET revoked_at = coalesce(revoked_at, $3) WHERE workspace_id = $1 AND id = $2 RETURNING ",
        columns!()
    );
    let key = sqlx::query_as(revoke).bind(workspace_id).bind(id).bind(db::now()).fetch_one(&mut *connection).await?;
    sqlx::query("DELETE FROM sessions WHERE workspace_id = $1 AND key_id = $2")
        .bind(workspace_id)
        .bind(id)
        .execute(connection)
        .await?;
    Ok(key)
}

/// Records what an actor did to a key, in the transaction of it.
pub async fn report(connection: &mut PgConnection, actor: &Actor, what: EventType, key: &ApiKey) -> Result<()> {
    let subject = Subject { kind: SubjectType::ApiKey, id: key.id };
    events::record(connection, actor, vec![NewEvent::new(what, subject, key)?]).await
}

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
             AND NOT EXISTS (SELECT FROM workspaces WHERE workspaces.id = workspace_id AND suspended_at IS NOT NULL)",
    );
    Ok(valid.bind(key_ids).fetch_all(connection).await?)
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
