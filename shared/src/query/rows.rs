//! Rows of a statement, limited by their bytes.

use futures_util::TryStreamExt;
use sqlx::postgres::PgRow;
use sqlx::{Column, PgConnection, Postgres, QueryBuilder, Row, TypeInfo};

use super::Place;
use crate::error::Result;

/// The size of a row without its values of variable size.
const FIXED: usize = 512;

/// A row and its approximate size.
#[derive(Debug)]
pub struct SizedRow {
    /// The row.
    pub row: PgRow,
    /// Its size in bytes.
    pub bytes: usize,
}

/// Some rows of a list, at least one if there is any.
#[derive(Debug)]
pub struct Bounded {
    /// The rows.
    pub rows: Vec<SizedRow>,
    /// Their size in bytes.
    pub bytes: usize,
    /// Whether rows were dropped because of their size.
    pub is_cut: bool,
    /// The position of the last row, if the list continues.
    pub next: Option<Place>,
}

/// Reads the rows of a statement and keeps at least one, and no more than `max_bytes`. Also returns the
/// number of all rows. The others are read and dropped, because a connection with unread rows cannot be used.
pub async fn read(
    connection: &mut PgConnection,
    mut statement: QueryBuilder<Postgres>,
    max_bytes: usize,
) -> Result<(Bounded, usize)> {
    let mut read = Bounded { rows: Vec::new(), bytes: 0, is_cut: false, next: None };
    let (mut total, mut sized) = (0, None);
    let mut rows = statement.build().fetch(connection);
    while let Some(row) = rows.try_next().await? {
        total += 1;
        let bytes = FIXED + bytes_of(&row, sized.get_or_insert_with(|| sized_columns(&row)));
        read.is_cut |= !read.rows.is_empty() && read.bytes + bytes > max_bytes;
        if !read.is_cut {
            read.bytes += bytes;
            read.rows.push(SizedRow { row, bytes });
        }
    }
    Ok((read, total))
}

/// The columns whose values have variable sizes.
fn sized_columns(row: &PgRow) -> Vec<usize> {
    let is_sized = |name: &str| matches!(name, "TEXT" | "VARCHAR" | "JSON" | "JSONB") || name.ends_with("[]");
    let columns = row.columns().iter().filter(|column| is_sized(column.type_info().name()));
    columns.map(Column::ordinal).collect()
}

fn bytes_of(row: &PgRow, sized: &[usize]) -> usize {
    let value = |&column: &usize| row.try_get_raw(column).ok()?.as_bytes().ok().map(<[u8]>::len);
    sized.iter().filter_map(value).sum()
}
