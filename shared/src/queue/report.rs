//! The events of jobs: that they wrote records, and how they ended.

use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use super::job::columns;
use super::{Job, JobStatus, Lease};
use crate::error::Result;
use crate::events::{self, Actor, ActorKind, EventType, NewEvent, Subject, SubjectType};
use crate::platform::trace::{self, TraceContext};

/// Which events the jobs of a kind have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Reporting {
    /// None: callers do not see the kind.
    #[default]
    None,
    /// How they ended.
    End,
    /// How they ended, and what they wrote so far.
    Records,
}

/// A job to report on.
#[derive(FromRow)]
struct Reported {
    #[sqlx(flatten)]
    job: Job,
    request_id: Option<String>,
    trace_context: Option<String>,
}

impl Reported {
    /// Records events in the trace of the job.
    async fn record(&self, connection: &mut PgConnection, actor: &Actor, types: &[EventType]) -> Result<()> {
        let new = self.events(types)?;
        let context = self.trace_context.as_deref().and_then(TraceContext::from_stored);
        trace::scope(context, events::record(connection, actor, new)).await
    }

    fn events(&self, types: &[EventType]) -> Result<Vec<NewEvent>> {
        types.iter().map(|event_type| event(*event_type, &self.job)).collect()
    }

    /// The job as the actor.
    fn itself(&self, workspace_id: Uuid) -> Actor {
        Actor { workspace_id, kind: ActorKind::Job, id: self.job.id, request_id: self.request_id.clone() }
    }
}

/// Records the events of jobs that have just ended, in the transaction that ended them. The actor is who ended them;
/// without one, the jobs themselves.
pub async fn report_end(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    actor: Option<&Actor>,
    ids: &[Uuid],
    reporting: impl Fn(&str) -> Reporting,
) -> Result<()> {
    let mut of_actor = Vec::new();
    for ended in read(connection, workspace_id, ids).await? {
        let end = match ended.job.status {
            JobStatus::Succeeded => EventType::JobSucceeded,
            JobStatus::Failed => EventType::JobFailed,
            JobStatus::Cancelled => EventType::JobCancelled,
            JobStatus::Queued | JobStatus::Running => continue,
        };
        let types: &[EventType] = match reporting(&ended.job.kind) {
            Reporting::None => continue,
            Reporting::End => &[end],
            Reporting::Records => &[EventType::JobChanged, end],
        };
        match actor {
            // One statement for all of them, in the trace of whoever ended them.
            Some(_) => of_actor.extend(ended.events(types)?),
            None => ended.record(connection, &ended.itself(workspace_id), types).await?,
        }
    }
    match actor {
        Some(actor) => events::record(connection, actor, of_actor).await,
        None => Ok(()),
    }
}

/// Records the event that a running job wrote records, in the transaction of its step.
pub async fn report_progress(connection: &mut PgConnection, lease: Lease) -> Result<()> {
    for running in read(connection, lease.workspace_id, &[lease.id]).await? {
        running.record(connection, &running.itself(lease.workspace_id), &[EventType::JobChanged]).await?;
    }
    Ok(())
}

async fn read(connection: &mut PgConnection, workspace_id: Uuid, ids: &[Uuid]) -> Result<Vec<Reported>> {
    let jobs = sqlx::query_as(concat!(
        "SELECT ",
        columns!(),
        ", request_id, trace_context FROM jobs WHERE workspace_id = $1 AND id = ANY ($2) ORDER BY id"
    ));
    Ok(jobs.bind(workspace_id).bind(ids).fetch_all(connection).await?)
}

/// An event of a job.
///
/// # Errors
/// [`Error::Internal`](crate::Error::Internal) if the job cannot be serialized.
pub(crate) fn event(event_type: EventType, job: &Job) -> Result<NewEvent> {
    NewEvent::new(event_type, Subject { kind: SubjectType::Job, id: job.id }, job)
}
