//! The statements on a kind of record, made from its columns when they are first needed.

use super::{Parent, Record};

/// See each field. All take the workspace as `$1` and the id as `$2` where nothing else is said,
/// and the parent as `$3` if the record has one.
#[derive(Debug)]
pub struct Statements {
    /// The columns, separated by commas.
    pub columns: &'static str,
    /// One record.
    pub get: &'static str,
    /// One record, and the `version` of its row.
    pub get_versioned: &'static str,
    /// One record, locked, and all of its `row` as JSON.
    pub lock_row: &'static str,
    /// The records `$2`, locked in the order of their ids.
    pub lock: &'static str,
    /// Takes the workspace, the columns, and the words.
    pub insert: &'static str,
    /// Takes the workspace, the version, the entry of the history, the columns from `$10` on, and the
    /// words.
    pub update: &'static str,
    /// Takes the records `$2` as a JSON array of rows.
    pub update_all: &'static str,
    /// COPY of rows: the workspace, the columns, then the words and the import's job.
    pub copy: &'static str,
    /// The same of a few rows, from the JSON array `$2` of them.
    pub insert_few: &'static str,
    /// Deletes one.
    pub delete: &'static str,
    /// Finds a row if the record is there.
    pub exists: &'static str,
    /// Writes the rows `$1`, given as a JSON array.
    pub insert_rows: &'static str,
}

impl Statements {
    /// The statements of a kind of record.
    pub fn new<R: Record>() -> Self {
        let table = R::TABLE;
        let columns = R::COLUMNS.join(", ");
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
            get: format!("SELECT {columns} {one}").leak(),
            // A row's xmin is the transaction that wrote it.
            get_versioned: format!("SELECT {columns}, xmin::text AS version {one}").leak(),
            lock_row: format!("SELECT {columns}, to_jsonb({table}) AS row {one} FOR UPDATE").leak(),
            lock: format!(
                "SELECT {columns} FROM {table} WHERE workspace_id = $1 AND id = ANY ($2) ORDER BY id FOR UPDATE"
            ).leak(),
            insert: format!("INSERT INTO {table} (workspace_id, {written}) VALUES ($1, {})", parameters(2)).leak(),
            update: format!(
                "WITH changed AS (
                     UPDATE {table} SET ({written}) = ({})
                     WHERE workspace_id = $1 AND id = $10 AND xmin = $2::xid
                     RETURNING id
                 )
                 INSERT INTO history (workspace_id, id, record_type, record_id, action, actor_type, actor_id, request_id,
                     former, latter, created_at)
                 SELECT $1, $3, '{record_type}', changed.id, 'updated', $4, $5, $6, $7, $8, $9 FROM changed",
                parameters(10)
            ).leak(),
            update_all: format!(
                "UPDATE {table} SET ({written}) = ({})
                 FROM jsonb_populate_recordset(NULL::{table}, $2) AS new
                 WHERE {table}.workspace_id = $1 AND {table}.id = new.id",
                new(&written)
            ).leak(),
            copy: format!("COPY {table} (workspace_id, {copied}) FROM STDIN").leak(),
            insert_few: format!(
                "INSERT INTO {table} (workspace_id, {copied})
                 SELECT $1, {} FROM jsonb_populate_recordset(NULL::{table}, $2) AS new",
                new(&copied)
            ).leak(),
            delete: format!("DELETE FROM {table} WHERE workspace_id = $1 AND id = $2").leak(),
            exists: format!("SELECT 1 FROM {table} WHERE workspace_id = $1 AND id = $2").leak(),
            insert_rows: format!("INSERT INTO {table} SELECT * FROM jsonb_populate_recordset(NULL::{table}, $1)").leak(),
            columns: columns.leak(),
        }
    }
}
