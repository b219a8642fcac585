//! The schedule of a workspace's nightly run, which exists from the workspace's creation on and follows its settings.

use chrono::Timelike;
use sqlx::PgConnection;
use uuid::Uuid;

use super::settings::Settings;
use crate::error::Result;

/// The kind of the nightly run's job.
pub(crate) const KIND: &str = "nightly";

/// Creates the schedule of a new workspace. A worker finds out when it is due.
pub(super) async fn create(connection: &mut PgConnection, workspace_id: Uuid) -> Result<()> {
    let settings = Settings::default();
    sqlx::query(
        "INSERT INTO schedules (workspace_id, id, kind, cron, time_zone, overlap, catch_up, passed_until, due_at)
         VALUES ($1, $2, $3, $4, $5, 'queue', 'latest', now(), now())",
    )
    .bind(workspace_id)
    .bind(Uuid::now_v7())
    .bind(KIND)
    .bind(expression(&settings))
    .bind(settings.time_zone.get().name())
    .execute(connection)
    .await?;
    Ok(())
}

/// Moves the nightly run to the time in the workspace's settings.
pub(super) async fn follow(connection: &mut PgConnection, workspace_id: Uuid, settings: &Settings) -> Result<()> {
    sqlx::query(
        "UPDATE schedules SET cron = $3, time_zone = $4, due_at = now(), updated_at = now()
         WHERE workspace_id = $1 AND kind = $2 AND (cron <> $3 OR time_zone <> $4)",
    )
    .bind(workspace_id)
    .bind(KIND)
    .bind(expression(settings))
    .bind(settings.time_zone.get().name())
    .execute(connection)
    .await?;
    Ok(())
}

/// The cron expression of the nightly run.
fn expression(settings: &Settings) -> String {
    let at = settings.nightly_at.get();
    format!("{} {} * * *", at.minute(), at.hour())
}
