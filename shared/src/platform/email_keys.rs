//! The stored normal forms of emails.
//!
//! A table with emails has the column `email_key`, the email's [normal
//! form](crate::values::email_key), and `email_duplicate`, which is 0. The two are unique in a
//! workspace.
//!
//! Emails that 0.1.0 distinguished can have the same normal form. Their rows all stay: the oldest
//! owns the key, and each of the others has a number of its own in `email_duplicate`. When the owner
//! gives the key up, the oldest duplicate becomes its owner.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, FromRow, PgConnection};
use uuid::Uuid;

use crate::error::Result;

/// The column of the normal form.
pub const COLUMN: &str = "email_key";
/// The condition that a row owns its key.
pub const IS_OWNER: &str = "email_duplicate = 0";
/// The normal form in an entry of the history, which has the whole row of a deleted record.
pub const OF_DELETED: &str = "(former ->> 'email_key')";

/// The assignment that an update adds: a row keeps its number as long as it keeps its key.
pub fn keep_number(table: &str, new_key: &str) -> String {
    format!("email_duplicate = CASE WHEN {table}.email_key = {new_key} THEN {table}.email_duplicate ELSE 0 END")
}

/// The statement that hands each key of `$2` without an owner to its oldest duplicate, if it has one.
pub fn hand_over(table: &str) -> String {
    format!(
        "UPDATE {table} SET email_duplicate = 0
         WHERE workspace_id = $1 AND id = ANY (ARRAY(
             SELECT DISTINCT ON (email_key) id FROM {table} AS heir
             WHERE workspace_id = $1 AND email_key = ANY ($2) AND NOT EXISTS (
                 SELECT FROM {table} AS owner
                 WHERE owner.workspace_id = $1 AND owner.email_key = heir.email_key AND owner.email_duplicate = 0
             )
             ORDER BY email_key, created_at, id
         ))"
    )
}

/// A row whose key is to be stored.
#[derive(Debug, Clone)]
pub struct Keyed {
    id: Uuid,
    created_at: DateTime<Utc>,
    key: String,
}

impl Keyed {
    /// A row with the normal form of its email.
    pub fn new(id: Uuid, created_at: DateTime<Utc>, key: String) -> Self {
        Self { id, created_at, key }
    }

    /// The oldest row comes first.
    fn age(&self) -> (DateTime<Utc>, Uuid) {
        (self.created_at, self.id)
    }
}

/// A row that has a key already.
#[derive(Debug, FromRow)]
struct Stored {
    id: Uuid,
    created_at: DateTime<Utc>,
    email_key: String,
    email_duplicate: i32,
}

/// Returns the `email_duplicate` of each row, which the caller stores with its key. If a row is older
/// than the present owner of its key, the owner becomes a duplicate. Rows that have their key already
/// keep their number.
pub async fn assign(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    table: &str,
    rows: &[Keyed],
) -> Result<Vec<i32>> {
    let mut keys = Keys::read(connection, workspace_id, table, rows).await?;
    let mut numbers = HashMap::new();
    let mut by_age: Vec<&Keyed> = rows.iter().collect();
    by_age.sort_unstable_by_key(|row| row.age());
    for row in by_age {
        numbers.insert(row.id, keys.number(row));
    }
    keys.write_former_owners(connection, workspace_id, table).await?;
    Ok(rows.iter().map(|row| numbers.get(&row.id).copied().unwrap_or_default()).collect())
}

/// The owners and duplicates of some keys.
#[derive(Default)]
struct Keys {
    /// The stored rows, by key.
    stored: BTreeMap<String, Vec<Stored>>,
    /// The last number of each key.
    last: HashMap<String, i32>,
    /// The rows that no longer own their key, with their numbers.
    former_owners: Vec<(Uuid, i32)>,
}

impl Keys {
    async fn read(connection: &mut PgConnection, workspace_id: Uuid, table: &str, rows: &[Keyed]) -> Result<Self> {
        // Without statistics of the new column, the planner would read the whole table for each batch.
        sqlx::raw_sql("SET LOCAL enable_seqscan = off").execute(&mut *connection).await?;
        let sql = format!(
            "SELECT id, created_at, email_key, email_duplicate FROM {table}
             WHERE workspace_id = $1 AND email_key = ANY ($2)"
        );
        let wanted: Vec<&str> = rows.iter().map(|row| row.key.as_str()).collect();
        let stored: Vec<Stored> =
            sqlx::query_as(AssertSqlSafe(sql)).bind(workspace_id).bind(wanted).fetch_all(connection).await?;
        let mut keys = Self::default();
        for row in stored {
            let last = keys.last.entry(row.email_key.clone()).or_default();
            *last = row.email_duplicate.max(*last);
            keys.stored.entry(row.email_key.clone()).or_default().push(row);
        }
        Ok(keys)
    }

    /// The number of a row. Rows are given by age, so that of new rows only the first can be the owner.
    fn number(&mut self, row: &Keyed) -> i32 {
        let stored = self.stored.entry(row.key.clone()).or_default();
        if let Some(same) = stored.iter().find(|stored| stored.id == row.id) {
            return same.email_duplicate;
        }
        let owner = stored.iter_mut().find(|stored| stored.email_duplicate == 0);
        let last = self.last.entry(row.key.clone()).or_default();
        let number = match owner {
            None => 0,
            Some(owner) => {
                *last += 1;
                if row.age() < (owner.created_at, owner.id) {
                    owner.email_duplicate = *last;
                    self.former_owners.push((owner.id, *last));
                    0
                } else {
                    *last
                }
            }
        };
        let Keyed { id, created_at, key } = row.clone();
        stored.push(Stored { id, created_at, email_key: key, email_duplicate: number });
        number
    }

    async fn write_former_owners(&self, connection: &mut PgConnection, workspace_id: Uuid, table: &str) -> Result<()> {
        if self.former_owners.is_empty() {
            return Ok(());
        }
        let (ids, numbers): (Vec<Uuid>, Vec<i32>) = self.former_owners.iter().copied().unzip();
        let sql = format!(
            "UPDATE {table} SET email_duplicate = former.number
             FROM unnest($2::uuid[], $3::integer[]) AS former (id, number)
             WHERE {table}.workspace_id = $1 AND {table}.id = former.id"
        );
        sqlx::query(AssertSqlSafe(sql)).bind(workspace_id).bind(ids).bind(numbers).execute(connection).await?;
        Ok(())
    }
}
