//! How the secrets of webhooks are stored, for `crm-api doctor`.

use sqlx::PgConnection;
use uuid::Uuid;

use super::seal::Sealer;
use super::{secret, target};
use crate::error::Result;

/// The stored secrets and headers of a workspace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sealed {
    /// Those that are not encrypted.
    pub readable: usize,
    /// Those that cannot be decrypted with the key in the settings.
    pub unreadable: usize,
}

/// Counts the stored secrets and headers of a workspace that need attention.
pub async fn sealed(connection: &mut PgConnection, workspace_id: Uuid, sealer: &Sealer) -> Result<Sealed> {
    let endpoints: Vec<(Uuid, Vec<u8>, Vec<u8>)> = sqlx::query_as(
        "SELECT id, secret, headers FROM webhooks WHERE workspace_id = $1 AND deleted_at IS NULL ORDER BY id",
    )
    .bind(workspace_id)
    .fetch_all(&mut *connection)
    .await?;
    let callbacks: Vec<Vec<u8>> =
        sqlx::query_scalar("SELECT secret FROM webhook_callback_secrets WHERE workspace_id = $1")
            .bind(workspace_id)
            .fetch_all(connection)
            .await?;
    let endpoints = endpoints
        .into_iter()
        .flat_map(|(id, secret, headers)| [(id, secret::FIELD, secret), (id, target::HEADERS, headers)]);
    let callbacks = callbacks.into_iter().map(|secret| (workspace_id, secret::FIELD, secret));
    let mut found = Sealed::default();
    for (id, field, sealed) in endpoints.chain(callbacks) {
        found.readable += usize::from(Sealer::is_readable(&sealed));
        found.unreadable += usize::from(sealer.open((workspace_id, id, field), &sealed).is_err());
    }
    Ok(found)
}
