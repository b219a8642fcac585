//! Retrying and cancelling jobs.

use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::find::still_matching;
use super::{JobDecision, JobFilter};
use crate::error::Result;
use crate::events::{self, Actor, EventType, NewEvent, Subject, SubjectType};
use crate::jobs;
use crate::operations::actions::actor;
use crate::operations::batches::Changed;
use crate::queue;
use crate::workflows::brake::TOO_MANY_EMAILS;

impl JobDecision {
    /// Decides about those of the jobs that still match, in one transaction, as callers can.
    pub(in crate::operations) async fn apply(
        self,
        connection: &mut PgConnection,
        action_id: Uuid,
        workspace_id: Uuid,
        ids: &[Uuid],
        filter: &JobFilter,
    ) -> Result<Changed> {
        let mut transaction = connection.begin().await?;
        let matching = still_matching(&mut transaction, workspace_id, ids, filter).await?;
        let actor = actor(workspace_id, action_id);
        let changed = match self {
            Self::Retry => retry(&mut transaction, &actor, matching).await?,
            Self::Cancel => cancel(&mut transaction, &actor, &matching).await?,
        };
        transaction.commit().await?;
        Ok(changed)
    }
}

/// A job that wants to write too many emails is left out: somebody has to confirm their number.
async fn retry(connection: &mut PgConnection, actor: &Actor, mut ids: Vec<Uuid>) -> Result<Changed> {
    let left_out = unconfirmed(connection, actor.workspace_id, &ids).await?;
    ids.retain(|id| !left_out.contains(id));
    let retried = queue::retry_all(connection, actor.workspace_id, &ids).await?;
    let event =
        |job: &queue::Job| NewEvent::new(EventType::JobRetried, Subject { kind: SubjectType::Job, id: job.id }, job);
    let events = retried.iter().map(event).collect::<Result<_>>()?;
    events::record(connection, actor, events).await?;
    let mut queues: Vec<&'static str> = retried.iter().filter_map(|job| jobs::queue_of(&job.kind)).collect();
    queues.sort_unstable();
    queues.dedup();
    Ok(Changed { done: retried.iter().map(|job| job.id).collect(), left_out, queues })
}

/// Those of the jobs that wait until somebody confirms how many emails they write.
async fn unconfirmed(connection: &mut PgConnection, workspace_id: Uuid, ids: &[Uuid]) -> Result<Vec<Uuid>> {
    let select = "SELECT id FROM jobs WHERE workspace_id = $1 AND id = ANY ($2) AND starts_with(error, $3) ORDER BY id";
    Ok(sqlx::query_scalar(select).bind(workspace_id).bind(ids).bind(TOO_MANY_EMAILS).fetch_all(connection).await?)
}

async fn cancel(connection: &mut PgConnection, actor: &Actor, ids: &[Uuid]) -> Result<Changed> {
    let cancelled = queue::cancel_all(connection, actor.workspace_id, ids).await?;
    queue::report_end(connection, actor.workspace_id, Some(actor), &cancelled, jobs::reporting).await?;
    Ok(Changed { done: cancelled, ..Changed::default() })
}
