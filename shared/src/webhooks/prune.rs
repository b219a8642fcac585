//! Deleting old deliveries.

use chrono::{TimeDelta, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::Result;

/// How long deliveries are kept, by the time of their events.
const KEEP: TimeDelta = TimeDelta::days(30);

/// Deletes up to `limit` deliveries of a workspace that are old, and as many messages, and those of deleted endpoints.
/// Returns the number of rows.
pub async fn prune(connection: &mut PgConnection, workspace_id: Uuid, limit: i64) -> Result<u64> {
    // Ids rise with time, so the primary keys find old rows.
    let seconds = u64::try_from((Utc::now() - KEEP).timestamp()).unwrap_or(0);
    let first_kept = Uuid::new_v7(uuid::Timestamp::from_unix_time(seconds, 0, 0, 0));
    let mut pruned = 0;
    for statement in [
        "DELETE FROM webhook_deliveries WHERE workspace_id = $1 AND id = ANY (ARRAY(
             SELECT id FROM webhook_deliveries WHERE workspace_id = $1 AND id < $2 ORDER BY id LIMIT $3
         ))",
        "DELETE FROM webhook_messages WHERE workspace_id = $1 AND id = ANY (ARRAY(
             SELECT id FROM webhook_messages WHERE workspace_id = $1 AND id < $2 ORDER BY id LIMIT $3
         ))",
        "DELETE FROM webhook_callbacks WHERE workspace_id = $1 AND id = ANY (ARRAY(
             SELECT id FROM webhook_callbacks WHERE workspace_id = $1 AND id < $2 ORDER BY id LIMIT $3
         ))",
    ] {
        let deleted = sqlx::query(statement).bind(workspace_id).bind(first_kept).bind(limit);
        pruned += deleted.execute(&mut *connection).await?.rows_affected();
    }
    let deleted: Vec<Uuid> =
        sqlx::query_scalar("SELECT id FROM webhooks WHERE workspace_id = $1 AND deleted_at IS NOT NULL")
            .bind(workspace_id)
            .fetch_all(&mut *connection)
            .await?;
    for id in deleted {
        pruned += forget(connection, workspace_id, id, limit).await?;
    }
    Ok(pruned)
}

/// Deletes deliveries to a deleted endpoint, and the endpoint after the last one.
async fn forget(connection: &mut PgConnection, workspace_id: Uuid, webhook_id: Uuid, limit: i64) -> Result<u64> {
    let deliveries = sqlx::query(
        "DELETE FROM webhook_deliveries WHERE workspace_id = $1 AND id = ANY (ARRAY(
             SELECT id FROM webhook_deliveries WHERE workspace_id = $1 AND webhook_id = $2 ORDER BY id LIMIT $3
         ))",
    );
    let deliveries = deliveries.bind(workspace_id).bind(webhook_id).bind(limit).execute(&mut *connection).await?;
    if deliveries.rows_affected() > 0 {
        return Ok(deliveries.rows_affected());
    }
    let endpoint = sqlx::query(
        "DELETE FROM webhooks WHERE workspace_id = $1 AND id = $2 AND deleted_at IS NOT NULL AND NOT EXISTS (
             SELECT FROM webhook_deliveries WHERE workspace_id = $1 AND webhook_id = $2
         )",
    );
    Ok(endpoint.bind(workspace_id).bind(webhook_id).execute(connection).await?.rows_affected())
}
