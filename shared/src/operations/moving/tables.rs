//! The tables with rows of a workspace, as the catalog knows them.

use futures_util::TryStreamExt;
use sqlx::{AssertSqlSafe, FromRow, PgConnection};
use uuid::Uuid;

use crate::error::Result;
use crate::platform::distribute::tenant_tables;

/// Rows are handed over in pieces of at least this many bytes.
const PIECE: usize = 64 * 1024;

/// Tables whose key does not begin with the workspace, and which of their rows belong to the workspace `{id}`. What
/// refers to another one's rows comes after it.
const OTHERS: [(&str, &str); 4] = [
    ("workspaces", "id = '{id}'"),
    ("api_keys", "workspace_id = '{id}'"),
    ("pauses", "target = 'workspace' AND name = '{id}'"),
    ("rotated_keys", "key_id IN (SELECT id FROM api_keys WHERE workspace_id = '{id}')"),
];

/// The columns of a table. The new database numbers rows itself, and knows no transactions of the old one.
const COLUMNS: &str = "
    SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum)
            FILTER (WHERE attidentity = '' AND atttypid <> 'xid8'::regtype) AS columns,
        min(quote_ident(attname)) FILTER (WHERE attidentity <> '') AS numbered_by
    FROM pg_attribute
    WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''";

/// A table with rows of workspaces.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) name: String,
    condition: &'static str,
    columns: Columns,
}

#[derive(Debug, FromRow)]
struct Columns {
    columns: String,
    /// The column by which rows stay in their order.
    numbered_by: Option<String>,
}

/// All tables with rows of workspaces.
pub(super) async fn of_workspaces(connection: &mut PgConnection) -> Result<Vec<Table>> {
    let tenants = concat!("SELECT name FROM (", tenant_tables!(), ") AS tenants ORDER BY name");
    let tenants: Vec<String> = sqlx::query_scalar(tenants).fetch_all(&mut *connection).await?;
    let tenants = tenants.into_iter().map(|name| (name, "workspace_id = '{id}'"));
    let mut tables = Vec::new();
    for (name, condition) in OTHERS.map(|(name, condition)| (name.to_owned(), condition)).into_iter().chain(tenants) {
        let columns = sqlx::query_as(COLUMNS).bind(&name).fetch_one(&mut *connection).await?;
        tables.push(Table { name, condition, columns });
    }
    Ok(tables)
}

impl Table {
    /// Copies the rows of a workspace from one database to another.
    pub(super) async fn copy(&self, from: &mut PgConnection, to: &mut PgConnection, id: Uuid) -> Result<()> {
        let Self { name, columns: Columns { columns, numbered_by }, .. } = self;
        let order = numbered_by.iter().map(|column| format!(" ORDER BY {column}")).collect::<String>();
        let read = format!("SELECT {columns} FROM {name} WHERE {}{order}", self.of(id));
        let read = format!("COPY ({read}) TO STDOUT (FORMAT binary)");
        let write = format!("COPY {name} ({columns}) FROM STDIN (FORMAT binary)");
        let mut rows = from.copy_out_raw(&read).await?;
        let mut copy = to.copy_in_raw(&write).await?;
        let mut piece = Vec::with_capacity(2 * PIECE);
        while let Some(row) = rows.try_next().await? {
            piece.extend_from_slice(&row);
            if piece.len() >= PIECE {
                copy.send(piece.as_slice()).await?;
                piece.clear();
            }
        }
        copy.send(piece.as_slice()).await?;
        copy.finish().await?;
        Ok(())
    }

    /// Deletes the rows of a workspace, and returns their number.
    pub(super) async fn delete(&self, connection: &mut PgConnection, id: Uuid) -> Result<u64> {
        let delete = AssertSqlSafe(format!("DELETE FROM {} WHERE {}", self.name, self.of(id)));
        Ok(sqlx::query(delete).execute(connection).await?.rows_affected())
    }

    /// The condition of the rows of a workspace. COPY takes no parameters, and an id needs no escaping.
    fn of(&self, id: Uuid) -> String {
        self.condition.replace("{id}", &id.to_string())
    }
}
