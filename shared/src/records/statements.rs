//! The statements on a kind of record, made from what it declares when they are first needed.

use std::sync::Arc;

use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr};

use super::keys::{Reference, UniqueKey};
use super::model::{Parent, Record};
use crate::error::{Error, Result};

/// See each field. All take the workspace as `$1` and the id as `$2` where nothing else is said,
/// and the parent as `$3` if the record has one. Cloning one copies no text.
#[derive(Debug)]
pub struct Statements {
    /// One record.
    pub get: SqlStr,
    /// One record, and the `version` of its row.
    pub get_versioned: SqlStr,
    /// One record, locked, and all of its `row` as JSON.
    pub lock_row: SqlStr,
    /// The records `$2`, locked in the order of their ids.
    pub lock: SqlStr,
    /// Takes the workspace, the columns, and the words.
    pub insert: SqlStr,
    /// Takes the workspace, the version, the entry of the history, the columns from `$10` on, and the
    /// words.
    pub update: SqlStr,
    /// Takes the records `$2` as a JSON array of rows.
    pub update_all: SqlStr,
    /// COPY of rows: the workspace, the columns, then the words and the import's job.
    pub copy: SqlStr,
    /// The same of a few rows, from the JSON array `$2` of them.
    pub insert_few: SqlStr,
    /// Deletes one.
    pub delete: SqlStr,
    /// Deletes those that are deleted with the record `$2`, and returns each with its `row` as JSON.
    pub delete_owned: Option<SqlStr>,
    /// Finds a row if the record is there.
    pub exists: SqlStr,
    /// Finds a row if the parent `$2` is there.
    pub find_parent: Option<SqlStr>,
    /// The last id of the next `$3` records after the id `$2`.
    pub page_end: SqlStr,
    /// For each of [`Record::REFERENCES`], those of the records `$2` that exist, kept from being deleted.
    pub references: Vec<SqlStr>,
    /// For each of [`Record::UNIQUE`].
    keys: Vec<KeyStatements>,
}

/// The statements that find records by a key.
#[derive(Debug)]
pub struct KeyStatements {
    field: &'static str,
    /// The values of `$2` that are taken, each with the id of the record that has it.
    pub owners: SqlStr,
    /// The ids of `$2` that exist, each with its value.
    pub of_ids: SqlStr,
    /// The records that have the values `$2`, locked in the order of their ids.
    pub lock: SqlStr,
}

impl Statements {
    /// The statements of a kind of record.
    pub fn new<R: Record>() -> Self {
        let table = R::TABLE;
        let columns = R::COLUMN_LIST;
        let count = R::COLUMNS.len();
        let parameters = |from: usize| {
            let mut all: Vec<String> = (from..from + count).map(|n| format!("${n}")).collect();
            all.extend(R::SEARCHABLE.then(|| format!("${}::tsvector", from + count)));
            all.join(", ")
        };
        let written = format!("{columns}{}", if R::SEARCHABLE { ", search_vector" } else { "" });
        let copied = format!("{written}{}", if R::IMPORTED { ", import_job_id" } else { "" });
        let new =
            |columns: &str| columns.split(", ").map(|column| format!("new.{column}")).collect::<Vec<_>>().join(", ");
        let one = match R::PARENT {
            Some(Parent { column, .. }) => {
                format!("FROM {table} WHERE workspace_id = $1 AND id = $2 AND {column} = $3")
            }
            None => format!("FROM {table} WHERE workspace_id = $1 AND id = $2"),
        };
        let record_type = R::TYPE.as_str();
        Self {
            get: made(format!("SELECT {columns} {one}")),
            // A row's xmin is the transaction that wrote it.
            get_versioned: made(format!("SELECT {columns}, xmin::text AS version {one}")),
            lock_row: made(format!("SELECT {columns}, to_jsonb({table}) AS row {one} FOR UPDATE")),
            lock: made(format!(
                "SELECT {columns} FROM {table} WHERE workspace_id = $1 AND id = ANY ($2) ORDER BY id FOR UPDATE"
            )),
            insert: made(format!("INSERT INTO {table} (workspace_id, {written}) VALUES ($1, {})", parameters(2))),
            update: made(format!(
                "WITH changed AS (
                     UPDATE {table} SET ({written}) = ({})
                     WHERE workspace_id = $1 AND id = $10 AND xmin = $2::xid
                     RETURNING id
                 )
                 INSERT INTO history (workspace_id, id, record_type, record_id, action, actor_type, actor_id, request_id,
                     former, latter, created_at)
                 SELECT $1, $3, '{record_type}', changed.id, 'updated', $4, $5, $6, $7, $8, $9 FROM changed",
                parameters(10)
            )),
            update_all: made(format!(
                "UPDATE {table} SET ({written}) = ({})
                 FROM jsonb_populate_recordset(NULL::{table}, $2) AS new
                 WHERE {table}.workspace_id = $1 AND {table}.id = new.id",
                new(&written)
            )),
            copy: made(format!("COPY {table} (workspace_id, {copied}) FROM STDIN")),
            insert_few: made(format!(
                "INSERT INTO {table} (workspace_id, {copied})
                 SELECT $1, {} FROM jsonb_populate_recordset(NULL::{table}, $2) AS new",
                new(&copied)
            )),
            delete: made(format!("DELETE FROM {table} WHERE workspace_id = $1 AND id = $2")),
            delete_owned: R::OWNER.map(|owner| {
                made(format!(
                    "DELETE FROM {table} WHERE workspace_id = $1 AND {owner} = $2 RETURNING id, to_jsonb({table}) AS row"
                ))
            }),
            exists: made(format!("SELECT 1 FROM {table} WHERE workspace_id = $1 AND id = $2")),
            find_parent: R::PARENT
                .map(|parent| made(format!("SELECT 1 FROM {} WHERE workspace_id = $1 AND id = $2", parent.table))),
            page_end: made(format!(
                "SELECT id FROM (SELECT id FROM {table} WHERE workspace_id = $1 AND id > $2 ORDER BY id LIMIT $3) AS page
                 ORDER BY id DESC LIMIT 1"
            )),
            references: R::REFERENCES.iter().map(find_referred).collect(),
            keys: R::UNIQUE.iter().map(KeyStatements::new).collect(),
        }
    }

    /// All of them, which are tested.
    pub fn all(&self) -> Vec<&SqlStr> {
        // Named one by one, so that none is forgotten.
        let Self {
            get,
            get_versioned,
            lock_row,
            lock,
            insert,
            update,
            update_all,
            copy,
            insert_few,
            delete,
            delete_owned,
            exists,
            find_parent,
            page_end,
            references,
            keys,
        } = self;
        let mut all = vec![get, get_versioned, lock_row, lock, insert, update, update_all, copy, insert_few, delete];
        all.extend([exists, page_end]);
        all.extend(delete_owned.iter().chain(find_parent).chain(references));
        all.extend(keys.iter().flat_map(|key| [&key.owners, &key.of_ids, &key.lock]));
        all
    }

    /// The statements that find records by one of [`Record::UNIQUE`].
    ///
    /// # Errors
    /// [`Error::Internal`] for a field that is none of them.
    pub fn by_key(&self, field: &str) -> Result<&KeyStatements> {
        let statements = self.keys.iter().find(|key| key.field == field);
        statements.ok_or_else(|| Error::internal(format!("{field} is not a unique key")))
    }
}

impl KeyStatements {
    fn new<R: Record>(key: &UniqueKey<R>) -> Self {
        let (table, columns, expression) = (R::TABLE, R::COLUMN_LIST, key.expression);
        let condition = key.condition.map(|condition| format!(" AND {condition}")).unwrap_or_default();
        let cast = key.form.sql_type();
        let with_key =
            format!("FROM {table} WHERE workspace_id = $1{condition} AND {expression} = ANY ($2::text[]::{cast}[])");
        Self {
            field: key.field,
            owners: made(format!("SELECT ({expression})::text, id {with_key}")),
            of_ids: made(format!(
                "SELECT id, ({expression})::text FROM {table} WHERE workspace_id = $1 AND id = ANY ($2)"
            )),
            lock: made(format!("SELECT {columns} {with_key} ORDER BY id FOR UPDATE")),
        }
    }
}

fn find_referred<R>(reference: &Reference<R>) -> SqlStr {
    let table = reference.table;
    made(format!("SELECT id FROM {table} WHERE workspace_id = $1 AND id = ANY ($2) ORDER BY id FOR KEY SHARE"))
}

/// A statement made of names that the program declares, and of nothing that a caller sent.
fn made(statement: String) -> SqlStr {
    AssertSqlSafe(Arc::<str>::from(statement)).into_sql_str()
}
