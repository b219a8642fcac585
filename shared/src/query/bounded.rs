//! Parts of lists, limited by their bytes: records may be large, and slow clients must not fill the
//! memory.

use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::statements::of_workspace;
use super::steps::step;
use super::{Columns, List, Place};
use crate::error::Result;

pub(crate) use super::rows::read;
pub use super::rows::{Bounded, SizedRow};

/// How often [`fill`] continues when it has found too few records, which limits how many it
/// examines.
const MAX_STEPS: usize = 200;

impl Bounded {
    /// Drops the rows after the first `limit`.
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

/// Reads the next rows of a list: at most `limit`, and no more than `max_bytes` unless the first
/// row is larger. It may return few rows or none although the list continues, if matching records
/// are rare.
pub async fn fetch(
    connection: &mut PgConnection,
    list: &List,
    workspace_id: Uuid,
    columns: Columns,
    (limit, max_bytes): (u32, usize),
) -> Result<Bounded> {
    // One row more than requested shows whether the list continues.
    let part = step(connection, list, workspace_id, columns, (limit + 1, max_bytes)).await?;
    part.truncated(list, limit)
}

/// As [`fetch`], but continues until it has `limit` rows, or has examined some millions of records.
pub async fn fill(
    connection: &mut PgConnection,
    list: &List,
    workspace_id: Uuid,
    columns: Columns,
    (limit, max_bytes): (u32, usize),
) -> Result<Bounded> {
    let mut from = list.clone();
    let mut all = Bounded { rows: Vec::new(), bytes: 0, is_cut: false, next: None };
    for _ in 0..MAX_STEPS {
        let wanted = limit + 1 - u32::try_from(all.rows.len()).unwrap_or(limit);
        let left = max_bytes.saturating_sub(all.bytes);
        let part = step(connection, &from, workspace_id, columns, (wanted, left)).await?;
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

/// Reads the ids of the next `limit` records of a list, and the start of the next page, if there is
/// one.
pub async fn keys(
    connection: &mut PgConnection,
    list: &List,
    workspace_id: Uuid,
    limit: u32,
) -> Result<(Vec<Uuid>, Option<Place>)> {
    let Bounded { rows, next, .. } =
        fill(connection, list, workspace_id, Columns::plain("id"), (limit, usize::MAX)).await?;
    let ids = rows.iter().map(|sized| sized.row.try_get("id")).collect::<sqlx::Result<_>>()?;
    Ok((ids, next))
}

/// Reads the records with these ids in the given order, without those that do not exist, and no
/// more than `max_bytes` unless the first one is larger.
pub async fn by_ids(
    connection: &mut PgConnection,
    list: &List,
    workspace_id: Uuid,
    columns: Columns,
    (ids, max_bytes): (&[Uuid], usize),
) -> Result<Bounded> {
    let begin = format!("SELECT {} FROM {} JOIN unnest(", columns.selected, list.spec.table);
    let mut sql = of_workspace(workspace_id, begin);
    sql.push_bind(ids.to_vec()).push("::uuid[]) WITH ORDINALITY AS wanted (wanted_id, ordinal) ON id = wanted_id");
    sql.push(" WHERE workspace_id = $1");
    list.push_fixed(&mut sql);
    sql.push(" ORDER BY ordinal");
    Ok(read(connection, sql, max_bytes).await?.0)
}
