//! One record at a time: creating, reading, updating and deleting.

use serde_json::Value;
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use super::bulk;
use super::constraints::{hand_over_keys, refusal};
use super::model::{Difference, Parent, Place, Record, bind_all};
use crate::error::{Error, Result};
use crate::events::Actor;
use crate::platform::{db, trace};
use crate::values::Time;
use crate::values::etag::Condition;
use crate::values::json_body::Object;

/// Checks that the parent exists.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn check_parent<R: Record>(connection: &mut PgConnection, workspace_id: Uuid, parent: Uuid) -> Result<()> {
    let Some(find_parent) = R::statements().find_parent.clone() else { return Ok(()) };
    let _: i32 = sqlx::query_scalar(find_parent).bind(workspace_id).bind(parent).fetch_one(connection).await?;
    Ok(())
}

/// Whether writing a body changes only the record itself, and so needs no transaction.
pub fn is_alone<R: Record>(body: &Object) -> bool {
    !R::LINKS.iter().any(|link| body.names(link))
}

/// Like [`is_alone`], for the body of an update. An email that is given up may have an heir.
pub fn changes_alone<R: Record>(body: &Object) -> bool {
    let is_handed_over = R::UNIQUE.iter().any(|key| key.is_stored_beside() && body.names(key.field));
    is_alone::<R>(body) && !is_handed_over && !R::has_consequences(body)
}

/// Returns a record.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn get<R: Record>(connection: &mut PgConnection, workspace_id: Uuid, place: Place) -> Result<R> {
    let query = sqlx::query_as(R::statements().get.clone()).bind(workspace_id).bind(place.id);
    let query = if R::PARENT.is_some() { query.bind(place.parent) } else { query };
    Ok(query.fetch_one(connection).await?)
}

/// Creates a record from the body of a request, under its parent if the kind has one.
///
/// # Errors
/// [`Error::Invalid`] with every invalid field of the body; [`Error::Conflict`] if a unique key is
/// taken; [`Error::Missing`] if a referenced record does not exist.
pub async fn create<R: Record>(
    connection: &mut PgConnection,
    actor: &Actor,
    parent: Option<Uuid>,
    body: Object,
) -> Result<R> {
    let mut record: R = draft(parent, body)?;
    R::before_create(connection, actor, vec![&mut record]).await?;
    let insert = sqlx::query(R::statements().insert.clone()).bind(actor.workspace_id);
    let query = bind_all(&record, actor.workspace_id, insert).bind(actor.kind).bind(actor.id);
    let query =
        query.bind(Uuid::now_v7()).bind(&actor.request_id).bind(serde_json::to_string(&record)?).bind(db::now());
    let inserted = query.bind(trace::stored()).execute(&mut *connection).await;
    inserted.map_err(|error| refusal(error, actor.workspace_id, [&record]))?;
    record.after_write(connection, actor, None).await?;
    Ok(record)
}

/// Builds a record from a body without writing it.
pub(crate) fn draft<R: Record>(parent: Option<Uuid>, body: Object) -> Result<R> {
    let mut changes = R::read(body, None)?;
    if let (Some(Parent { column, .. }), Some(parent)) = (R::PARENT, parent) {
        R::set(&mut changes, column, &parent.to_string()).map_err(|fault| Error::internal(fault.message))?;
    }
    let record = R::new(Uuid::now_v7(), db::now(), changes);
    let mut record = record.ok_or_else(|| Error::internal("a body without a required field was accepted"))?;
    record.derive_fields(None);
    Ok(record)
}

/// Sets the time of a change and the fields that are derived from others.
pub(crate) fn mark_changed<R: Record>(before: &R, after: &mut R, at: Time) {
    after.touch(at);
    after.derive_fields(Some(before));
}

/// Updates the fields that the body of a request contains. Nothing is written if no value changes.
///
/// The update is optimistic: the record is read, and written only if its row is still the same
/// version; otherwise the update is repeated. It therefore needs no transaction.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Changed`] if the condition does not hold; [`Error::Invalid`] with
/// every invalid field of the body; [`Error::Conflict`] if a unique key is taken.
pub async fn update<R: Record>(
    connection: &mut PgConnection,
    actor: &Actor,
    place: Place,
    body: &Object,
    condition: &Condition,
) -> Result<R> {
    const TRIES: usize = 100;
    for _ in 0..TRIES {
        let Versioned { record: present, version } = versioned::<R>(connection, actor.workspace_id, place).await?;
        condition.check(&present)?;
        let mut record = present.clone();
        record.apply(R::read(body.clone(), Some(&present))?);
        if record == present {
            return Ok(record);
        }
        mark_changed(&present, &mut record, db::now());
        if write(connection, actor, &present, &record, &version).await? {
            hand_over_keys(connection, actor.workspace_id, [(&present, Some(&record))]).await?;
            record.after_write(connection, actor, Some(&present)).await?;
            let changes = [(present, record)];
            R::after_changes(connection, actor, &changes).await?;
            let [(_, record)] = changes;
            return Ok(record);
        }
    }
    Err(Error::Repeat(format!("{} {} is changed too often by concurrent requests", R::TABLE, place.id)))
}

/// A record and the version of its row, which changes with every write.
#[derive(FromRow)]
struct Versioned<T> {
    #[sqlx(flatten)]
    record: T,
    version: String,
}

async fn versioned<R: Record>(connection: &mut PgConnection, workspace_id: Uuid, place: Place) -> Result<Versioned<R>> {
    let query = sqlx::query_as(R::statements().get_versioned.clone()).bind(workspace_id).bind(place.id);
    let query = if R::PARENT.is_some() { query.bind(place.parent) } else { query };
    Ok(query.fetch_one(connection).await?)
}

/// Writes a changed record, its entry in the history and its event in one statement, if its row still has this
/// version. Returns whether it was written.
async fn write<R: Record>(
    connection: &mut PgConnection,
    actor: &Actor,
    before: &R,
    after: &R,
    version: &str,
) -> Result<bool> {
    let Difference { former, latter } = before.difference(after)?;
    let query = sqlx::query(R::statements().update.clone())
        .bind(actor.workspace_id)
        .bind(version)
        .bind(Uuid::now_v7())
        .bind(actor.kind)
        .bind(actor.id)
        .bind(&actor.request_id)
        .bind(Value::Object(former))
        .bind(Value::Object(latter))
        .bind(db::now());
    let query = bind_all(after, actor.workspace_id, query).bind(serde_json::to_string(after)?).bind(trace::stored());
    let written = query.execute(connection).await;
    Ok(written.map_err(|error| refusal(error, actor.workspace_id, [after]))?.rows_affected() == 1)
}

/// Deletes a record and its dependent records; the history remains. Needs a transaction.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Changed`] if the condition does not hold.
pub async fn delete<R: Record>(
    connection: &mut PgConnection,
    actor: &Actor,
    place: Place,
    condition: &Condition,
) -> Result<()> {
    let query = sqlx::query_as(R::statements().lock_one.clone()).bind(actor.workspace_id).bind(place.id);
    let query = if R::PARENT.is_some() { query.bind(place.parent) } else { query };
    let record: R = query.fetch_one(&mut *connection).await?;
    condition.check(&record)?;
    bulk::delete_locked(connection, actor, &[record]).await
}
