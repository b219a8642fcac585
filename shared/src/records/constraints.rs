//! What the declared keys and references are for: finding records by a key, and saying why the database
//! refused to write one.

use sqlx::PgConnection;
use uuid::Uuid;

use super::keys::UniqueKey;
use super::model::Record;
use crate::error::{Error, Result};

/// Why the database did not write a record, in the terms of its fields.
pub(crate) fn refusal<R: Record>(error: sqlx::Error) -> Error {
    if let Some(key) = R::UNIQUE.iter().find(|key| Error::breaks(&error, key.constraint)) {
        return key.conflict(None);
    }
    match R::REFERENCES.iter().find(|reference| Error::breaks(&error, reference.constraint)) {
        Some(reference) => Error::missing(reference.column),
        None => error.into(),
    }
}

/// Which of the values are taken, and by which records.
pub(crate) async fn owners<R: Record>(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    key: &UniqueKey<R>,
    values: &[String],
) -> Result<Vec<(String, Uuid)>> {
    let statement = R::statements().by_key(key.field)?.owners.clone();
    Ok(sqlx::query_as(statement).bind(workspace_id).bind(values).fetch_all(connection).await?)
}

/// The keys of those of these records that exist.
pub(crate) async fn keys_of<R: Record>(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    key: &UniqueKey<R>,
    ids: &[Uuid],
) -> Result<Vec<(Uuid, Option<String>)>> {
    let statement = R::statements().by_key(key.field)?.of_ids.clone();
    Ok(sqlx::query_as(statement).bind(workspace_id).bind(ids).fetch_all(connection).await?)
}

/// The records that have these values, locked until the transaction ends, in the order of their ids.
pub(crate) async fn lock_by<R: Record>(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    key: &UniqueKey<R>,
    values: &[String],
) -> Result<Vec<R>> {
    let statement = R::statements().by_key(key.field)?.lock.clone();
    Ok(sqlx::query_as(statement).bind(workspace_id).bind(values).fetch_all(connection).await?)
}
