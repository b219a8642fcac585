//! Suppressions: the addresses that a workspace sends no email to, and why.
//!
//! A suppression belongs to the address, not to a record: it remains when a record is changed or
//! deleted.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::json;
use sqlx::{AssertSqlSafe, FromRow, PgConnection};
use utoipa::ToSchema;
use utoipa::openapi::schema::Schema;
use utoipa::openapi::{ObjectBuilder, RefOr};
use uuid::Uuid;

use crate::error::{self, Error, Result};
use crate::platform::{db, email_keys};
use crate::query::{ListField, Order, OrderKind, Spec};
use crate::values::Email;
use crate::values::etag::{Condition, Tagged};
use crate::values::json_body::Object;
use crate::values::json_schema::{self, Shape};
use crate::values::kind::Kind;
use crate::{mail, string_enum};

string_enum! {
    /// Why an address is suppressed.
    Reason {
        /// Its owner unsubscribed.
        Unsubscribed = "unsubscribed",
        /// The mail server rejected the address as unknown.
        Bounced = "bounced",
        /// A caller added it.
        Manual = "manual",
        /// A file from another system says that its owner wants no email.
        Imported = "imported",
    }
}

/// An address that a workspace sends no email to.
#[derive(Debug, Clone, PartialEq, Serialize, FromRow, ToSchema)]
#[schema(examples(json!({
    "id": "019ab3f2-6b1e-7c3a-9f52-3d8c1e0a7b44", "email": "jane@example.com", "reason": "manual", "email_id": null,
    "job_id": null, "line": null, "created_at": "2026-01-15T10:00:00Z"
})))]
pub struct Suppression {
    /// The suppression's id; ids rise with time.
    pub id: Uuid,
    /// The address; it is compared by its normal form.
    #[schema(schema_with = Email::shape)]
    pub email: Email,
    /// Why the address is suppressed.
    pub reason: Reason,
    /// The email that caused the suppression.
    pub email_id: Option<Uuid>,
    /// The job of the import that read the suppression in a file.
    pub job_id: Option<Uuid>,
    /// The line of that file.
    pub line: Option<i64>,
    /// When the suppression was created.
    pub created_at: DateTime<Utc>,
}

impl Tagged for Suppression {}

/// The condition that the workspace `$1` suppresses the address whose normal form is in a column.
macro_rules! is_suppressed {
    ($column:literal) => {
        concat!("EXISTS (SELECT FROM suppressions WHERE workspace_id = $1 AND email_key = ", $column, ")")
    };
}

pub(crate) use is_suppressed;

macro_rules! columns {
    () => {
        "id, email, reason, email_id, job_id, line, created_at"
    };
}

/// The columns of [`Suppression`].
pub const COLUMNS: &str = columns!();

/// How suppressions are listed.
pub const LIST: Spec = Spec {
    table: "suppressions",
    fields: &[
        ListField::new("id", Kind::Id),
        ListField::new("email", Kind::Email),
        ListField::new("reason", Kind::Word(Reason::WORDS)),
        ListField::new("email_id", Kind::Id),
        ListField::new("job_id", Kind::Id),
        ListField::new("line", Kind::Number),
        ListField::new("created_at", Kind::Time),
    ],
    filters: &[],
    orders: &[
        Order { name: "created_at", expression: "id", kind: OrderKind::Id },
        Order { name: "email", expression: email_keys::COLUMN, kind: OrderKind::Text },
    ],
    indexed: &["email"],
    searchable: false,
    branches: None,
    only: None,
};

/// The request body's schema for the OpenAPI document.
pub fn create_schema() -> RefOr<Schema> {
    let body = ObjectBuilder::new().description(Some("A suppression to create."));
    json_schema::closed(
        body.property("email", Email::shape()).required("email").examples([json!({ "email": "jane@example.com" })]),
    )
}

/// Returns a suppression.
pub async fn get(connection: &mut PgConnection, workspace_id: Uuid, id: Uuid) -> Result<Suppression> {
    let select = concat!("SELECT ", columns!(), " FROM suppressions WHERE workspace_id = $1 AND id = $2");
    Ok(sqlx::query_as(select).bind(workspace_id).bind(id).fetch_one(connection).await?)
}

/// Suppresses the address in the request body. Queued emails to the address are not sent.
///
/// # Errors
/// [`Error::Invalid`] with every error of the body; [`Error::Conflict`] for an address that is
/// already suppressed.
pub async fn create(connection: &mut PgConnection, workspace_id: Uuid, mut body: Object) -> Result<Suppression> {
    let email: Option<Email> = body.required("email");
    for field in ["id", "reason", "email_id", "job_id", "line", "created_at"] {
        body.read_only(field, None::<&Uuid>);
    }
    body.finish()?;
    let suppression = Suppression {
        id: Uuid::now_v7(),
        email: email.ok_or_else(|| Error::internal("a body was accepted without an email"))?,
        reason: Reason::Manual,
        email_id: None,
        job_id: None,
        line: None,
        created_at: db::now(),
    };
    if !insert(connection, workspace_id, &suppression).await? {
        let owner = owner(connection, workspace_id, &suppression.email.key()).await?;
        return Err(match owner {
            Some(id) => Error::conflict_with(id, error::Reason::Taken, "email", "this email is already suppressed"),
            None => Error::Repeat("the suppression was removed in the meantime".to_owned()),
        });
    }
    Ok(suppression)
}

/// Returns the id of the suppression of an address, given as [`Email::key`] formats it.
pub(crate) async fn owner(connection: &mut PgConnection, workspace_id: Uuid, email_key: &str) -> Result<Option<Uuid>> {
    let owner = "SELECT id FROM suppressions WHERE workspace_id = $1 AND email_key = $2 AND email_duplicate = 0";
    Ok(sqlx::query_scalar(owner).bind(workspace_id).bind(email_key).fetch_optional(connection).await?)
}

/// Suppresses an address. Returns `false` if it was already suppressed. Queued emails to the
/// address are not sent.
pub async fn add(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    email: &Email,
    reason: Reason,
    email_id: Option<Uuid>,
) -> Result<bool> {
    let (id, email, created_at) = (Uuid::now_v7(), email.clone(), db::now());
    let new = Suppression { id, email, reason, email_id, job_id: None, line: None, created_at };
    insert(connection, workspace_id, &new).await
}

/// An address that a file suppresses.
#[derive(Debug, Clone, PartialEq)]
pub struct FromFile {
    /// The address.
    pub email: Email,
    /// Why it is suppressed.
    pub reason: Reason,
    /// The line of the file.
    pub line: u64,
}

/// Suppresses addresses that the file of an import names, each once. Returns how many were not suppressed before.
/// Queued emails to the addresses are not sent.
pub async fn add_from_file(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    job_id: Uuid,
    new: &[FromFile],
) -> Result<i64> {
    let keys: Vec<String> = new.iter().map(|new| new.email.key()).collect();
    let (mut ids, mut emails, mut reasons, mut lines) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for FromFile { email, reason, line } in new {
        ids.push(Uuid::now_v7());
        emails.push(email.as_ref());
        reasons.push(reason.as_str());
        lines.push(i64::try_from(*line).unwrap_or(i64::MAX));
    }
    let written = sqlx::query(
        "INSERT INTO suppressions (workspace_id, id, email, email_key, reason, job_id, line, created_at)
         SELECT $1, id, email, email_key, reason, $2, line, $3
         FROM unnest($4::uuid[], $5::text[], $6::text[], $7::text[], $8::bigint[])
             AS new (id, email, email_key, reason, line)
         ON CONFLICT (workspace_id, email_key, email_duplicate) DO NOTHING",
    );
    let written = written
        .bind(workspace_id)
        .bind(job_id)
        .bind(db::now())
        .bind(ids)
        .bind(emails)
        .bind(&keys)
        .bind(reasons)
        .bind(lines)
        .execute(&mut *connection)
        .await?;
    mail::suppress_all(connection, workspace_id, &keys).await?;
    Ok(i64::try_from(written.rows_affected()).unwrap_or(i64::MAX))
}

/// Takes back up to `limit` suppressions that the file of an import made. Returns their number.
pub async fn take_back(connection: &mut PgConnection, workspace_id: Uuid, job_id: Uuid, limit: i64) -> Result<i64> {
    let deleted = sqlx::query_scalar(
        "DELETE FROM suppressions WHERE workspace_id = $1 AND id = ANY (ARRAY(
             SELECT id FROM suppressions WHERE workspace_id = $1 AND job_id = $2 ORDER BY id LIMIT $3 FOR UPDATE
         )) RETURNING email_key",
    );
    let deleted = deleted.bind(workspace_id).bind(job_id).bind(limit);
    let keys: Vec<String> = deleted.fetch_all(&mut *connection).await?;
    let count = i64::try_from(keys.len()).unwrap_or(i64::MAX);
    let hand_over = AssertSqlSafe(email_keys::hand_over("suppressions"));
    sqlx::query(hand_over).bind(workspace_id).bind(keys).execute(connection).await?;
    Ok(count)
}

async fn insert(connection: &mut PgConnection, workspace_id: Uuid, new: &Suppression) -> Result<bool> {
    let email_key = new.email.key();
    let insert = concat!(
        "INSERT INTO suppressions (workspace_id, ",
        columns!(),
        ", email_key) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
         ON CONFLICT (workspace_id, email_key, email_duplicate) DO NOTHING"
    );
    let written = sqlx::query(insert)
        .bind(workspace_id)
        .bind(new.id)
        .bind(&new.email)
        .bind(new.reason)
        .bind(new.email_id)
        .bind(new.job_id)
        .bind(new.line)
        .bind(new.created_at)
        .bind(&email_key)
        .execute(&mut *connection)
        .await?;
    // Also for an address that was already suppressed: an email may have been queued concurrently.
    mail::suppress(connection, workspace_id, &email_key).await?;
    Ok(written.rows_affected() == 1)
}

/// Removes a suppression. Emails that it stopped stay unsent. Needs a transaction.
pub async fn delete(connection: &mut PgConnection, workspace_id: Uuid, id: Uuid, condition: &Condition) -> Result<()> {
    let delete = concat!("DELETE FROM suppressions WHERE workspace_id = $1 AND id = $2 RETURNING ", columns!());
    let deleted: Suppression = sqlx::query_as(delete).bind(workspace_id).bind(id).fetch_one(&mut *connection).await?;
    condition.check(&deleted)?;
    let hand_over = AssertSqlSafe(email_keys::hand_over("suppressions"));
    sqlx::query(hand_over).bind(workspace_id).bind([deleted.email.key()]).execute(connection).await?;
    Ok(())
}

/// Returns which of the addresses, given as [`Email::key`] formats them, are suppressed.
pub async fn suppressed(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    emails: &[String],
) -> Result<HashSet<String>> {
    let found: Vec<String> =
        sqlx::query_scalar("SELECT email_key FROM suppressions WHERE workspace_id = $1 AND email_key = ANY ($2)")
            .bind(workspace_id)
            .bind(emails)
            .fetch_all(connection)
            .await?;
    Ok(found.into_iter().collect())
}
