//! Who a caller is: its workspace and its API key.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{FromRow, PgConnection};
use utoipa::ToSchema;
use uuid::Uuid;

use super::settings::{self, TimeZone};
use crate::error::Result;

/// The caller of a request.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The workspace of the key.
    pub workspace: CallerWorkspace,
    /// The key that the request was sent with.
    pub key: CallerKey,
}

/// The workspace of a caller.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct CallerWorkspace {
    /// The id of the workspace.
    pub id: Uuid,
    /// The name of the workspace.
    pub name: String,
    /// The time zone of the workspace's dates and times.
    #[schema(value_type = String)]
    pub time_zone: TimeZone,
}

/// The API key of a caller.
#[derive(Debug, Clone, Serialize, FromRow, ToSchema)]
pub struct CallerKey {
    /// The id of the key.
    pub id: Uuid,
    /// The purpose of the key.
    pub name: String,
    /// When the key expires.
    pub expires_at: Option<DateTime<Utc>>,
}

/// Returns the owner of a key.
///
/// # Errors
/// [`Error::NotFound`](crate::Error::NotFound) if the workspace has no such key.
pub async fn get(connection: &mut PgConnection, workspace_id: Uuid, key_id: Uuid) -> Result<Identity> {
    let Row { workspace: name, key } = sqlx::query_as(
        "SELECT workspaces.name AS workspace, api_keys.id, api_keys.name, api_keys.expires_at
         FROM workspaces JOIN api_keys ON api_keys.workspace_id = workspaces.id
         WHERE workspaces.id = $1 AND api_keys.workspace_id = $1 AND api_keys.id = $2",
    )
    .bind(workspace_id)
    .bind(key_id)
    .fetch_one(&mut *connection)
    .await?;
    let time_zone = settings::get(connection, workspace_id).await?.time_zone;
    let workspace = CallerWorkspace { id: workspace_id, name, time_zone };
    Ok(Identity { workspace, key })
}

#[derive(FromRow)]
struct Row {
    workspace: String,
    #[sqlx(flatten)]
    key: CallerKey,
}
