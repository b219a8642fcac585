//! Every kind of job, listed once: the API offers these kinds, and workers run them.
//!
//! A kind is a [`Payload`], declared in the module of its records. A kind that processes pages of
//! records implements [`Pages`](crate::queue::Pages) next to it; any other kind has a handler in
//! the worker.

use sqlx::PgConnection;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::Schema;
use utoipa::{PartialSchema, ToSchema};
use uuid::Uuid;

use crate::accounts::readable;
use crate::accounts::scopes::{Scope, Scopes};
use crate::bulk::BulkAction;
use crate::error::{Error, Result};
use crate::events::{self, Actor, EventType, NewEvent, Subject, SubjectType};
use crate::platform::db;
use crate::query::{ListField, Order, OrderKind, Spec};
use crate::queue::{self, ATTEMPT, Job, JobStatus, Payload, RETRY_AT, Reporting, STATUS};
use crate::values::kind;

/// Calls a macro with every kind of job: those that run page by page, and those with a handler.
#[macro_export]
macro_rules! job_kinds {
    ($then:ident) => {
        $then! {
            runs: [
                $crate::workflows::nurture::NurtureLeads,
                $crate::workflows::followups::ProcessFollowups,
                $crate::workflows::feedback_requests::RequestFeedback,
                $crate::workflows::feedback_reminders::RemindFeedback,
                $crate::insight::health::SnapshotHealth,
                $crate::schedule::nightly::CleanUp,
                $crate::webhooks::replay::ReplayWebhook,
                $crate::crm::bulk::BulkLeads,
                $crate::crm::bulk::BulkCustomers,
                $crate::crm::bulk::BulkOrders,
            ],
            handlers: [
                $crate::imports::ImportLeads,
                $crate::imports::ImportCustomers,
                $crate::imports::ImportOrders,
                $crate::imports::ImportLeadInteractions,
                $crate::imports::ImportCustomerInteractions,
                $crate::imports::ImportFeedback,
                $crate::imports::ImportSuppressions,
                $crate::imports::UndoImport,
                $crate::bulk::UndoBulk,
                $crate::insight::themes::FindThemes,
                $crate::schedule::nightly::Nightly,
            ]
        }
    };
}

/// A kind of job.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// The kind's name in the API.
    pub name: &'static str,
    /// The queue of its jobs.
    pub queue: &'static str,
    /// Whether a caller can confirm the number of emails that a job may write.
    pub confirmable: bool,
    /// Which events its jobs have.
    pub reporting: Reporting,
    /// The name of the schema of its result, and that schema with all that it refers to.
    pub result: fn() -> ResultSchema,
}

/// The name of a schema, and that schema with all that it refers to.
pub type ResultSchema = (String, Vec<(String, RefOr<Schema>)>);

impl Kind {
    const fn of<P: Payload>() -> Self {
        let reporting = if P::WRITES_RECORDS { Reporting::Records } else { Reporting::End };
        Self { name: P::KIND, queue: P::QUEUE, confirmable: P::CONFIRMABLE, reporting, result: result_of::<P> }
    }
}

fn result_of<P: Payload>() -> ResultSchema {
    let name = P::Result::name().into_owned();
    let mut schemas = vec![(name.clone(), <P::Result as PartialSchema>::schema())];
    P::Result::schemas(&mut schemas);
    (name, schemas)
}

macro_rules! kinds {
    (runs: [$($run:ty),+ $(,)?], handlers: [$($handler:ty),+ $(,)?]) => {
        &[$(Kind::of::<$run>(),)+ $(Kind::of::<$handler>(),)+]
    };
}

/// Every kind.
pub const KINDS: &[Kind] = job_kinds!(kinds);

/// The names of the kinds.
pub const NAMES: [&str; KINDS.len()] = {
    let mut names = [""; KINDS.len()];
    let mut i = 0;
    while i < names.len() {
        names[i] = KINDS[i].name;
        i += 1;
    }
    names
};

/// Returns the queue of a kind's jobs.
pub fn queue_of(name: &str) -> Option<&'static str> {
    KINDS.iter().find(|kind| kind.name == name).map(|kind| kind.queue)
}

/// Which events the jobs of a kind have.
pub fn reporting(name: &str) -> Reporting {
    KINDS.iter().find(|kind| kind.name == name).map(|kind| kind.reporting).unwrap_or_default()
}

/// Cancels an unfinished job as [`queue::cancel`] does, and records its events. Needs a transaction.
pub async fn cancel(connection: &mut PgConnection, actor: &Actor, id: Uuid) -> Result<Job> {
    let Some(job) = queue::cancel_unfinished(connection, actor.workspace_id, id).await? else {
        return queue::get(connection, actor.workspace_id, id).await;
    };
    queue::report_end(connection, actor.workspace_id, Some(actor), &[id], reporting).await?;
    Ok(job)
}

/// Retries a job as [`queue::retry`] does, and lets it write at most the confirmed number of emails. Needs a
/// transaction.
///
/// # Errors
/// Also [`Error::Invalid`] if the job writes no emails, so that there is nothing to confirm.
pub async fn retry(connection: &mut PgConnection, workspace_id: Uuid, id: Uuid, confirm: Option<u32>) -> Result<Job> {
    if let Some(number) = confirm {
        let job = queue::get(connection, workspace_id, id).await?;
        if !KINDS.iter().any(|kind| kind.name == job.kind && kind.confirmable) {
            return Err(Error::invalid("confirm", "not_allowed", "is allowed only for a run that writes emails"));
        }
        queue::confirm(connection, workspace_id, id, number).await?;
    }
    queue::retry(connection, workspace_id, id).await
}

/// What a caller does with a job of its own or of another key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobUse {
    /// Reads or cancels it.
    Follow,
    /// Reads records in its rows.
    Rows,
    /// Starts it again.
    Retry,
    /// Takes its changes back.
    Undo,
}

/// The scopes that a use of a job needs: that which starts its kind, and those of what is done. `None` if the
/// workspace has no such job.
pub async fn needed(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    id: Uuid,
    usage: JobUse,
) -> Result<Option<Scopes>> {
    let select = "SELECT kind, payload ->> 'action' FROM jobs WHERE workspace_id = $1 AND id = $2";
    let job: Option<(String, Option<String>)> =
        sqlx::query_as(select).bind(workspace_id).bind(id).fetch_optional(connection).await?;
    Ok(job.map(|(kind, action)| {
        let action = action.filter(|_| kind.starts_with("bulk_")).and_then(|word| BulkAction::from_word(&word));
        let more = match usage {
            JobUse::Follow => Scopes::NONE,
            JobUse::Rows => Scopes::of(&[Scope::RecordsRead]),
            JobUse::Retry => action.map_or(Scopes::NONE, BulkAction::needs),
            JobUse::Undo => action.map_or(Scopes::NONE, BulkAction::undo_needs),
        };
        Scopes::of(&[Scope::of_job(&kind)]).and(more)
    }))
}

/// The list of the jobs that a key with these scopes may start.
pub fn list_for(scopes: Scopes) -> &'static Spec {
    &LISTS[readable::kinds(scopes)]
}

static LISTS: [Spec; readable::KINDS.len()] = {
    let mut lists = [LIST; readable::KINDS.len()];
    let mut i = 0;
    while i < lists.len() {
        lists[i].only = readable::KINDS[i];
        i += 1;
    }
    lists
};

/// Records that a job was requested, in the transaction of the request, unless the job is an earlier one that does the
/// same.
pub async fn report_created(connection: &mut PgConnection, actor: &Actor, job: &Job) -> Result<()> {
    // Jobs are created at the time of their transaction.
    if job.created_at == db::database_now(connection).await? {
        report(connection, actor, EventType::JobCreated, job).await?;
    }
    Ok(())
}

/// Records what an actor did to a job, in the transaction of it.
pub async fn report(connection: &mut PgConnection, actor: &Actor, what: EventType, job: &Job) -> Result<()> {
    let subject = Subject { kind: SubjectType::Job, id: job.id };
    events::record(connection, actor, vec![NewEvent::new(what, subject, job)?]).await
}

/// How jobs are listed. Ids rise with time, so ordering by id orders by creation.
pub const LIST: Spec = Spec {
    table: "jobs",
    fields: &[
        ListField::new("id", kind::Kind::Id),
        ListField::new("kind", kind::Kind::Word(&NAMES)),
        ListField::computed("status", kind::Kind::Word(JobStatus::WORDS), STATUS),
        ListField::new("progress", kind::Kind::Json),
        ListField::new("result", kind::Kind::Json),
        ListField::new("error", kind::Kind::Text),
        ListField::computed("retry_at", kind::Kind::Time, RETRY_AT),
        ListField::computed("attempt", kind::Kind::Number, ATTEMPT),
        ListField::new("created_at", kind::Kind::Time),
        ListField::new("started_at", kind::Kind::Time),
        ListField::new("finished_at", kind::Kind::Time),
        ListField::new("subject", kind::Kind::Json),
    ],
    filters: &[
        ListField::computed("subject.type", kind::Kind::Line, "subject_type"),
        ListField::computed("subject.id", kind::Kind::Id, "subject_id"),
    ],
    orders: &[Order { name: "created_at", expression: "id", kind: OrderKind::Id }],
    indexed: &[],
    searchable: false,
    branches: None,
    only: None,
};
