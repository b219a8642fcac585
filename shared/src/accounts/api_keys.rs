//! API keys: created, rotated, revoked, and verified with each request.

pub mod authentication;
pub mod rotation;

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Value, json};
use sqlx::{FromRow, PgConnection};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, SchemaType, Type};
use utoipa::{PartialSchema, ToSchema};
use uuid::Uuid;

use super::key::Key;
use super::scopes::{Scope, Scopes};
use crate::error::{Error, FieldError, Reason, Result};
use crate::events::{self, Actor, EventType, NewEvent, Subject, SubjectType};
use crate::platform::db;
use crate::query::{Item, ListField, Order, OrderKind, Spec};
use crate::values::etag::{Condition, Tagged};
use crate::values::json_body::Object;
use crate::values::json_schema::{Shape, clearable, closed};
use crate::values::kind::Kind;
use crate::values::{Field, Name, Time};

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

macro_rules! key_columns {
    () => {
        "id, name, scopes, prefix, created_at, expires_at, rotated_at, old_key_until, last_used_at, last_used_ip, \
            revoked_at"
    };
}

use key_columns;

/// The columns of [`ApiKey`], for the statement of a list.
pub const COLUMNS: &str = key_columns!();

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

/// The keys of a workspace with those that were revoked, oldest first.
pub async fn list(connection: &mut PgConnection, workspace_id: Uuid) -> Result<Vec<ApiKey>> {
    let select = concat!("SELECT ", key_columns!(), " FROM api_keys WHERE workspace_id = $1 ORDER BY id");
    Ok(sqlx::query_as(select).bind(workspace_id).fetch_all(connection).await?)
}

/// Returns a key that was not revoked.
pub async fn get(connection: &mut PgConnection, workspace_id: Uuid, id: Uuid) -> Result<ApiKey> {
    let select =
        concat!("SELECT ", key_columns!(), " FROM api_keys WHERE workspace_id = $1 AND id = $2 AND revoked_at IS NULL");
    Ok(sqlx::query_as(select).bind(workspace_id).bind(id).fetch_one(connection).await?)
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
        key_columns!()
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
        key_columns!()
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
