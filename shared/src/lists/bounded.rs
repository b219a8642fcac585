//! Parts of lists that are bounded by their bytes: records can be small or large, and a reader may take
//! none of them.

use futures_util::TryStreamExt;
use sqlx::postgres::PgRow;
use sqlx::{Column, PgConnection, QueryBuilder, Row, TypeInfo};
use uuid::Uuid;

use super::{List, Place};
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
    /// The place of the last row, if the list goes on after it.
    pub next: Option<Place>,
}

/// The next rows of a list: at most `limit`, and no more than `max_bytes` after the first one.
pub async fn fetch(
    connection: &mut PgConnection,
    list: &List,
    workspace_id: Uuid,
    columns: &str,
    (limit, max_bytes): (u32, usize),
) -> Result<Bounded> {
    // One more than asked for tells whether the list goes on.
    let statement = list.page(workspace_id, columns, limit + 1);
    let (mut read, total) = read(connection, statement, max_bytes).await?;
    let goes_on = total > limit as usize || read.is_cut;
    read.rows.truncate(limit as usize);
    read.is_cut = read.rows.len() < total.min(limit as usize);
    read.next = read.rows.last().filter(|_| goes_on).map(|last| list.place(&last.row)).transpose()?;
    Ok(read)
}

/// The ids of the next `limit` records of a list, and the place of the last if the list goes on after it.
pub async fn keys(
    connection: &mut PgConnection,
    list: &List,
    workspace_id: Uuid,
    limit: u32,
) -> Result<(Vec<Uuid>, Option<Place>)> {
    let mut rows = list.page(workspace_id, "id", limit + 1).build().fetch_all(connection).await?;
    let goes_on = rows.len() > limit as usize;
    rows.truncate(limit as usize);
    let next = rows.last().filter(|_| goes_on).map(|row| list.place(row)).transpose()?;
    let ids = rows.iter().map(|row| row.try_get("id")).collect::<sqlx::Result<_>>()?;
    Ok((ids, next))
}

/// The records with these ids, in their order and without those that do not exist, no more than
/// `max_bytes` after the first one.
pub async fn by_ids(
    connection: &mut PgConnection,
    list: &List,
    workspace_id: Uuid,
    columns: &str,
    (ids, max_bytes): (&[Uuid], usize),
) -> Result<Bounded> {
    let mut sql = QueryBuilder::new(format!("SELECT {columns} FROM {} JOIN unnest(", list.spec.table));
    sql.push_bind(ids.to_vec()).push("::uuid[]) WITH ORDINALITY AS wanted (wanted_id, ordinal) ON id = wanted_id");
    sql.push(" WHERE workspace_id = ").push_bind(workspace_id).push(" ORDER BY ordinal");
    Ok(read(connection, sql, max_bytes).await?.0)
}

/// Reads the rows of a statement and keeps those within the bytes; returns how many there were, too. The
/// others are read and dropped, since a connection with rows on their way serves nobody else.
async fn read(
    connection: &mut PgConnection,
    mut statement: QueryBuilder<sqlx::Postgres>,
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
