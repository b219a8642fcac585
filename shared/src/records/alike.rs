//! Writing the same change to many records.
//!
//! Most changes of many records are alike, such as a new status. A statement that only has the changed columns and
//! the ids costs the database a fraction of one that has all columns of each record.

use std::collections::HashMap;

use serde_json::Value;
use sqlx::{AssertSqlSafe, PgConnection};
use uuid::Uuid;

use super::constraints::refusal;
use super::model::{Difference, Record, as_object};
use crate::error::Result;
use crate::values::Time;

/// From this number of records on, a change is written with a statement of its own.
const MANY: usize = 20;

/// A record before and after its change, and where these differ.
pub(super) type Change<'a, R> = (&'a (R, R), Difference);

/// Separates the changes that many records have in common, each with its records.
pub(super) fn separate<R: Record>(changes: Vec<Change<'_, R>>) -> (Vec<Vec<Change<'_, R>>>, Vec<Change<'_, R>>) {
    if changes.len() < MANY {
        return (Vec::new(), changes);
    }
    let mut groups: HashMap<(String, Time), Vec<Change<'_, R>>> = HashMap::new();
    let mut others = Vec::new();
    for change in changes {
        let ((before, after), difference) = &change;
        if changes_derived(before, after, difference) {
            others.push(change);
        } else {
            let key = (Value::Object(difference.latter.clone()).to_string(), after.updated_at());
            groups.entry(key).or_default().push(change);
        }
    }
    let (alike, few): (Vec<_>, Vec<_>) = groups.into_values().partition(|group| group.len() >= MANY);
    others.extend(few.into_iter().flatten());
    (alike, others)
}

/// Whether a change concerns the columns that are derived from the fields.
fn changes_derived<R: Record>(before: &R, after: &R, difference: &Difference) -> bool {
    let mut keys = R::UNIQUE.iter().filter(|key| key.is_stored_beside());
    keys.any(|key| difference.latter.contains_key(key.field)) || (R::SEARCHABLE && before.texts() != after.texts())
}

/// Writes the change of records that are changed alike.
///
/// # Errors
/// [`Error::Conflict`](crate::Error::Conflict) if a unique key is taken.
pub(super) async fn write<R: Record>(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    alike: &[Change<'_, R>],
) -> Result<()> {
    let Some(((_, first), difference)) = alike.first() else { return Ok(()) };
    let columns: Vec<&str> = R::COLUMNS
        .iter()
        .copied()
        .filter(|column| *column == "updated_at" || difference.latter.contains_key(*column))
        .collect();
    let mut values = as_object(first)?;
    values.retain(|name, _| columns.contains(&name.as_str()));
    let (table, new) = (R::TABLE, columns.iter().map(|column| format!("new.{column}")).collect::<Vec<_>>().join(", "));
    let sql = format!(
        "UPDATE {table} SET ({}) = ({new}) FROM jsonb_populate_record(NULL::{table}, $3) AS new
         WHERE {table}.workspace_id = $1 AND {table}.id = ANY ($2)",
        columns.join(", ")
    );
    let ids: Vec<Uuid> = alike.iter().map(|((_, after), _)| after.id()).collect();
    let update = sqlx::query(AssertSqlSafe(sql)).bind(workspace_id).bind(ids).bind(Value::Object(values));
    let updated = update.execute(connection).await;
    updated.map_err(|error| refusal(error, workspace_id, alike.iter().map(|((_, after), _)| after)))?;
    Ok(())
}
