//! Retrying and cancelling jobs.

use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::JobFilter;
use super::find::still_matching;
use crate::error::{Error, Result};
use crate::events::{self, EventType, NewEvent, Subject, SubjectType};
use crate::jobs;
use crate::operations::actions::actor;
use crate::operations::batches::Changed;
use crate::queue;
use crate::workflows::brake::TOO_MANY_EMAILS;

/// How often a transaction is repeated that met a concurrent one.
const TRIES: usize = 5;

/// Retries those of the jobs that still match, in one transaction, as callers can. A job that wants to write too many
/// emails is left out: somebody has to confirm their number.
pub(in crate::operations) async fn retry(
    connection: &mut PgConnection,
    action_id: Uuid,
    workspace_id: Uuid,
    ids: &[Uuid],
    filter: &JobFilter,
) -> Result<Changed> {
    for _ in 1..TRIES {
        match retry_once(connection, action_id, workspace_id, ids, filter).await {
            Err(Error::Repeat(_)) => {}
            done => return done,
        }
    }
    retry_once(connection, action_id, workspace_id, ids, filter).await
}

async fn retry_once(
    connection: &mut PgConnection,
    action_id: Uuid,
    workspace_id: Uuid,
    ids: &[Uuid],
    filter: &JobFilter,
) -> Result<Changed> {
    let mut transaction = connection.begin().await?;
    let mut matching = still_matching(&mut transaction, workspace_id, ids, filter).await?;
    let left_out = unconfirmed(&mut transaction, workspace_id, &matching).await?;
    matching.retain(|id| !left_out.contains(id));
    let retried = queue::retry_all(&mut transaction, workspace_id, &matching).await?;
    let event =
        |job: &queue::Job| NewEvent::new(EventType::JobRetried, Subject { kind: SubjectType::Job, id: job.id }, job);
    let events = retried.iter().map(event).collect::<Result<_>>()?;
    events::record(&mut transaction, &actor(workspace_id, action_id), events).await?;
    transaction.commit().await?;
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

/// Cancels those of the jobs that still match, in one transaction, as callers can.
pub(in crate::operations) async fn cancel(
    connection: &mut PgConnection,
    action_id: Uuid,
    workspace_id: Uuid,
    ids: &[Uuid],
    filter: &JobFilter,
) -> Result<Changed> {
    let mut transaction = connection.begin().await?;
    let matching = still_matching(&mut transaction, workspace_id, ids, filter).await?;
    let cancelled = queue::cancel_all(&mut transaction, workspace_id, &matching).await?;
    let actor = actor(workspace_id, action_id);
    queue::report_end(&mut transaction, workspace_id, Some(&actor), &cancelled, jobs::reporting).await?;
    transaction.commit().await?;
    Ok(Changed { done: cancelled, ..Changed::default() })
}
