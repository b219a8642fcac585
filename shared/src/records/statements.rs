//! The statements on a kind of record, built from its declaration on first use.

use std::sync::Arc;

use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr};

use super::events::word;
use super::history::Action;
use super::keys::{Reference, UniqueKey};
use super::model::{Parent, Record, SEARCH_VECTOR, derived_columns};
use crate::error::{Error, Result};
use crate::platform::email_keys;

/// The statements on a table. Unless noted otherwise, `$1` is the workspace, `$2` the id, and `$3`
/// the parent, if the kind has one. Cloning a statement does not copy its text.
#[derive(Debug)]
pub struct Statements {
    /// Returns a record.
    pub get: SqlStr,
    /// Returns a record and the `version` of its row.
    pub get_versioned: SqlStr,
    /// Returns and locks a record.
    pub lock_one: SqlStr,
    /// Returns and locks the records `$2` in order of id.
    pub lock: SqlStr,
    /// Returns when and by whom a record was created.
    pub creation: SqlStr,
    /// Inserts a record and its event; takes the workspace, the columns, the derived columns, the actor, and of the
    /// event the id, the request, the data and the time.
    pub insert: SqlStr,
    /// Updates a record, and adds an entry to the history and an event; takes the workspace, the version, the
    /// entry, the columns from `$10` on, the derived columns, and the data of the event.
    pub update: SqlStr,
    /// Updates the records of the JSON array `$2` of rows.
    pub update_all: SqlStr,
    /// Copies rows: the workspace, the columns, then the derived columns, the import's job and the creator.
    pub copy: SqlStr,
    /// Inserts the rows of the JSON array `$2`.
    pub insert_few: SqlStr,
    /// Deletes the records `$2`, and returns each with its `row` as JSON.
    pub delete: SqlStr,
    /// Deletes the records of the owners `$2`, and returns each with its owner and its `row` as JSON.
    pub delete_owned: Option<SqlStr>,
    /// Returns which records of `$2` exist.
    pub existing: SqlStr,
    /// Returns a row if the parent `$2` exists.
    pub find_parent: Option<SqlStr>,
    /// Returns the last id of the next `$3` records after the id `$2`.
    pub page_end: SqlStr,
    /// Counts the records.
    pub count: SqlStr,
    /// Returns and locks the next `$3` records after the id `$2`.
    pub lock_page: SqlStr,
    /// Writes the derived columns of the records `$2` that have other values: the numbers `$3` of the
    /// email keys, and from `$4` on the texts of each column.
    pub rederive: Option<SqlStr>,
    /// Hands the email keys `$2` to their first duplicates.
    pub hand_over: Option<SqlStr>,
    /// For each of [`Record::REFERENCES`]: returns which records of `$2` exist, and locks them against
    /// deletion.
    pub references: Vec<SqlStr>,
    /// The statements for each of [`Record::UNIQUE`].
    keys: Vec<KeyStatements>,
}

/// The statements on a unique key.
#[derive(Debug)]
pub struct KeyStatements {
    field: &'static str,
    /// Returns the values of `$2` that are taken, each with the id of its record.
    pub owners: SqlStr,
    /// Returns the ids of `$2` that exist, each with the value that it owns.
    pub of_ids: SqlStr,
    /// Returns and locks the records with the values `$2` in order of id.
    pub lock: SqlStr,
}

impl Statements {
    /// Builds the statements of a kind of record.
    pub fn new<R: Record>() -> Self {
        let table = R::TABLE;
        let columns = R::COLUMN_LIST;
        let selected = R::columns().selected;
        let derived: Vec<&str> = derived_columns::<R>().collect();
        let written = [&[columns], derived.as_slice()].concat().join(", ");
        let count = R::COLUMNS.len() + derived.len();
        let parameters = |from: usize| {
            let columns = R::COLUMNS.iter().chain(&derived).zip(from..);
            columns.map(|(column, n)| cast(column, &format!("${n}"))).collect::<Vec<_>>().join(", ")
        };
        // An update may change the email's key.
        let email_key = derived.iter().position(|column| *column == email_keys::COLUMN);
        let keep_number = |new_key: &dyn Fn(usize) -> String| {
            email_key.map(|at| format!(", {}", email_keys::keep_number(table, &new_key(at)))).unwrap_or_default()
        };
        let creator = if R::HAS_CREATOR { ", created_by_type, created_by_id" } else { "" };
        let copied = format!("{written}{}{creator}", if R::IMPORTED { ", import_job_id" } else { "" });
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
            get: safe(format!("SELECT {selected} {one}")),
            // The xmin of a row is the id of the transaction that wrote it.
            get_versioned: safe(format!("SELECT {selected}, xmin::text AS version {one}")),
            lock_one: safe(format!("SELECT {selected} {one} FOR UPDATE")),
            lock: safe(format!(
                "SELECT {selected} FROM {table} WHERE workspace_id = $1 AND id = ANY ($2) ORDER BY id FOR UPDATE"
            )),
            creation: safe(format!(
                "SELECT created_at, {} FROM {table} WHERE workspace_id = $1 AND id = $2",
                columns_of_creation::<R>()
            )),
            insert: safe({
                let [kind, actor, event, request, data, at, trace] = [0, 1, 2, 3, 4, 5, 6].map(|n| format!("${}", 2 + count + n));
                let by = if R::HAS_CREATOR { format!(", {kind}, {actor}") } else { String::new() };
                let (values, created) = (parameters(2), word::<R>(Action::Created));
                format!(
                    "WITH created AS (
                         INSERT INTO {table} (workspace_id, {written}{creator}) VALUES ($1, {values}{by}) RETURNING id
                     )
                     INSERT INTO new_events (workspace_id, type, subject_type, subject_id, actor_type, actor_id, id,
                         request_id, trace_context, data, created_at)
                     SELECT $1, '{created}', '{record_type}', created.id, {kind}, {actor}, {event}, {request},
                         {trace}, {data}::json, {at}
                     FROM created"
                )
            }),
            update: safe(format!(
                "WITH changed AS (
                     UPDATE {table} SET ({written}) = ({}){}
                     WHERE workspace_id = $1 AND id = $10 AND xmin = $2::xid
                     RETURNING id
                 ), kept AS (
                     INSERT INTO history (workspace_id, id, record_type, record_id, action, actor_type, actor_id,
                         request_id, former, latter, created_at)
                     SELECT {table}.workspace_id, $3, '{record_type}', changed.id, 'updated', $4, $5, $6, $7, $8, $9
                     FROM changed JOIN {table} ON {table}.workspace_id = $1 AND {table}.id = changed.id
                 )
                 INSERT INTO new_events (workspace_id, id, type, subject_type, subject_id, actor_type, actor_id,
                     request_id, trace_context, data, created_at)
                 SELECT $1, $3, '{updated}', '{record_type}', changed.id, $4, $5, $6, ${trace}, ${data}::json, $9
                 FROM changed",
                parameters(10),
                keep_number(&|at| format!("${}", 10 + R::COLUMNS.len() + at)),
                updated = word::<R>(Action::Updated),
                data = 10 + count,
                trace = 11 + count,
            )),
            update_all: safe(format!(
                "UPDATE {table} SET ({written}) = ({}){}
                 FROM jsonb_populate_recordset(NULL::{table}, $2) AS new
                 WHERE {table}.workspace_id = $1 AND {table}.id = new.id",
                new(&written),
                keep_number(&|at| format!("new.{}", derived[at]))
            )),
            copy: safe(format!("COPY {table} (workspace_id, {copied}) FROM STDIN")),
            insert_few: safe(format!(
                "INSERT INTO {table} (workspace_id, {copied})
                 SELECT $1, {} FROM jsonb_populate_recordset(NULL::{table}, $2) AS new",
                new(&copied)
            )),
            delete: safe(format!(
                "WITH gone AS (DELETE FROM {table} WHERE workspace_id = $1 AND id = ANY ($2) RETURNING {table}.*)
                 SELECT id, to_jsonb(gone) AS row FROM gone"
            )),
            delete_owned: R::OWNER.map(|owner| {
                safe(format!(
                    "WITH gone AS (
                         DELETE FROM {table} WHERE workspace_id = $1 AND {owner} = ANY ($2) RETURNING {table}.*
                     )
                     SELECT id, {owner} AS owner_id, to_jsonb(gone) AS row FROM gone"
                ))
            }),
            existing: safe(format!("SELECT id FROM {table} WHERE workspace_id = $1 AND id = ANY ($2)")),
            find_parent: R::PARENT
                .map(|parent| safe(format!("SELECT 1 FROM {} WHERE workspace_id = $1 AND id = $2", parent.table))),
            page_end: safe(format!(
                "SELECT id FROM (SELECT id FROM {table} WHERE workspace_id = $1 AND id > $2 ORDER BY id LIMIT $3) AS page
                 ORDER BY id DESC LIMIT 1"
            )),
            count: safe(format!("SELECT count(*) FROM {table} WHERE workspace_id = $1")),
            lock_page: safe(format!(
                "SELECT {selected} FROM {table} WHERE workspace_id = $1 AND id > $2 ORDER BY id LIMIT $3 FOR UPDATE"
            )),
            rederive: email_key.map(|_| rederive(table, &derived)),
            hand_over: email_key.map(|_| safe(email_keys::hand_over(table))),
            references: R::REFERENCES.iter().map(find_referred).collect(),
            keys: R::UNIQUE.iter().map(KeyStatements::new).collect(),
        }
    }

    /// All statements, for tests.
    pub fn all(&self) -> Vec<&SqlStr> {
        // Destructured, so that the compiler reports a missing one.
        let Self {
            get,
            get_versioned,
            lock_one,
            lock,
            creation,
            insert,
            update,
            update_all,
            copy,
            insert_few,
            delete,
            delete_owned,
            existing,
            find_parent,
            page_end,
            count,
            lock_page,
            rederive,
            hand_over,
            references,
            keys,
        } = self;
        let mut all =
            vec![get, get_versioned, lock_one, lock, creation, insert, update, update_all, copy, insert_few, delete];
        all.extend([existing, page_end, count, lock_page]);
        all.extend(delete_owned.iter().chain(find_parent).chain(rederive).chain(hand_over).chain(references));
        all.extend(keys.iter().flat_map(|key| [&key.owners, &key.of_ids, &key.lock]));
        all
    }

    /// Returns the statements on one of [`Record::UNIQUE`].
    ///
    /// # Errors
    /// [`Error::Internal`] if the field is not a unique key.
    pub fn by_key(&self, field: &str) -> Result<&KeyStatements> {
        let statements = self.keys.iter().find(|key| key.field == field);
        statements.ok_or_else(|| Error::internal(format!("{field} is not a unique key")))
    }
}

impl KeyStatements {
    fn new<R: Record>(key: &UniqueKey<R>) -> Self {
        let (table, selected, column) = (R::TABLE, R::columns().selected, key.column);
        let condition = key.condition.map(|condition| format!(" AND {condition}")).unwrap_or_default();
        let owned = key.condition.map(|condition| format!("CASE WHEN {condition} THEN {column} END"));
        let cast = key.form.sql_type();
        let with_key =
            format!("FROM {table} WHERE workspace_id = $1{condition} AND {column} = ANY ($2::text[]::{cast}[])");
        Self {
            field: key.field,
            owners: safe(format!("SELECT {column}::text, id {with_key}")),
            of_ids: safe(format!(
                "SELECT id, ({})::text FROM {table} WHERE workspace_id = $1 AND id = ANY ($2)",
                owned.as_deref().unwrap_or(column)
            )),
            lock: safe(format!("SELECT {selected} {with_key} ORDER BY id FOR UPDATE")),
        }
    }
}

/// The parameter or value of a column in the column's type.
fn cast(column: &str, value: &str) -> String {
    if column == SEARCH_VECTOR { format!("{value}::tsvector") } else { value.to_owned() }
}

fn rederive(table: &str, derived: &[&str]) -> SqlStr {
    let new = derived.iter().map(|column| cast(column, &format!("new.{column}"))).collect::<Vec<_>>().join(", ");
    let old = derived.iter().map(|column| format!("{table}.{column}")).collect::<Vec<_>>().join(", ");
    let texts = (4..4 + derived.len()).map(|n| format!("${n}::text[]")).collect::<Vec<_>>().join(", ");
    let columns = derived.join(", ");
    safe(format!(
        "UPDATE {table} SET (email_duplicate, {columns}) = (new.email_duplicate, {new})
         FROM unnest($2::uuid[], $3::integer[], {texts}) AS new (id, email_duplicate, {columns})
         WHERE {table}.workspace_id = $1 AND {table}.id = new.id
             AND ({table}.email_duplicate, {old}) IS DISTINCT FROM (new.email_duplicate, {new})"
    ))
}

/// The columns that say who created a record, with NULL for those that the table does not have.
fn columns_of_creation<R: Record>() -> String {
    let import = if R::IMPORTED { "import_job_id" } else { "NULL::uuid AS import_job_id" };
    let by = match R::HAS_CREATOR {
        true => "created_by_type, created_by_id",
        false => "NULL::text AS created_by_type, NULL::uuid AS created_by_id",
    };
    format!("{import}, {by}")
}

fn find_referred<R>(reference: &Reference<R>) -> SqlStr {
    let table = reference.table;
    safe(format!("SELECT id FROM {table} WHERE workspace_id = $1 AND id = ANY ($2) ORDER BY id FOR KEY SHARE"))
}

/// Marks a statement as safe: its text consists only of names that the program declares.
fn safe(text: String) -> SqlStr {
    AssertSqlSafe(Arc::<str>::from(text)).into_sql_str()
}
