//! The next rows of a list: which statement finds them, and where the list continues after them.

use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::rows::{self, Bounded};
use super::statements::STRIDE;
use super::{Access, Columns, Key, List, OrderKind, Place};
use crate::error::Result;

/// The number of rows wanted, and their maximum size in bytes after the first one.
type Wanted = (u32, usize);

/// Reads the next rows, which may be none although the list continues.
pub(super) async fn step(
    connection: &mut PgConnection,
    list: &List,
    workspace_id: Uuid,
    columns: Columns,
    wanted: Wanted,
) -> Result<Bounded> {
    if let Some(field) = list.scan {
        let statement = list.sorted_page(field, workspace_id, columns, wanted.0);
        let (part, total) = rows::read(connection, statement, wanted.1).await?;
        return list.part(part, total == wanted.0 as usize, Access::Undecided);
    }
    if !list.has_checks() {
        let statement = list.page(workspace_id, columns, wanted.0);
        let (part, total) = rows::read(connection, statement, wanted.1).await?;
        return list.part(part, total == wanted.0 as usize, Access::Undecided);
    }
    let access = list.access();
    if access == Access::Lookup || (access == Access::Undecided && list.has_indexed()) {
        return match look_up(connection, list, workspace_id, columns, (wanted, Access::Lookup)).await? {
            Some(part) => Ok(part),
            None => stride(connection, list, workspace_id, columns, wanted).await,
        };
    }
    let (part, total) = rows::read(&mut *connection, list.glance(workspace_id, columns, wanted.0), wanted.1).await?;
    if total == wanted.0 as usize {
        return list.part(part, true, access);
    }
    if access == Access::Undecided
        && let Some(next) = list.lookup_after_glance()
        && let Some(part) = look_up(connection, list, workspace_id, columns, (wanted, next)).await?
    {
        return Ok(part);
    }
    stride(connection, list, workspace_id, columns, wanted).await
}

/// Reads the next rows, unless too many match, and continues with this access.
async fn look_up(
    connection: &mut PgConnection,
    list: &List,
    workspace_id: Uuid,
    columns: Columns,
    (wanted, next): (Wanted, Access),
) -> Result<Option<Bounded>> {
    let statement = list.lookup(workspace_id, columns, wanted.0);
    let (part, total) = rows::read(connection, statement, wanted.1).await?;
    match part.rows.first().map(|first| first.row.try_get("many")).transpose()? {
        Some(true) => Ok(None),
        Some(false) | None => list.part(part, total == wanted.0 as usize, next).map(Some),
    }
}

/// Reads the matching rows of a stride.
async fn stride(
    connection: &mut PgConnection,
    list: &List,
    workspace_id: Uuid,
    columns: Columns,
    wanted: Wanted,
) -> Result<Bounded> {
    let statement = list.stride(workspace_id, columns, wanted.0);
    let (part, total) = rows::read(connection, statement, wanted.1).await?;
    let is_full = total == wanted.0 as usize;
    let Some(last) = part.rows.last() else { return Ok(part) };
    let is_end_of_stride = last.row.try_get::<i64, _>("nth")? == STRIDE;
    let matches: bool = last.row.try_get("matches")?;
    let mut part = list.part(part, is_full || is_end_of_stride, Access::Walk)?;
    if !matches {
        part.rows.pop();
    }
    Ok(part)
}

impl List {
    /// Whether all matches are looked up after a glance found too few, and how the list then continues.
    /// Without an index, a lookup reads the whole table. That is faster than strides for the first page, but
    /// all pages together would read the table as often as there are pages.
    fn lookup_after_glance(&self) -> Option<Access> {
        if self.words.is_some() {
            return Some(Access::Lookup);
        }
        (self.limit.is_some() && self.after.is_none()).then_some(Access::Walk)
    }

    /// The rows of a statement, and the position after which the list may continue.
    fn part(&self, mut part: Bounded, continues: bool, access: Access) -> Result<Bounded> {
        let last = part.rows.last().filter(|_| continues || part.is_cut);
        part.next = last.map(|last| self.place(&last.row, access)).transpose()?;
        Ok(part)
    }

    /// The position of a record, from its row.
    pub(super) fn place(&self, row: &PgRow, access: Access) -> Result<Place> {
        let key: Option<String> = match self.order_kind() {
            OrderKind::Time => row
                .try_get::<Option<DateTime<Utc>>, _>("place")?
                .map(|time| time.format("%Y-%m-%d %H:%M:%S%.6f+00").to_string()),
            OrderKind::Text | OrderKind::Number => row.try_get("place")?,
            OrderKind::Id => row.try_get::<Option<Uuid>, _>("place")?.map(|id| id.to_string()),
        };
        Ok(Place { key: key.map_or(Key::Empty, Key::Whole), id: row.try_get("id")?, access })
    }
}
