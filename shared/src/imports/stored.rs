//! Uploads that wait: a file is stored for a day, and imported or tried as often as wanted.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{AssertSqlSafe, FromRow, PgConnection};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{file_kind, gzip};
use crate::error::{Error, FieldError, Reason, Result};
use crate::platform::config::Imports;
use crate::platform::db::{Among, Pool};

/// The size of a stored chunk, in bytes.
pub const CHUNK: usize = 1 << 20;
/// How many uploads of a workspace wait at most.
const MOST: usize = 3;
/// The first half of the advisory locks of a workspace's uploads, an arbitrary number.
const LOCK: i32 = 0x7570_6c64;
/// What callers see of an upload.
const COLUMNS: &str = "id, size, length, created_at,
    (created_at AT TIME ZONE 'UTC' + interval '24 hours') AT TIME ZONE 'UTC' AS expires_at";
/// The condition of an upload that callers see.
const IS_LISTED: &str = "is_listed AND created_at > now() - interval '24 hours'";
/// Whether an import reads the upload, or has a job that is not finished.
const IN_USE: &str = "EXISTS (
    SELECT FROM imports WHERE imports.workspace_id = $1 AND imports.upload_id = uploads.id AND (
        imports.job_id IS NULL OR EXISTS (
            SELECT FROM jobs
            WHERE jobs.workspace_id = $1 AND jobs.id = imports.job_id AND jobs.status IN ('queued', 'running')
        )
    )
)";

/// An upload that waits to be imported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema, FromRow)]
#[schema(as = Upload)]
pub struct StoredUpload {
    /// The id, for `upload=` of an import.
    pub id: Uuid,
    /// How many bytes have arrived; the next `Upload-Offset`.
    pub size: i64,
    /// How many bytes the file has; `null` if the upload was created without an `Upload-Length`.
    pub length: Option<i64>,
    /// When the upload was created.
    pub created_at: DateTime<Utc>,
    /// When the upload is deleted.
    pub expires_at: DateTime<Utc>,
}

/// Begins an upload, which callers see once it is [accepted](accept). Returns its id.
///
/// # Errors
/// [`Error::Conflict`] if imports read all uploads of the workspace, which has as many as it may have.
pub async fn begin(connection: &mut PgConnection, workspace_id: Uuid, length: Option<i64>) -> Result<Uuid> {
    replaceable(connection, workspace_id).await?;
    let id = Uuid::now_v7();
    sqlx::query("INSERT INTO uploads (workspace_id, id, length) VALUES ($1, $2, $3)")
        .bind(workspace_id)
        .bind(id)
        .bind(length)
        .execute(connection)
        .await?;
    Ok(id)
}

/// Appends bytes to an upload that has `size` bytes. Returns whether it had: of several that append at once, one
/// does.
///
/// # Errors
/// [`Error::Invalid`] if the file is of a kind that cannot be imported, or longer than its length.
pub async fn append(
    connection: &mut PgConnection,
    (workspace_id, id): (Uuid, Uuid),
    size: i64,
    data: &[u8],
) -> Result<bool> {
    if size == 0 && !data.starts_with(gzip::MAGIC) {
        file_kind::container(&data[..data.len().min(file_kind::ENOUGH)])?;
    }
    let appended = sqlx::query(
        "WITH grown AS (
             UPDATE uploads SET size = size + $4, touched_at = now()
             WHERE workspace_id = $1 AND id = $2 AND size = $3 AND (length IS NULL OR size + $4 <= length)
             RETURNING id
         )
         INSERT INTO upload_chunks (workspace_id, upload_id, start, data) SELECT $1, id, $3, $5 FROM grown",
    )
    .bind(workspace_id)
    .bind(id)
    .bind(size)
    .bind(data.len() as i64)
    .bind(data)
    .execute(connection)
    .await?;
    Ok(appended.rows_affected() == 1)
}

/// Whether more bytes can be stored, in all workspaces together.
pub async fn has_room(connection: &mut PgConnection, settings: &Imports, bytes: usize) -> Result<bool> {
    let mut among = Among::new();
    let stored = loop {
        let stored = sqlx::query_scalar::<_, i64>(
            "SELECT coalesce(sum(size), 0)::bigint FROM uploads WHERE ($1::uuid[] IS NULL OR workspace_id = ANY ($1))",
        );
        let stored = stored.bind(among.workspaces()).fetch_one(&mut *connection).await.map_err(Error::from);
        if let Some(stored) = among.accept(connection, stored).await? {
            break stored;
        }
    };
    Ok(stored.unsigned_abs().saturating_add(bytes as u64) <= settings.max_stored_bytes)
}

/// Shows an upload to callers. If the workspace has as many as it may have, the oldest that nobody reads is deleted.
///
/// # Errors
/// [`Error::Conflict`] if imports read all of them.
pub async fn accept(connection: &mut PgConnection, workspace_id: Uuid, id: Uuid) -> Result<StoredUpload> {
    sqlx::query("SELECT pg_advisory_xact_lock($1, hashtext($2::text))")
        .bind(LOCK)
        .bind(workspace_id)
        .execute(&mut *connection)
        .await?;
    if let Some(oldest) = replaceable(connection, workspace_id).await? {
        delete(connection, workspace_id, oldest).await?;
    }
    let sql = format!(
        "UPDATE uploads SET is_listed = true, touched_at = now() WHERE workspace_id = $1 AND id = $2 RETURNING {COLUMNS}"
    );
    Ok(sqlx::query_as(AssertSqlSafe(sql)).bind(workspace_id).bind(id).fetch_one(connection).await?)
}

/// The upload that the next one replaces, if the workspace has as many as it may have.
async fn replaceable(connection: &mut PgConnection, workspace_id: Uuid) -> Result<Option<Uuid>> {
    let sql = format!(
        "SELECT id, {IN_USE} AS in_use FROM uploads WHERE workspace_id = $1 AND {IS_LISTED} ORDER BY created_at, id"
    );
    let uploads: Vec<(Uuid, bool)> =
        sqlx::query_as(AssertSqlSafe(sql)).bind(workspace_id).fetch_all(connection).await?;
    if uploads.len() < MOST {
        return Ok(None);
    }
    let message = "imports read all uploads of the workspace; delete one, or wait";
    match uploads.iter().find(|(_, in_use)| !in_use) {
        Some((id, _)) => Ok(Some(*id)),
        None => Err(Error::conflict_with(uploads[0].0, Reason::UploadsInUse, "upload", message)),
    }
}

/// The uploads of a workspace, newest first.
pub async fn list(connection: &mut PgConnection, workspace_id: Uuid) -> Result<Vec<StoredUpload>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM uploads WHERE workspace_id = $1 AND {IS_LISTED} ORDER BY created_at DESC, id DESC"
    );
    Ok(sqlx::query_as(AssertSqlSafe(sql)).bind(workspace_id).fetch_all(connection).await?)
}

/// Returns an upload.
///
/// # Errors
/// [`Error::NotFound`], also after it has expired.
pub async fn get(connection: &mut PgConnection, workspace_id: Uuid, id: Uuid) -> Result<StoredUpload> {
    let sql = format!("SELECT {COLUMNS} FROM uploads WHERE workspace_id = $1 AND id = $2 AND {IS_LISTED}");
    let upload = sqlx::query_as(AssertSqlSafe(sql)).bind(workspace_id).bind(id).fetch_optional(connection).await?;
    upload.ok_or(Error::NotFound)
}

/// Deletes an upload.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn delete(connection: &mut PgConnection, workspace_id: Uuid, id: Uuid) -> Result<()> {
    let deleted = sqlx::query("DELETE FROM uploads WHERE workspace_id = $1 AND id = $2")
        .bind(workspace_id)
        .bind(id)
        .execute(connection)
        .await?;
    if deleted.rows_affected() == 1 { Ok(()) } else { Err(Error::NotFound) }
}

/// Deletes an upload that will not be accepted. If this fails, [`sweep`] deletes it later.
pub async fn abandon(connection: &mut PgConnection, workspace_id: Uuid, id: Uuid) -> Result<()> {
    sqlx::query("DELETE FROM uploads WHERE workspace_id = $1 AND id = $2 AND NOT is_listed")
        .bind(workspace_id)
        .bind(id)
        .execute(connection)
        .await?;
    Ok(())
}

/// Deletes uploads that have expired, and those that were never accepted, unless somebody reads or writes them.
/// Returns their number.
pub async fn sweep(connection: &mut PgConnection) -> Result<u64> {
    let workspaces: Vec<Uuid> = sqlx::query_scalar(
        "SELECT DISTINCT workspace_id FROM uploads
         WHERE created_at < now() - interval '1 hour' AND (NOT is_listed OR created_at < now() - interval '24 hours')",
    )
    .fetch_all(&mut *connection)
    .await?;
    let sql = format!(
        "DELETE FROM uploads WHERE workspace_id = $1 AND touched_at < now() - interval '1 hour'
             AND (NOT is_listed OR created_at < now() - interval '24 hours') AND NOT {IN_USE}"
    );
    let mut swept = 0;
    for workspace_id in workspaces {
        let deleted = sqlx::query(AssertSqlSafe(sql.clone())).bind(workspace_id).execute(&mut *connection).await?;
        swept += deleted.rows_affected();
    }
    Ok(swept)
}

/// Reads the bytes of an upload, as many as it had at the beginning.
#[derive(Debug)]
pub struct StoredReader {
    workspace_id: Uuid,
    id: Uuid,
    at: i64,
    end: i64,
}

impl StoredReader {
    /// Reads an upload from its beginning.
    ///
    /// # Errors
    /// [`Error::Conflict`] if the upload is not complete.
    pub fn new(workspace_id: Uuid, upload: &StoredUpload) -> Result<Self> {
        if upload.length.is_some_and(|length| upload.size < length) {
            let message = "is not complete; send the rest of the file first";
            return Err(Error::conflict_with(upload.id, Reason::UploadIncomplete, "upload", message));
        }
        Ok(Self { workspace_id, id: upload.id, at: 0, end: upload.size })
    }

    /// Returns the next bytes.
    ///
    /// # Errors
    /// [`Error::Missing`] if the upload was deleted in the meantime.
    pub async fn next(&mut self, pool: &Pool) -> Result<Option<Vec<u8>>> {
        if self.at >= self.end {
            return Ok(None);
        }
        let data: Option<Vec<u8>> = sqlx::query_scalar(
            "SELECT data FROM upload_chunks WHERE workspace_id = $1 AND upload_id = $2 AND start = $3",
        )
        .bind(self.workspace_id)
        .bind(self.id)
        .bind(self.at)
        .fetch_optional(&mut *pool.acquire().await?)
        .await?;
        let data = data.ok_or_else(|| missing("upload"))?;
        self.at += data.len() as i64;
        Ok(Some(data))
    }
}

/// A reference to an upload that does not exist.
pub(super) fn missing(parameter: &str) -> Error {
    Error::Missing(
        FieldError::new(parameter, crate::error::NOT_FOUND, "no upload has this id, or it has expired").into(),
    )
}
