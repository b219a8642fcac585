//! Rows of a statement, as many as fit into some bytes: records can be small or large.

use futures_util::TryStreamExt;
use sqlx::postgres::PgRow;
use sqlx::{Column, PgConnection, Postgres, QueryBuilder, Row, TypeInfo};

use super::Place;
use crate::error::Result;

/// What a row takes beside the values whose size differs.
const FIXED: usize = 512;

/// A row, and about how many bytes it takes.
#[derive(Debug)]
pub struct SizedRow {
    /// The row.
    pub row: PgRow,
    /// Its bytes.
    pub bytes: usize,
}

/// Some rows of a list, at least one if there is any.
#[derive(Debug)]
pub struct Bounded {
    /// The rows.
    pub rows: Vec<SizedRow>,
    /// Their bytes.
    pub bytes: usize,
    /// Whether fewer rows than asked for are here, since the others are too many bytes.
    pub is_cut: bool,
    /// Where the list goes on, if it does.
    pub next: Option<Place>,
}

/// Reads the rows of a statement, at least one if there is any, and keeps those within the bytes; returns
/// how many there were, too. The others are read and dropped, since a connection with rows on their way serves nobody else.
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

/// The columns whose values are not all of one size.
fn sized_columns(row: &PgRow) -> Vec<usize> {
    let is_sized = |name: &str| matches!(name, "TEXT" | "VARCHAR" | "JSON" | "JSONB") || name.ends_with("[]");
    let columns = row.columns().iter().filter(|column| is_sized(column.type_info().name()));
    columns.map(Column::ordinal).collect()
}

fn bytes_of(row: &PgRow, sized: &[usize]) -> usize {
    let value = |&column: &usize| row.try_get_raw(column).ok()?.as_bytes().ok().map(<[u8]>::len);
    sized.iter().filter_map(value).sum()
}
