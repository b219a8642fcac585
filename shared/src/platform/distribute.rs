//! Distributing the data of tenants over the nodes of [Citus](https://docs.citusdata.com), where the
//! extension is installed. Elsewhere nothing is done.
//!
//! Every table whose primary key begins with `workspace_id` is distributed by it, colocated with all others;
//! `workspaces` becomes a reference table, of which each node has a copy. Which tables these are is read from
//! the catalog, so the table of a later migration is distributed by the next `crm-api migrate`. A table is
//! distributed in a transaction of its own, and a run that was interrupted goes on with the tables that are left.

use std::fmt;

use sqlx::{FromRow, PgConnection};

use crate::error::Result;

/// Whoever distributes holds this advisory lock; the number is our own choice.
const LOCK: i64 = 0x6372_6d20_6369_7475;

/// The tables of tenants.
macro_rules! tenant_tables {
    () => {
        "SELECT tables.oid, tables.relname::text AS name
         FROM pg_class AS tables
         JOIN pg_index AS keys ON keys.indrelid = tables.oid AND keys.indisprimary
         JOIN pg_attribute AS columns ON columns.attrelid = tables.oid AND columns.attnum = keys.indkey[0]
         WHERE tables.relnamespace = 'public'::regnamespace AND tables.relkind = 'r'
             AND columns.attname = 'workspace_id'"
    };
}
pub(crate) use tenant_tables;

/// The tables of tenants, and whether each is distributed, where the extension is installed.
macro_rules! distributable_tables {
    () => {
        concat!(
            "SELECT oid, name, coalesce(partmethod = 'h', false) AS is_distributed
             FROM (",
            tenant_tables!(),
            ") AS tables LEFT JOIN pg_dist_partition ON logicalrelid = oid"
        )
    };
}
pub(crate) use distributable_tables;

/// Lets the session distribute: foreign keys between the tables need one connection for each node, the triggers
/// write rows of the same workspace, and a table that refers to `workspaces` waits for its turn as a plain one.
const SETTINGS: &str = "
    SET citus.multi_shard_modify_mode = 'sequential';
    SET citus.enable_unsafe_triggers = on;
    SET citus.enable_local_reference_table_foreign_keys = off";
/// The next table: the tables that it refers to are distributed.
const NEXT: &str = concat!(
    "WITH tenants AS (",
    distributable_tables!(),
    ")
     SELECT name, (SELECT count(*) FROM tenants WHERE is_distributed) AS done,
         (SELECT count(*) FROM tenants) AS total, (SELECT min(name) FROM tenants WHERE is_distributed) AS colocate_with
     FROM tenants
     WHERE NOT is_distributed AND NOT EXISTS (
         SELECT FROM pg_constraint
         JOIN tenants AS parents ON parents.oid = confrelid AND NOT parents.is_distributed
         WHERE conrelid = tenants.oid AND contype = 'f' AND confrelid <> conrelid
     )
     ORDER BY name LIMIT 1"
);
/// A plain table that refers to a reference table, as `api_keys` does. As a table that Citus knows, it is written
/// in one atomic commit with the rows of a workspace.
const PLAIN: &str = "
    SELECT conrelid::regclass::text FROM pg_constraint
    WHERE contype = 'f' AND confrelid = 'workspaces'::regclass
        AND conrelid NOT IN (SELECT logicalrelid FROM pg_dist_partition)
    LIMIT 1";
/// A distributed table whose former rows still take space on the coordinator. Those that refer to it come first.
const LEFT_OVER: &str = concat!(
    "WITH left_over AS (
         SELECT oid, name FROM (",
    distributable_tables!(),
    ") AS tenants WHERE is_distributed AND pg_relation_size(oid) > 0
     )
     SELECT name FROM left_over
     WHERE NOT EXISTS (
         SELECT FROM pg_constraint JOIN left_over AS children ON children.oid = conrelid
         WHERE confrelid = left_over.oid AND contype = 'f' AND confrelid <> conrelid
     )
     ORDER BY name LIMIT 1"
);

/// The tables that an interrupted run has left, by name.
const LEFT: &str =
    concat!("SELECT name FROM (", distributable_tables!(), ") AS tenants WHERE NOT is_distributed ORDER BY name");

/// A table that is being distributed.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct Progress {
    /// The name of the table.
    pub name: String,
    /// The number of tables that are distributed already.
    pub done: i64,
    /// The number of tables of tenants.
    pub total: i64,
    /// A table that is distributed already.
    colocate_with: Option<String>,
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, done, total, .. } = self;
        write!(f, "distributing {name}: {} of {total} tables", done + 1)
    }
}

/// Prepares a session for migrations of a distributed database.
pub(crate) async fn prepare(connection: &mut PgConnection) -> Result<()> {
    if is_present(connection).await? {
        sqlx::raw_sql(SETTINGS).execute(connection).await?;
    }
    Ok(())
}

/// Distributes the tables that are not distributed yet, and reports each one before.
pub(crate) async fn run(connection: &mut PgConnection, mut report: impl FnMut(&Progress)) -> Result<()> {
    if !is_present(connection).await? {
        return Ok(());
    }
    // Until the session ends: the next process finds nothing left to do.
    sqlx::query("SELECT pg_advisory_lock($1)").bind(LOCK).execute(&mut *connection).await?;
    if !has_begun(connection).await? {
        sqlx::query("SELECT create_reference_table('workspaces')").execute(&mut *connection).await?;
    }
    while let Some(table) = sqlx::query_as::<_, Progress>(NEXT).fetch_optional(&mut *connection).await? {
        report(&table);
        let distribute = "SELECT create_distributed_table($1::regclass, 'workspace_id', colocate_with => $2)";
        let colocate_with = table.colocate_with.as_deref().unwrap_or("default");
        sqlx::query(distribute).bind(&table.name).bind(colocate_with).execute(&mut *connection).await?;
    }
    while let Some(name) = sqlx::query_scalar::<_, String>(PLAIN).fetch_optional(&mut *connection).await? {
        let add = "SELECT citus_add_local_table_to_metadata($1::regclass, cascade_via_foreign_keys => true)";
        sqlx::query(add).bind(name).execute(&mut *connection).await?;
    }
    while let Some(name) = sqlx::query_scalar::<_, String>(LEFT_OVER).fetch_optional(&mut *connection).await? {
        let truncate = "SELECT truncate_local_data_after_distributing_table($1::regclass)";
        sqlx::query(truncate).bind(name).execute(&mut *connection).await?;
    }
    sqlx::query("SELECT pg_advisory_unlock($1)").bind(LOCK).execute(connection).await?;
    Ok(())
}

/// The tables that are not distributed although others are. Statements that join them with those fail.
pub(crate) async fn pending(connection: &mut PgConnection) -> Result<Vec<String>> {
    if !has_begun(connection).await? {
        return Ok(Vec::new());
    }
    Ok(sqlx::query_scalar(LEFT).fetch_all(connection).await?)
}

/// Whether tables are distributed, all of them or some.
pub(crate) async fn has_begun(connection: &mut PgConnection) -> Result<bool> {
    if !is_present(connection).await? {
        return Ok(false);
    }
    let is_reference = "SELECT EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = to_regclass('workspaces'))";
    Ok(sqlx::query_scalar(is_reference).fetch_one(connection).await?)
}

/// Whether the database has the extension.
pub(crate) async fn is_present(connection: &mut PgConnection) -> Result<bool> {
    let is_present = "SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'citus')";
    Ok(sqlx::query_scalar(is_present).fetch_one(connection).await?)
}
