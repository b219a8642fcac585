//! Enrolling the leads that older versions nurtured: those that have received a step, and those that were not
//! imported.

use futures_util::future::BoxFuture;
use sqlx::{PgConnection, SqlSafeStr, SqlStr};
use uuid::Uuid;

use crate::error::Result;
use crate::platform::backfill::{BATCH, Backfill, Batch};

/// The leads.
pub(super) struct Enrolment;

impl Backfill for Enrolment {
    fn name(&self) -> &'static str {
        // After `leads`, whose columns the checks of the table need: backfills run in the order of their names.
        "leads_enrolment"
    }

    fn count(&self) -> SqlStr {
        "SELECT count(*) FROM leads WHERE workspace_id = $1".into_sql_str()
    }

    fn rewrite<'a>(
        &'a self,
        connection: &'a mut PgConnection,
        workspace_id: Uuid,
        after: Uuid,
    ) -> BoxFuture<'a, Result<Option<Batch>>> {
        Box::pin(async move {
            let ids: Vec<Uuid> = sqlx::query_scalar(
                "SELECT id FROM leads WHERE workspace_id = $1 AND id > $2 ORDER BY id LIMIT $3 FOR UPDATE",
            )
            .bind(workspace_id)
            .bind(after)
            .bind(BATCH)
            .fetch_all(&mut *connection)
            .await?;
            // A lead that is over left when it reached its status.
            sqlx::query(
                "UPDATE leads SET nurture_enrolled_at = created_at,
                     nurture_left = CASE WHEN status IN ('converted', 'won', 'lost') THEN status END,
                     nurture_left_at = CASE status
                         WHEN 'converted' THEN coalesce(converted_at, updated_at)
                         WHEN 'won' THEN coalesce(won_at, updated_at)
                         WHEN 'lost' THEN coalesce(lost_at, updated_at)
                     END
                 WHERE workspace_id = $1 AND id = ANY ($2) AND nurture_enrolled_at IS NULL AND nurture_left_at IS NULL
                     AND (import_job_id IS NULL OR EXISTS (
                         SELECT FROM nurture_steps
                         WHERE nurture_steps.workspace_id = $1 AND nurture_steps.lead_id = leads.id
                     ))",
            )
            .bind(workspace_id)
            .bind(&ids)
            .execute(connection)
            .await?;
            Ok(Batch::of(&ids))
        })
    }
}
