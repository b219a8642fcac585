//! The next rows of a list: which statement finds them, and where the list goes on after them.

use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::rows::{self, Bounded};
use super::statements::STRIDE;
use super::{Access, List, OrderKind, Place};
use crate::error::Result;

/// How many rows are wanted, and of how many bytes at most after the first one.
type Wanted = (u32, usize);

/// The next rows, and where to look on, though there may be nothing.
pub(super) async fn step(
    connection: &mut PgConnection,
    list: &List,
    workspace_id: Uuid,
    columns: &'static str,
    wanted: Wanted,
) -> Result<Bounded> {
    if !list.has_checks() {
        let statement = list.page(workspace_id, columns, wanted.0);
        let (part, total) = rows::read(connection, statement, wanted.1).await?;
        return list.part(part, total == wanted.0 as usize, Access::Undecided);
    }
    let access = list.access();
    if access == Access::Lookup || (access == Access::Undecided && list.has_indexed()) {
        return match look_up(connection, list, workspace_id, columns, wanted).await? {
            Some(part) => Ok(part),
            None => stride(connection, list, workspace_id, columns, wanted).await,
        };
    }
    let (part, total) = rows::read(&mut *connection, list.glance(workspace_id, columns, wanted.0), wanted.1).await?;
    if total == wanted.0 as usize {
        return list.part(part, true, access);
    }
    if access == Access::Undecided
        && list.words.is_some()
        && let Some(part) = look_up(connection, list, workspace_id, columns, wanted).await?
    {
        return Ok(part);
    }
    stride(connection, list, workspace_id, columns, wanted).await
}

/// The next rows, unless too many match.
async fn look_up(
    connection: &mut PgConnection,
    list: &List,
    workspace_id: Uuid,
    columns: &'static str,
    wanted: Wanted,
) -> Result<Option<Bounded>> {
    let statement = list.lookup(workspace_id, columns, wanted.0);
    let (part, total) = rows::read(connection, statement, wanted.1).await?;
    match part.rows.first().map(|first| first.row.try_get("many")).transpose()? {
        Some(true) => Ok(None),
        Some(false) | None => list.part(part, total == wanted.0 as usize, Access::Lookup).map(Some),
    }
}

/// Those of a stride that match.
async fn stride(
    connection: &mut PgConnection,
    list: &List,
    workspace_id: Uuid,
    columns: &'static str,
    wanted: Wanted,
) -> Result<Bounded> {
    let statement = list.stride(workspace_id, columns, wanted.0);
    let (part, total) = rows::read(connection, statement, wanted.1).await?;
    let is_full = total == wanted.0 as usize;
    let Some(last) = part.rows.last() else { return Ok(part) };
    let is_end_of_stride = last.row.try_get::<i64, _>("number")? == STRIDE;
    let matches: bool = last.row.try_get("matches")?;
    let mut part = list.part(part, is_full || is_end_of_stride, Access::Walk)?;
    if !matches {
        part.rows.pop();
    }
    Ok(part)
}

impl List {
    /// What a statement returned, after whose last row the list may go on.
    fn part(&self, mut part: Bounded, goes_on: bool, access: Access) -> Result<Bounded> {
        let last = part.rows.last().filter(|_| goes_on || part.is_cut);
        part.next = last.map(|last| self.place(&last.row, access)).transpose()?;
        Ok(part)
    }

    /// The place of a record, from its row.
    pub(super) fn place(&self, row: &PgRow, access: Access) -> Result<Place> {
        let key = match self.order.kind {
            OrderKind::Time => row.try_get::<DateTime<Utc>, _>("place")?.format("%Y-%m-%d %H:%M:%S%.6f+00").to_string(),
            OrderKind::Text => row.try_get("place")?,
            OrderKind::Id => row.try_get::<Uuid, _>("place")?.to_string(),
        };
        Ok(Place { key, id: row.try_get("id")?, access })
    }
}
