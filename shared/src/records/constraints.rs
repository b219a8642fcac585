//! Constraints: finding records by their declared keys, and reporting which key or reference a write
//! violated.

use sqlx::PgConnection;
use uuid::Uuid;

use super::keys::UniqueKey;
use super::model::Record;
use crate::error::{Error, OwnerSearch, Result};

/// Maps a constraint violation of these records to the error of the field that caused it.
pub(crate) fn refusal<'r, R: Record>(
    error: sqlx::Error,
    workspace_id: Uuid,
    records: impl IntoIterator<Item = &'r R>,
) -> Error {
    if let Some(key) = R::UNIQUE.iter().find(|key| Error::breaks(&error, key.constraint)) {
        return match R::statements().by_key(key.field) {
            Ok(statements) => {
                let keyed = records.into_iter().filter_map(|record| Some((record.id(), (key.of)(record)?)));
                let (written, values) = keyed.unzip();
                let statement = statements.owners.clone();
                key.conflict_with_owner(OwnerSearch { statement, workspace_id, values, written })
            }
            Err(error) => error,
        };
    }
    match R::REFERENCES.iter().find(|reference| Error::breaks(&error, reference.constraint)) {
        Some(reference) => Error::missing(reference.column),
        None => error.into(),
    }
}

/// Hands the [email keys](crate::platform::email_keys) that changed or deleted records gave up to their
/// first duplicates.
pub(crate) async fn hand_over_keys<'r, R: Record>(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    changes: impl IntoIterator<Item = (&'r R, Option<&'r R>)>,
) -> Result<()> {
    let key = R::UNIQUE.iter().find(|key| key.is_stored_beside());
    let Some((key, hand_over)) = key.zip(R::statements().hand_over.clone()) else { return Ok(()) };
    let given_up = changes.into_iter().filter_map(|(before, after)| {
        let value = (key.of)(before);
        if after.and_then(key.of) == value { None } else { value }
    });
    let given_up: Vec<String> = given_up.collect();
    if given_up.is_empty() {
        return Ok(());
    }
    let handed_over = sqlx::query(hand_over).bind(workspace_id).bind(given_up).execute(connection).await;
    match handed_over.map_err(|error| refusal::<R>(error, workspace_id, [])) {
        Err(Error::Conflict(conflict)) => Err(conflict.repeat()),
        other => other.map(|_| ()),
    }
}

/// Returns the values that are taken, with the ids of their records.
pub(crate) async fn owners<R: Record>(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    key: &UniqueKey<R>,
    values: &[String],
) -> Result<Vec<(String, Uuid)>> {
    let statement = R::statements().by_key(key.field)?.owners.clone();
    Ok(sqlx::query_as(statement).bind(workspace_id).bind(values).fetch_all(connection).await?)
}

/// Returns the keys of the records that exist.
pub(crate) async fn keys_of<R: Record>(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    key: &UniqueKey<R>,
    ids: &[Uuid],
) -> Result<Vec<(Uuid, Option<String>)>> {
    let statement = R::statements().by_key(key.field)?.of_ids.clone();
    Ok(sqlx::query_as(statement).bind(workspace_id).bind(ids).fetch_all(connection).await?)
}

/// Returns the records with these values in order of id, and locks them until the transaction ends.
pub(crate) async fn lock_by<R: Record>(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    key: &UniqueKey<R>,
    values: &[String],
) -> Result<Vec<R>> {
    let statement = R::statements().by_key(key.field)?.lock.clone();
    Ok(sqlx::query_as(statement).bind(workspace_id).bind(values).fetch_all(connection).await?)
}
