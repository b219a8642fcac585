//! Walks over what a job wrote, for endpoints that want an event for each record.
//!
//! A walk begins when the job ends. It adds deliveries in small steps while little else is due, so a job of a million
//! records takes no more space than is being delivered.

use sqlx::{Connection, FromRow, PgConnection};
use uuid::Uuid;

use super::fan_out::add;
use super::insert::NewDelivery;
use super::queue::{Hold, fence};
use super::target::subscriptions;
use super::{Bulk, FannedOut};
use crate::error::Result;
use crate::events::Event;
use crate::platform::db;

/// The position of a walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromRow)]
pub struct Walk {
    /// The endpoint.
    pub webhook_id: Uuid,
    /// The job.
    pub job_id: Uuid,
    /// The number of the event that the job ended.
    pub number: i64,
    /// Which type of record is walked over.
    pub stage: i16,
    /// The last position within the stage.
    pub after: Option<Uuid>,
}

/// What a step found.
#[derive(Debug, Default)]
pub struct Step {
    /// The events of its records.
    pub events: Vec<Event>,
    /// Where the next step begins; `None` at the end.
    pub next: Option<(i16, Option<Uuid>)>,
}

/// Begins walks over what jobs wrote, from the start if there was one before.
pub(super) async fn begin(connection: &mut PgConnection, workspace_id: Uuid, walks: &[Walk]) -> Result<()> {
    if walks.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO webhook_walks (workspace_id, webhook_id, job_id, number, stage, created_at)
         SELECT $1, webhook_id, job_id, number, 0, $2
         FROM unnest($3::uuid[], $4::uuid[], $5::bigint[]) AS new (webhook_id, job_id, number)
         ON CONFLICT (workspace_id, webhook_id, job_id) DO UPDATE
             SET number = excluded.number, stage = 0, after = NULL",
    )
    .bind(workspace_id)
    .bind(db::now())
    .bind(walks.iter().map(|walk| walk.webhook_id).collect::<Vec<_>>())
    .bind(walks.iter().map(|walk| walk.job_id).collect::<Vec<_>>())
    .bind(walks.iter().map(|walk| walk.number).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

/// Returns the walks of a workspace.
pub async fn walks(connection: &mut PgConnection, workspace_id: Uuid) -> Result<Vec<Walk>> {
    let walks = sqlx::query_as(
        "SELECT webhook_id, job_id, number, stage, after FROM webhook_walks WHERE workspace_id = $1
         ORDER BY created_at, webhook_id, job_id",
    );
    Ok(walks.bind(workspace_id).fetch_all(connection).await?)
}

/// Adds the deliveries of a step and moves the walk, in one transaction. A walk for an endpoint that does not want it any
/// more ends.
///
/// # Errors
/// [`Error::Superseded`](crate::Error::Superseded) if another worker has taken over the workspace.
pub async fn advance(connection: &mut PgConnection, hold: Hold, walk: Walk, step: Step) -> Result<FannedOut> {
    let workspace_id = hold.workspace_id;
    let mut transaction = connection.begin().await?;
    fence(&mut transaction, hold).await?;
    let endpoint = subscriptions(&mut transaction, workspace_id, Some(walk.webhook_id)).await?.pop();
    let endpoint = endpoint.filter(|endpoint| endpoint.bulk == Bulk::Each);
    let mut deliveries: Vec<NewDelivery> = Vec::new();
    if let Some(endpoint) = &endpoint {
        let wanted = step.events.iter().filter(|event| endpoint.wants(event));
        deliveries.extend(wanted.map(|event| endpoint.delivery(event)));
        add(&mut transaction, workspace_id, &step.events, &mut deliveries).await?;
    }
    let next = step.next.filter(|_| endpoint.is_some());
    move_to(&mut transaction, workspace_id, walk, next).await?;
    transaction.commit().await?;
    Ok(FannedOut { deliveries: deliveries.len(), has_more: next.is_some(), ..FannedOut::default() })
}

/// Moves a walk, or ends it.
async fn move_to(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    walk: Walk,
    next: Option<(i16, Option<Uuid>)>,
) -> Result<()> {
    let moved = match next {
        Some((stage, after)) => sqlx::query(
            "UPDATE webhook_walks SET stage = $5, after = $6
             WHERE workspace_id = $1 AND webhook_id = $2 AND job_id = $3 AND number = $4",
        )
        .bind(workspace_id)
        .bind(walk.webhook_id)
        .bind(walk.job_id)
        .bind(walk.number)
        .bind(stage)
        .bind(after),
        None => sqlx::query(
            "DELETE FROM webhook_walks WHERE workspace_id = $1 AND webhook_id = $2 AND job_id = $3 AND number = $4",
        )
        .bind(workspace_id)
        .bind(walk.webhook_id)
        .bind(walk.job_id)
        .bind(walk.number),
    };
    moved.execute(connection).await?;
    Ok(())
}
