//! Pages of lists.

use sqlx::postgres::PgRow;
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use super::bounded::{self, Bounded};
use super::{Columns, List, Place};
use crate::error::Result;

/// Consecutive records of a list.
#[derive(Debug)]
pub struct Part<T> {
    /// The records.
    pub records: Vec<T>,
    /// The position of the last record, if more follow.
    pub next: Option<Place>,
}

/// Returns the next `limit` records of a list. If matching records are rare, there may be fewer although the
/// list continues, because a page examines at most some millions of records.
pub async fn fetch<T>(
    connection: &mut PgConnection,
    list: &List,
    workspace_id: Uuid,
    columns: Columns,
    limit: u32,
) -> Result<Part<T>>
where
    T: for<'r> FromRow<'r, PgRow>,
{
    let Bounded { rows, next, .. } =
        bounded::fill(connection, list, workspace_id, columns, (limit, usize::MAX)).await?;
    Ok(Part { records: rows.iter().map(|sized| T::from_row(&sized.row)).collect::<sqlx::Result<_>>()?, next })
}

/// Counts the records of a list, on all its pages.
pub async fn count(connection: &mut PgConnection, list: &List, workspace_id: Uuid) -> Result<i64> {
    Ok(list.counting(workspace_id).build_query_scalar().fetch_one(connection).await?)
}

/// Returns the keys in the `custom_fields` of a list's records, in alphabetical order; if there are more than
/// `limit`, those that most records have. Reads all records.
pub async fn custom_keys(
    connection: &mut PgConnection,
    list: &List,
    workspace_id: Uuid,
    limit: u32,
) -> Result<Vec<String>> {
    let mut keys: Vec<String> =
        list.custom_keys(workspace_id, limit).build_query_scalar().fetch_all(connection).await?;
    keys.sort_unstable();
    Ok(keys)
}
