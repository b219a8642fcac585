//! Everything that speaks against emailing an address.
//!
//! An address that is suppressed for several reasons has one suppression, which has the widest scope.
//! The other grounds are kept beside it. So an import that is undone, or a suppression that is
//! deleted, lifts what it wrote itself: what the address's owner or another file said still holds.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, FromRow, PgConnection, Row};
use uuid::Uuid;

use super::{NewSuppression, Reason, Scope};
use crate::error::{Error, Result};
use crate::events::{self, Actor, EventType, NewEvent, Subject, SubjectType};
use crate::mail;
use crate::platform::{db, email_keys};
use crate::values::{Email, EmailHash, RequestId};

/// The columns of a suppression and of a ground.
macro_rules! columns {
    () => {
        "id, email, email_hash, email_key, reason, scope, email_id, request_id, job_id, line, created_at, updated_at"
    };
}

/// What became of a suppression that was added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Added {
    /// The address was not suppressed before.
    New,
    /// The address was suppressed with a narrower scope.
    Widened,
    /// The address was suppressed already, as widely or more.
    Known,
}

/// Suppresses an address. Queued emails that the suppression covers are not sent. Needs a transaction.
pub async fn add(connection: &mut PgConnection, actor: &Actor, new: &NewSuppression) -> Result<Added> {
    let added = match add_all(connection, actor.workspace_id, std::slice::from_ref(new)).await? {
        AddedAll { new: 1, .. } => Added::New,
        AddedAll { widened: 1, .. } => Added::Widened,
        AddedAll { .. } => return Ok(Added::Known),
    };
    let stored = concat!(
        "SELECT ",
        columns!(),
        " FROM suppressions WHERE workspace_id = $1 AND email_key = $2 AND email_duplicate = 0"
    );
    let stored = sqlx::query_as(stored).bind(actor.workspace_id).bind(new.key()).fetch_all(&mut *connection).await?;
    report(connection, actor, EventType::SuppressionCreated, &stored).await?;
    Ok(added)
}

/// Records the events of suppressions.
async fn report(
    connection: &mut PgConnection,
    actor: &Actor,
    event_type: EventType,
    suppressions: &[NewSuppression],
) -> Result<()> {
    let subject = |id| Subject { kind: SubjectType::Suppression, id };
    let new = suppressions.iter().map(|stored| NewEvent::new(event_type, subject(stored.id), &stored.shown()));
    events::record(connection, actor, new.collect::<Result<_>>()?).await
}

/// How many suppressions were added.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct AddedAll {
    /// Addresses that were not suppressed before.
    pub new: usize,
    /// Addresses that were suppressed with a narrower scope.
    pub widened: usize,
}

/// Adds suppressions of different addresses, as [`add`] does.
///
/// # Errors
/// [`Error::Repeat`] if an address ceases to be suppressed at the same time.
pub(crate) async fn add_all(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    new: &[NewSuppression],
) -> Result<AddedAll> {
    let conflict = "(workspace_id, email_key, email_duplicate)";
    let written = insert(connection, workspace_id, ("suppressions", conflict), new.iter()).await?;
    let known = new.iter().filter(|new| new.key().is_some_and(|key| !written.contains_key(&key)));
    let known: Vec<&NewSuppression> = known.collect();
    let widened = if known.is_empty() { 0 } else { extend(connection, workspace_id, &known).await? };
    for scope in [Scope::Marketing, Scope::All] {
        // An email to an address of which only the hash is known is suppressed just before it is sent.
        let emails = new.iter().filter(|new| new.scope == scope).filter_map(|new| new.email.as_ref());
        mail::suppress_all(connection, workspace_id, scope, &emails.map(Email::key).collect::<Vec<_>>()).await?;
    }
    Ok(AddedAll { new: written.len(), widened })
}

/// Adds grounds to addresses that are suppressed. Returns how many suppressions became wider.
async fn extend(connection: &mut PgConnection, workspace_id: Uuid, new: &[&NewSuppression]) -> Result<usize> {
    let keys: Vec<Option<String>> = new.iter().map(|new| new.key()).collect();
    let stored: Vec<NewSuppression> = sqlx::query_as(concat!(
        "SELECT ",
        columns!(),
        " FROM suppressions WHERE workspace_id = $1 AND email_key = ANY ($2) AND email_duplicate = 0
         ORDER BY email_key FOR UPDATE"
    ))
    .bind(workspace_id)
    .bind(keys)
    .fetch_all(&mut *connection)
    .await?;
    let mut stored: HashMap<String, NewSuppression> =
        stored.into_iter().filter_map(|stored| Some((stored.key()?, stored))).collect();
    let (mut grounds, mut wider) = (Vec::new(), Vec::new());
    for new in new {
        let Some(stored) = new.key().and_then(|key| stored.remove(&key)) else {
            return Err(Error::Repeat("a suppression was removed in the meantime".to_owned()));
        };
        if new.scope > stored.scope {
            wider.push(NewSuppression { id: stored.id, updated_at: db::now(), ..(*new).clone() });
            grounds.push(NewSuppression { id: Uuid::now_v7(), ..stored });
        } else if (new.reason, new.job_id()) != (stored.reason, stored.job_id()) {
            grounds.push(NewSuppression { id: Uuid::now_v7(), ..(*new).clone() });
        }
    }
    insert(connection, workspace_id, ("suppression_grounds", ""), grounds.iter()).await?;
    replace(connection, workspace_id, &wider).await?;
    Ok(wider.len())
}

/// Inserts rows in the order of their keys, so that concurrent statements cannot deadlock. Returns the keys and ids
/// of those that did not conflict.
async fn insert<'n>(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    (table, conflict): (&'static str, &'static str),
    rows: impl Iterator<Item = &'n NewSuppression> + Clone,
) -> Result<HashMap<String, Uuid>> {
    if rows.clone().next().is_none() {
        return Ok(HashMap::new());
    }
    fn all<'n, T>(rows: impl Iterator<Item = &'n NewSuppression>, field: impl Fn(&'n NewSuppression) -> T) -> Vec<T> {
        rows.map(field).collect()
    }
    let columns = columns!();
    let sql = format!(
        "INSERT INTO {table} (workspace_id, {columns})
         SELECT $1, {columns}
         FROM unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::uuid[], $9::text[],
             $10::uuid[], $11::bigint[], $12::timestamptz[], $13::timestamptz[]) AS new ({columns})
         ORDER BY email_key
         ON CONFLICT {conflict} DO NOTHING RETURNING email_key, id"
    );
    let written: Vec<(String, Uuid)> = sqlx::query_as(AssertSqlSafe(sql))
        .bind(workspace_id)
        .bind(all(rows.clone(), |row| row.id))
        .bind(all(rows.clone(), |row| row.email.as_ref().map(AsRef::as_ref)))
        .bind(all(rows.clone(), |row| row.email_hash.as_ref().map(AsRef::as_ref)))
        .bind(all(rows.clone(), NewSuppression::key))
        .bind(all(rows.clone(), |row| row.reason.as_str()))
        .bind(all(rows.clone(), |row| row.scope.as_str()))
        .bind(all(rows.clone(), |row| row.email_id))
        .bind(all(rows.clone(), |row| row.request_id.as_ref().map(AsRef::as_ref)))
        .bind(all(rows.clone(), NewSuppression::job_id))
        .bind(all(rows.clone(), |row| row.proof.and_then(|(_, line)| i64::try_from(line).ok())))
        .bind(all(rows.clone(), |row| row.created_at))
        .bind(all(rows, |row| row.updated_at))
        .fetch_all(connection)
        .await?;
    Ok(written.into_iter().collect())
}

/// Gives stored suppressions a wider scope, with what gave it to them.
async fn replace(connection: &mut PgConnection, workspace_id: Uuid, wider: &[NewSuppression]) -> Result<()> {
    for wider in wider {
        sqlx::query(
            "UPDATE suppressions SET reason = $3, scope = $4, email_id = $5, request_id = $6, job_id = $7, line = $8,
                 updated_at = $9
             WHERE workspace_id = $1 AND id = $2",
        )
        .bind(workspace_id)
        .bind(wider.id)
        .bind(wider.reason)
        .bind(wider.scope)
        .bind(wider.email_id)
        .bind(&wider.request_id)
        .bind(wider.job_id())
        .bind(wider.proof.and_then(|(_, line)| i64::try_from(line).ok()))
        .bind(wider.updated_at)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// Lifts a suppression, with all grounds of its reason. Needs a transaction.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn delete(connection: &mut PgConnection, actor: &Actor, id: Uuid) -> Result<()> {
    let workspace_id = actor.workspace_id;
    let delete = concat!("DELETE FROM suppressions WHERE workspace_id = $1 AND id = $2 RETURNING ", columns!());
    let deleted: NewSuppression =
        sqlx::query_as(delete).bind(workspace_id).bind(id).fetch_one(&mut *connection).await?;
    let (key, reason) = (deleted.key().unwrap_or_default(), deleted.reason);
    sqlx::query("DELETE FROM suppression_grounds WHERE workspace_id = $1 AND email_key = $2 AND reason = $3")
        .bind(workspace_id)
        .bind(&key)
        .bind(reason)
        .execute(&mut *connection)
        .await?;
    report(connection, actor, EventType::SuppressionDeleted, &[deleted]).await?;
    let promoted = promote(connection, workspace_id, &[key]).await?;
    report(connection, actor, EventType::SuppressionCreated, &promoted).await
}

/// What [`take_back`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TakenBack {
    /// Addresses that are no longer suppressed.
    pub unsuppressed: i64,
    /// Whether the import may have written more.
    pub more: bool,
}

/// Takes back up to `limit` suppressions, and as many grounds, that the file of an import wrote.
pub async fn take_back(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    job_id: Uuid,
    limit: usize,
) -> Result<TakenBack> {
    let grounds = written_by(connection, workspace_id, "suppression_grounds", job_id, limit).await?;
    let keys = written_by(connection, workspace_id, "suppressions", job_id, limit).await?;
    promote(connection, workspace_id, &keys).await?;
    let unsuppressed = sqlx::query_scalar(
        "SELECT count(*) FROM unnest($2::text[]) AS former (email_key) WHERE NOT EXISTS (
             SELECT FROM suppressions WHERE workspace_id = $1 AND suppressions.email_key = former.email_key
         )",
    );
    let unsuppressed = unsuppressed.bind(workspace_id).bind(&keys).fetch_one(connection).await?;
    Ok(TakenBack { unsuppressed, more: grounds.len() == limit || keys.len() == limit })
}

/// Deletes up to `limit` rows of an import, and returns their keys.
async fn written_by(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    table: &'static str,
    job_id: Uuid,
    limit: usize,
) -> Result<Vec<String>> {
    let sql = format!(
        "DELETE FROM {table} WHERE workspace_id = $1 AND id = ANY (ARRAY(
             SELECT id FROM {table} WHERE workspace_id = $1 AND job_id = $2 ORDER BY id LIMIT $3 FOR UPDATE
         )) RETURNING email_key"
    );
    let deleted = sqlx::query_scalar(AssertSqlSafe(sql)).bind(workspace_id).bind(job_id);
    Ok(deleted.bind(i64::try_from(limit).unwrap_or(i64::MAX)).fetch_all(connection).await?)
}

/// Makes the widest ground of each address the suppression of the address, if it has no other. Returns these.
async fn promote(connection: &mut PgConnection, workspace_id: Uuid, keys: &[String]) -> Result<Vec<NewSuppression>> {
    let hand_over = AssertSqlSafe(email_keys::hand_over("suppressions"));
    sqlx::query(hand_over).bind(workspace_id).bind(keys).execute(&mut *connection).await?;
    let promoted = sqlx::query_as(concat!(
        "WITH promoted AS (
             INSERT INTO suppressions (workspace_id, ",
        columns!(),
        ") SELECT DISTINCT ON (email_key) workspace_id, ",
        columns!(),
        " FROM suppression_grounds WHERE workspace_id = $1 AND email_key = ANY ($2)
             ORDER BY email_key, scope, created_at, id
             ON CONFLICT (workspace_id, email_key, email_duplicate) DO NOTHING
             RETURNING ",
        columns!(),
        "
         ), taken AS (
             DELETE FROM suppression_grounds USING promoted
             WHERE suppression_grounds.workspace_id = $1 AND suppression_grounds.id = promoted.id
         )
         SELECT ",
        columns!(),
        " FROM promoted"
    ))
    .bind(workspace_id)
    .bind(keys)
    .fetch_all(connection)
    .await?;
    Ok(promoted)
}

/// A suppression, as the API returns it.
#[derive(Serialize)]
struct Shown<'a> {
    id: Uuid,
    email: Option<&'a Email>,
    email_hash: Option<&'a EmailHash>,
    reason: Reason,
    scope: Scope,
    email_id: Option<Uuid>,
    request_id: Option<&'a RequestId>,
    job_id: Option<Uuid>,
    line: Option<u64>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl NewSuppression {
    fn shown(&self) -> Shown<'_> {
        Shown {
            id: self.id,
            email: self.email.as_ref(),
            email_hash: self.email_hash.as_ref(),
            reason: self.reason,
            scope: self.scope,
            email_id: self.email_id,
            request_id: self.request_id.as_ref(),
            job_id: self.job_id(),
            line: self.proof.map(|(_, line)| line),
            created_at: self.created_at,
            updated_at: self.updated_at,
        }
    }

    /// The import whose file says it.
    fn job_id(&self) -> Option<Uuid> {
        self.proof.map(|(job_id, _)| job_id)
    }
}

impl FromRow<'_, PgRow> for NewSuppression {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let line: Option<i64> = row.try_get("line")?;
        let job_id: Option<Uuid> = row.try_get("job_id")?;
        Ok(Self {
            id: row.try_get("id")?,
            email: row.try_get("email")?,
            email_hash: row.try_get("email_hash")?,
            reason: row.try_get("reason")?,
            scope: row.try_get("scope")?,
            email_id: row.try_get("email_id")?,
            request_id: row.try_get("request_id")?,
            proof: job_id.zip(line.and_then(|line| u64::try_from(line).ok())),
            created_at: row.try_get("created_at")?,
            updated_at: row.try_get("updated_at")?,
        })
    }
}
