//! Records of an importable kind by their emails.

use sqlx::{AssertSqlSafe, PgConnection};
use uuid::Uuid;

use super::Importable;
use crate::error::Result;
use crate::records::Fields;
use crate::values::{Email, email_key};

/// Which of the email keys are taken.
pub(super) async fn taken<R: Importable>(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    keys: &[String],
) -> Result<Vec<String>> {
    let sql = select::<R>(email_key!("email"), concat!(email_key!("email"), " = ANY ($2)"));
    Ok(sqlx::query_scalar(sql).bind(workspace_id).bind(keys).fetch_all(connection).await?)
}

/// Which of the ids are held, and by which email keys.
pub(super) async fn holders<R: Importable>(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    ids: &[Uuid],
) -> Result<Vec<(Uuid, String)>> {
    let sql = select::<R>(concat!("id, ", email_key!("email")), "id = ANY ($2)");
    Ok(sqlx::query_as(sql).bind(workspace_id).bind(ids).fetch_all(connection).await?)
}

/// The records with these email keys, locked until the transaction ends.
pub(super) async fn lock<R: Importable>(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    keys: &[String],
) -> Result<Vec<R>> {
    let sql = select::<R>(R::COLUMN_LIST, concat!(email_key!("email"), " = ANY ($2) ORDER BY id FOR UPDATE"));
    Ok(sqlx::query_as(sql).bind(workspace_id).bind(keys).fetch_all(connection).await?)
}

fn select<R: Fields>(columns: &str, condition: &str) -> AssertSqlSafe<String> {
    AssertSqlSafe(format!("SELECT {columns} FROM {} WHERE workspace_id = $1 AND {condition}", R::TABLE))
}

/// The record with an email, locked until the transaction ends.
///
/// # Errors
/// [`Error::Unavailable`](crate::Error::Unavailable) when the database is away.
pub async fn with_email<R: Importable>(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    email: &Email,
) -> Result<Option<R>> {
    Ok(lock(connection, workspace_id, &[email.key()]).await?.into_iter().next())
}
