//! Parts of lists that are bounded by their bytes: records can be small or large, and a reader may take
//! none of them.

use futures_util::TryStreamExt;
use sqlx::postgres::PgRow;
use sqlx::{Column, PgConnection, QueryBuilder, Row, TypeInfo};
use uuid::Uuid;

use super::{List, Place, pages};
use crate::error::Result;

/// What a row takes beside the values whose size differs.
const FIXED: usize = 512;

/// How often a page looks on when it has found too few records, and with that in how many of them.
const MAX_STEPS: usize = 200;

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

impl Bounded {
    /// The first `limit` rows, of which there may be one more.
    fn truncated(mut self, list: &List, limit: u32) -> Result<Self> {
        let limit = limit as usize;
        if self.rows.len() >= limit {
            self.is_cut = false;
        }
        if self.rows.len() > limit {
            self.rows.truncate(limit);
            let access = self.next.map_or_else(|| list.access(), |next| next.access);
            self.next = self.rows.last().map(|last| list.place(&last.row, access)).transpose()?;
        }
        Ok(self)
    }
}

/// The next rows of a list: at most `limit`, and no more than `max_bytes` after the first one. There may be few or
/// none, though the list goes on, where those that match stand far apart.
pub async fn fetch(
    connection: &mut PgConnection,
    list: &List,
    workspace_id: Uuid,
    columns: &str,
    (limit, max_bytes): (u32, usize),
) -> Result<Bounded> {
    // One more than asked for tells whether the list goes on.
    let part = pages::step(connection, list, workspace_id, columns, (limit + 1, max_bytes)).await?;
    part.truncated(list, limit)
}

/// As [`fetch`], but it looks on until there are `limit` rows, or has looked through some millions of records.
pub async fn fill(
    connection: &mut PgConnection,
    list: &List,
    workspace_id: Uuid,
    columns: &str,
    (limit, max_bytes): (u32, usize),
) -> Result<Bounded> {
    let mut from = list.clone();
    let mut all = Bounded { rows: Vec::new(), bytes: 0, is_cut: false, next: None };
    for _ in 0..MAX_STEPS {
        let wanted = limit + 1 - u32::try_from(all.rows.len()).unwrap_or(limit);
        let left = max_bytes.saturating_sub(all.bytes);
        let part = pages::step(connection, &from, workspace_id, columns, (wanted, left)).await?;
        all.rows.extend(part.rows);
        all.bytes += part.bytes;
        all.is_cut = part.is_cut;
        all.next = part.next;
        match &all.next {
            Some(place) if !all.is_cut && all.rows.len() <= limit as usize => from.after(place.clone()),
            _ => break,
        }
    }
    all.truncated(list, limit)
}

/// The ids of the next `limit` records of a list, and the place where it goes on, if it does.
pub async fn keys(
    connection: &mut PgConnection,
    list: &List,
    workspace_id: Uuid,
    limit: u32,
) -> Result<(Vec<Uuid>, Option<Place>)> {
    let Bounded { rows, next, .. } = fill(connection, list, workspace_id, "id", (limit, usize::MAX)).await?;
    let ids = rows.iter().map(|sized| sized.row.try_get("id")).collect::<sqlx::Result<_>>()?;
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

/// Reads the rows of a statement, at least one if there is any, and keeps those within the bytes; returns
/// how many there were, too. The others are read and dropped, since a connection with rows on their way serves nobody else.
pub(crate) async fn read(
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
