//! Suppressions: the addresses that a workspace sends no email to, and why.
//!
//! A suppression belongs to the address, not to a record: it remains when a record is changed or
//! deleted.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, PgConnection};
use uuid::Uuid;

use crate::error::Result;
use crate::platform::{db, email_keys};
use crate::values::{Email, EmailHash};
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

/// A suppression to write.
#[derive(Debug, Clone, PartialEq)]
pub struct NewSuppression {
    /// Its id.
    pub id: Uuid,
    /// The address, if it is known.
    pub email: Option<Email>,
    /// The hash of an address that is not known.
    pub email_hash: Option<EmailHash>,
    /// Why the address is suppressed.
    pub reason: Reason,
    /// The email that caused the suppression.
    pub email_id: Option<Uuid>,
    /// The job of the import whose file has it, and the line.
    pub proof: Option<(Uuid, u64)>,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
}

impl NewSuppression {
    /// A suppression of an address, from now on.
    pub fn new(email: &Email, reason: Reason) -> Self {
        let now = db::now();
        Self {
            id: Uuid::now_v7(),
            email: Some(email.clone()),
            email_hash: None,
            reason,
            email_id: None,
            proof: None,
            created_at: now,
            updated_at: now,
        }
    }

    /// The form by which the address is compared, or its hash.
    pub fn key(&self) -> Option<String> {
        key(self.email.as_ref(), self.email_hash.as_ref())
    }
}

/// The form by which an address is compared, or its hash if the address is not known.
pub(crate) fn key(email: Option<&Email>, hash: Option<&EmailHash>) -> Option<String> {
    email.map(Email::key).or_else(|| hash.map(EmailHash::key))
}

/// The condition that the workspace `$1` suppresses the address whose normal form is in a column, or its hash.
macro_rules! is_suppressed {
    ($column:literal) => {
        concat!(
            "EXISTS (SELECT FROM suppressions WHERE workspace_id = $1 AND email_key IN (",
            $column,
            ", 'sha256:' || encode(sha256(convert_to(",
            $column,
            ", 'UTF8')), 'hex')))"
        )
    };
}

pub(crate) use is_suppressed;

/// Returns the id of the suppression of an address, given as [`Email::key`] formats it.
pub(crate) async fn owner(connection: &mut PgConnection, workspace_id: Uuid, email_key: &str) -> Result<Option<Uuid>> {
    let owner = "SELECT id FROM suppressions WHERE workspace_id = $1 AND email_key = ANY ($2) AND email_duplicate = 0
        ORDER BY email_key LIMIT 1";
    let keys = [email_key.to_owned(), EmailHash::of(email_key).key()];
    Ok(sqlx::query_scalar(owner).bind(workspace_id).bind(keys).fetch_optional(connection).await?)
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
    let new = NewSuppression { email_id, ..NewSuppression::new(email, reason) };
    insert(connection, workspace_id, &new).await
}

/// Adds suppressions of different addresses. Returns how many were not there before. Queued emails to the addresses
/// are not sent.
pub(crate) async fn add_all(connection: &mut PgConnection, workspace_id: Uuid, new: &[NewSuppression]) -> Result<i64> {
    let keys: Vec<Option<String>> = new.iter().map(NewSuppression::key).collect();
    let written = sqlx::query(
        "INSERT INTO suppressions (workspace_id, id, email, email_hash, email_key, reason, email_id, job_id, line,
             created_at, updated_at)
         SELECT $1, id, email, email_hash, email_key, reason, email_id, job_id, line, created_at, updated_at
         FROM unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::uuid[], $8::uuid[], $9::bigint[],
             $10::timestamptz[], $11::timestamptz[])
             AS new (id, email, email_hash, email_key, reason, email_id, job_id, line, created_at, updated_at)
         ON CONFLICT (workspace_id, email_key, email_duplicate) DO NOTHING",
    );
    fn all<'n, T>(new: &'n [NewSuppression], field: impl Fn(&'n NewSuppression) -> T) -> Vec<T> {
        new.iter().map(field).collect()
    }
    let written = written
        .bind(workspace_id)
        .bind(all(new, |new| new.id))
        .bind(all(new, |new| new.email.as_ref().map(AsRef::as_ref)))
        .bind(all(new, |new| new.email_hash.as_ref().map(AsRef::as_ref)))
        .bind(&keys)
        .bind(all(new, |new| new.reason.as_str()))
        .bind(all(new, |new| new.email_id))
        .bind(all(new, |new| new.proof.map(|(job_id, _)| job_id)))
        .bind(all(new, |new| new.proof.and_then(|(_, line)| i64::try_from(line).ok())))
        .bind(all(new, |new| new.created_at))
        .bind(all(new, |new| new.updated_at))
        .execute(&mut *connection)
        .await?;
    // An email to an address of which only the hash is known is suppressed just before it is sent.
    let emails: Vec<String> = new.iter().filter_map(|new| new.email.as_ref()).map(Email::key).collect();
    mail::suppress_all(connection, workspace_id, &emails).await?;
    Ok(i64::try_from(written.rows_affected()).unwrap_or(i64::MAX))
}

/// Returns which of these keys and ids suppressions have.
pub(crate) async fn taken(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    (keys, ids): (&[String], &[Uuid]),
) -> Result<(HashSet<String>, HashSet<Uuid>)> {
    let found: Vec<(Uuid, String)> = sqlx::query_as(
        "SELECT id, email_key FROM suppressions WHERE workspace_id = $1 AND email_key = ANY ($2)
         UNION
         SELECT id, email_key FROM suppressions WHERE workspace_id = $1 AND id = ANY ($3)",
    )
    .bind(workspace_id)
    .bind(keys)
    .bind(ids)
    .fetch_all(connection)
    .await?;
    Ok(found.into_iter().map(|(id, key)| (key, id)).unzip())
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

/// Adds a suppression. Returns `false` if the address was already suppressed.
pub(crate) async fn insert(connection: &mut PgConnection, workspace_id: Uuid, new: &NewSuppression) -> Result<bool> {
    Ok(add_all(connection, workspace_id, std::slice::from_ref(new)).await? == 1)
}

/// Returns which of the addresses, given as [`Email::key`] formats them, are suppressed.
pub async fn suppressed(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    emails: &[String],
) -> Result<HashSet<String>> {
    Ok(owners(connection, workspace_id, emails).await?.into_keys().collect())
}

/// Like [`suppressed`], with the id of a suppression of each address.
pub(crate) async fn owners(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    emails: &[String],
) -> Result<HashMap<String, Uuid>> {
    let hashes: HashMap<String, &String> = emails.iter().map(|key| (EmailHash::of(key).key(), key)).collect();
    let keys: Vec<&String> = emails.iter().chain(hashes.keys()).collect();
    let found: Vec<(String, Uuid)> =
        sqlx::query_as("SELECT email_key, id FROM suppressions WHERE workspace_id = $1 AND email_key = ANY ($2)")
            .bind(workspace_id)
            .bind(keys)
            .fetch_all(connection)
            .await?;
    let email = |key: String| hashes.get(&key).map_or(key, |email| (*email).clone());
    Ok(found.into_iter().map(|(key, id)| (email(key), id)).collect())
}
