//! Records whose emails have become equal.

use sqlx::{AssertSqlSafe, FromRow, PgConnection};
use uuid::Uuid;

use crate::error::Result;

/// The tables whose emails are unique in a workspace.
const TABLES: [&str; 4] = ["leads", "customers", "users", "suppressions"];

/// A record whose email has become the same as another one's, by their [normal
/// forms](crate::values::email_key).
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub(super) struct DuplicateEmail {
    /// The table of both.
    pub table: String,
    /// The record's id.
    pub id: Uuid,
    /// The record's email.
    pub email: String,
    /// The id of the record that owns the email: the oldest one.
    pub owner_id: Uuid,
    /// The owner's email.
    pub owner_email: String,
}

/// Returns the records of a workspace whose email another one owns, oldest first. Reads every record.
pub(super) async fn duplicate_emails(connection: &mut PgConnection, workspace_id: Uuid) -> Result<Vec<DuplicateEmail>> {
    let mut duplicates = Vec::new();
    for table in TABLES {
        let sql = format!(
            "SELECT '{table}' AS table, duplicate.id, duplicate.email, owner.id AS owner_id, owner.email AS owner_email
             FROM {table} AS duplicate
             JOIN {table} AS owner ON owner.workspace_id = $1 AND owner.email_key = duplicate.email_key
                 AND owner.email_duplicate = 0
             WHERE duplicate.workspace_id = $1 AND duplicate.email_duplicate > 0
             ORDER BY duplicate.created_at, duplicate.id"
        );
        let found: Vec<DuplicateEmail> =
            sqlx::query_as(AssertSqlSafe(sql)).bind(workspace_id).fetch_all(&mut *connection).await?;
        duplicates.extend(found);
    }
    Ok(duplicates)
}
