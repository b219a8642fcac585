//! Lines: the rows of a file that share an order number become orders of their own, `1001/1`, `1001/2`.
//!
//! How often each number occurred is stored with the chunk that had it, so lines may be anywhere in the file. A
//! number that occurs once stays as it is. The same file always yields the same ids.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, PgConnection};
use uuid::Uuid;

use super::parents::{self, ParentNames};
use super::rows::Row;
use super::{Import, Importable};
use crate::error::Result;
use crate::platform::db;
use crate::records::{self, as_object};

/// A number of an earlier chunk: how many lines have it, and what its first line says.
#[derive(Debug, Default)]
struct Number {
    lines: usize,
    first: First,
}

/// What the first line of a number says about all of its lines. Shops leave these cells of the others empty.
#[derive(Debug, Default, Serialize, Deserialize)]
struct First {
    parent: ParentNames,
    fields: HashMap<String, String>,
}

impl First {
    fn of<R: Importable>(row: &Row<R::Changes>) -> Result<Self> {
        let mut changes = row.changes.clone();
        // Any id will do, since nothing is written.
        if let Some(parents) = parents::of::<R>() {
            let _ = R::set(&mut changes, parents.id, &Uuid::nil().to_string());
        }
        let mut fields = HashMap::new();
        if let Some(record) = R::new(Uuid::nil(), db::now(), changes) {
            let texts = as_object(&record)?;
            for field in R::OF_ALL_LINES.iter().filter(|field| R::sets(&row.changes, field)) {
                if let Some(Value::String(text)) = texts.get(*field) {
                    fields.insert((*field).to_owned(), text.clone());
                }
            }
        }
        Ok(Self { parent: row.parent.clone(), fields })
    }

    /// Fills in what a later line does not say.
    fn apply<R: Importable>(&self, row: &mut Row<R::Changes>) {
        if row.parent.is_empty() {
            row.parent = self.parent.clone();
        }
        for (field, text) in &self.fields {
            if !R::sets(&row.changes, field) {
                // It was a value of the field in the first line.
                let _ = R::set(&mut row.changes, field, text);
            }
        }
    }
}

/// Numbers the lines of a chunk, and completes them by the first line of their number.
pub(super) async fn number<R: Importable>(
    connection: &mut PgConnection,
    import: &Import,
    rows: &mut [Row<R::Changes>],
) -> Result<()> {
    if !import.plan.has_lines || R::OF_ALL_LINES.is_empty() {
        return Ok(());
    }
    let mut places: HashMap<String, Vec<usize>> = HashMap::new();
    for (at, row) in rows.iter().enumerate() {
        if let Some(number) = R::row_external_id(&row.changes) {
            places.entry(number.to_owned()).or_default().push(at);
        }
    }
    if places.is_empty() {
        return Ok(());
    }
    let mut numbers = read(connection, import, places.keys()).await?;
    let taken = taken::<R>(connection, import, places.keys()).await?;
    let mut divided = Vec::new();
    for (number, places) in &places {
        let earlier = numbers.entry(number.clone()).or_default();
        if earlier.lines == 0 {
            earlier.first = First::of::<R>(&rows[places[0]])?;
        }
        let total = earlier.lines + places.len();
        for (line, at) in (earlier.lines + 1..).zip(places) {
            if line > 1 {
                earlier.first.apply::<R>(&mut rows[*at]);
            }
            let id = match line {
                1 => first_id(number, total > 1, &taken),
                _ => of_line(number, line),
            };
            // A number that is too long for its line's is kept: the row is then a conflict.
            let _ = R::set(&mut rows[*at].changes, "external_id", &id);
            rows[*at].rekey::<R>(&import.plan);
        }
        if earlier.lines == 1 {
            divided.push(number.clone());
        }
        earlier.lines = total;
    }
    divide::<R>(connection, import, divided).await?;
    keep(connection, import, &numbers).await
}

fn of_line(number: &str, line: usize) -> String {
    format!("{number}/{line}")
}

/// The external id of a number's first line. An order that exists keeps the id that it has.
fn first_id(number: &str, has_others: bool, taken: &HashSet<String>) -> String {
    let divided = of_line(number, 1);
    let is_divided = match (taken.contains(number), taken.contains(&divided)) {
        (true, false) => false,
        (false, true) => true,
        _ => has_others,
    };
    if is_divided { divided } else { number.to_owned() }
}

/// The external ids of first lines that records have.
async fn taken<R: Importable>(
    connection: &mut PgConnection,
    import: &Import,
    numbers: impl Iterator<Item = &String>,
) -> Result<HashSet<String>> {
    let wanted: Vec<String> = numbers.flat_map(|number| [number.clone(), of_line(number, 1)]).collect();
    let owners = records::owners(connection, import.workspace_id, R::EXTERNAL_ID, &wanted).await?;
    Ok(owners.into_iter().map(|(external_id, _)| external_id).collect())
}

/// The numbers that earlier chunks had.
async fn read(
    connection: &mut PgConnection,
    import: &Import,
    numbers: impl Iterator<Item = &String>,
) -> Result<HashMap<String, Number>> {
    let found: Vec<(String, i64, Json<First>)> = sqlx::query_as(
        "SELECT number, lines, first FROM import_lines WHERE workspace_id = $1 AND import_id = $2 AND number = ANY ($3)",
    )
    .bind(import.workspace_id)
    .bind(import.id)
    .bind(numbers.collect::<Vec<_>>())
    .fetch_all(connection)
    .await?;
    let number = |lines: i64, first| Number { lines: usize::try_from(lines).unwrap_or_default(), first };
    Ok(found.into_iter().map(|(text, lines, Json(first))| (text, number(lines, first))).collect())
}

/// Renames the records of numbers that had one line until now, if this import created them.
async fn divide<R: Importable>(connection: &mut PgConnection, import: &Import, numbers: Vec<String>) -> Result<()> {
    if numbers.is_empty() || import.plan.dry_run {
        return Ok(());
    }
    let table = R::TABLE;
    let sql = format!(
        "UPDATE {table} SET external_id = external_id || '/1'
         WHERE workspace_id = $1 AND external_id = ANY ($3) AND import_job_id = $2 AND NOT EXISTS (
             SELECT FROM {table} AS other WHERE other.workspace_id = $1 AND other.external_id = {table}.external_id || '/1'
         )"
    );
    sqlx::query(AssertSqlSafe(sql)).bind(import.workspace_id).bind(import.id).bind(numbers).execute(connection).await?;
    Ok(())
}

/// Stores the numbers for the next chunks.
async fn keep(connection: &mut PgConnection, import: &Import, numbers: &HashMap<String, Number>) -> Result<()> {
    let (mut texts, mut lines, mut firsts) = (Vec::new(), Vec::new(), Vec::new());
    for (text, number) in numbers {
        texts.push(text.as_str());
        lines.push(i64::try_from(number.lines).unwrap_or(i64::MAX));
        firsts.push(Json(&number.first));
    }
    sqlx::query(
        "INSERT INTO import_lines (workspace_id, import_id, number, lines, first)
         SELECT $1, $2, number, lines, first
         FROM unnest($3::text[], $4::bigint[], $5::jsonb[]) AS new (number, lines, first)
         ON CONFLICT (workspace_id, import_id, number) DO UPDATE SET lines = excluded.lines",
    )
    .bind(import.workspace_id)
    .bind(import.id)
    .bind(texts)
    .bind(lines)
    .bind(firsts)
    .execute(connection)
    .await?;
    Ok(())
}

/// Deletes the numbers at the end of the import.
pub(super) async fn forget(connection: &mut PgConnection, import: &Import) -> Result<()> {
    if import.plan.has_lines {
        sqlx::query("DELETE FROM import_lines WHERE workspace_id = $1 AND import_id = $2")
            .bind(import.workspace_id)
            .bind(import.id)
            .execute(connection)
            .await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_line_keeps_the_id_of_its_order() {
        for (taken, has_others, expected) in [
            (&[][..], false, "7"),
            (&[], true, "7/1"),
            (&["7"], true, "7"),
            (&["7/1"], false, "7/1"),
            (&["7", "7/1"], true, "7/1"),
            (&["7", "7/1"], false, "7"),
        ] {
            let taken = taken.iter().map(|id| (*id).to_owned()).collect();
            assert_eq!(first_id("7", has_others, &taken), expected, "{taken:?}");
        }
    }
}
