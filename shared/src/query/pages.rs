//! Pages of lists, read one after the other.

use sqlx::postgres::PgRow;
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use super::bounded::{self, Bounded};
use super::{List, Place};
use crate::error::Result;

/// Some records of a list, one after the other.
#[derive(Debug)]
pub struct Part<T> {
    /// The records.
    pub records: Vec<T>,
    /// Where the list goes on, if it does.
    pub next: Option<Place>,
}

/// The next `limit` records of a list. Where they stand far apart among others there may be fewer, though the
/// list goes on: a page looks through some millions of records and no more.
pub async fn fetch<T>(
    connection: &mut PgConnection,
    list: &List,
    workspace_id: Uuid,
    columns: &'static str,
    limit: u32,
) -> Result<Part<T>>
where
    T: for<'r> FromRow<'r, PgRow>,
{
    let Bounded { rows, next, .. } =
        bounded::fill(connection, list, workspace_id, columns, (limit, usize::MAX)).await?;
    Ok(Part { records: rows.iter().map(|sized| T::from_row(&sized.row)).collect::<sqlx::Result<_>>()?, next })
}

/// How many records a list has, on all its pages.
pub async fn count(connection: &mut PgConnection, list: &List, workspace_id: Uuid) -> Result<i64> {
    Ok(list.counting(workspace_id).build_query_scalar().fetch_one(connection).await?)
}
