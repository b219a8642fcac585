//! What a schedule starts: the kinds of jobs that callers may start without a file, with their parameters.
//!
//! The parameters are those of the request that starts such a job, and the same functions read them.

use serde_json::{Map, Value};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::accounts::nightly;
use crate::accounts::scopes::{Scope, Scopes};
use crate::bulk::{self, Request, UndoBulk};
use crate::crm::bulk::{self as bulk_changes, BulkCustomers, BulkLeads, BulkOrders};
use crate::error::{Error, FieldError, FieldErrors, Result};
use crate::events::Actor;
use crate::imports::UndoImport;
use crate::query::parameters::{no_texts, texts};
use crate::queue::{self, Job, NewJob, Payload};
use crate::values::json_body::Object;
use crate::workflows::feedback_reminders::RemindFeedback;
use crate::workflows::feedback_requests::{self, RequestFeedback};
use crate::workflows::followups::ProcessFollowups;
use crate::workflows::nurture::NurtureLeads;

/// The kinds of jobs that a caller can schedule.
pub(super) const KINDS: [&str; 9] = [
    NurtureLeads::KIND,
    ProcessFollowups::KIND,
    RemindFeedback::KIND,
    RequestFeedback::KIND,
    BulkLeads::KIND,
    BulkCustomers::KIND,
    BulkOrders::KIND,
    UndoImport::KIND,
    UndoBulk::KIND,
];

/// The kinds of jobs that schedules start.
pub(super) const LISTED_KINDS: [&str; KINDS.len() + 1] = {
    let mut listed = [nightly::KIND; KINDS.len() + 1];
    let mut i = 0;
    while i < KINDS.len() {
        listed[i] = KINDS[i];
        i += 1;
    }
    listed
};

/// A job that a schedule starts.
#[derive(Debug)]
pub(super) enum Work {
    Nurture(NurtureLeads),
    Followups(ProcessFollowups),
    Reminders(RemindFeedback),
    Request { customer_id: Uuid },
    Bulk { kind: &'static str, request: Box<Request> },
    Undo { kind: &'static str, job_id: Uuid },
}

impl Work {
    /// Reads the parameters of a kind. `asked` says whether a caller asks for the job at this moment.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every fault.
    pub fn read(workspace_id: Uuid, kind: &str, params: &Map<String, Value>, asked: bool) -> Result<Self> {
        let kind = KINDS.into_iter().find(|known| *known == kind);
        let kind = kind.ok_or_else(|| Error::internal("a schedule starts an unknown kind of job"))?;
        let params = params.clone();
        if let Some(request) = bulk_changes::read(kind, workspace_id, Object::new(params.clone())) {
            return Ok(Self::Bulk { kind, request: request?.into() });
        }
        Ok(match kind {
            NurtureLeads::KIND => Self::Nurture(nurture(workspace_id, params, asked)?),
            ProcessFollowups::KIND => Self::Followups(ProcessFollowups::read(&parameters(params)?, asked)?),
            RemindFeedback::KIND => Self::Reminders(RemindFeedback::read(&parameters(params)?, asked)?),
            RequestFeedback::KIND => Self::Request { customer_id: only_id(params, "customer_id")? },
            _ => Self::Undo { kind, job_id: only_id(params, "job_id")? },
        })
    }

    /// Checks that what the parameters refer to exists.
    ///
    /// # Errors
    /// [`Error::Missing`]; [`Error::Invalid`] for a job of another kind.
    pub async fn check_references(&self, connection: &mut PgConnection, workspace_id: Uuid) -> Result<()> {
        match self {
            Self::Nurture(_) | Self::Followups(_) | Self::Reminders(_) => Ok(()),
            Self::Request { customer_id } => {
                feedback_requests::check_customer(connection, workspace_id, *customer_id).await
            }
            Self::Bulk { kind, request } => {
                bulk_changes::check_references(connection, kind, workspace_id, request).await
            }
            Self::Undo { kind, job_id } => match queue::get(connection, workspace_id, *job_id).await {
                Ok(job) if job.kind.starts_with(if *kind == UndoBulk::KIND { "bulk_" } else { "import_" }) => Ok(()),
                Ok(job) => Err(Error::invalid(
                    "job_id",
                    "invalid",
                    format!("must be a job that {kind} undoes, not {}", job.kind),
                )),
                Err(Error::NotFound) => Err(Error::missing("job_id")),
                Err(error) => Err(error),
            },
        }
    }

    /// Checks that a key with these scopes may start the job.
    ///
    /// # Errors
    /// [`Error::Forbidden`] with the scopes that it lacks.
    pub async fn check_scopes(&self, connection: &mut PgConnection, workspace_id: Uuid, scopes: Scopes) -> Result<()> {
        let more = match self {
            Self::Nurture(_) | Self::Followups(_) | Self::Reminders(_) | Self::Request { .. } => Scopes::NONE,
            Self::Bulk { request, .. } => request.action().needs(),
            Self::Undo { kind: UndoBulk::KIND, job_id } => bulk::undo_needs(connection, workspace_id, *job_id).await?,
            Self::Undo { .. } => Scopes::of(&[Scope::Imports]),
        };
        scopes.must(more)
    }

    /// Enqueues the job. Needs a transaction.
    ///
    /// # Errors
    /// Those of the request that starts such a job.
    pub async fn start(&self, connection: &mut PgConnection, actor: &Actor) -> Result<Job> {
        match self {
            Self::Nurture(run) => enqueue(connection, actor, run).await,
            Self::Followups(run) => enqueue(connection, actor, run).await,
            Self::Reminders(run) => enqueue(connection, actor, run).await,
            Self::Request { customer_id } => {
                found(feedback_requests::request(connection, actor, *customer_id).await, "customer_id")
            }
            Self::Bulk { kind, request } => bulk_changes::accept(connection, kind, actor, request).await,
            Self::Undo { job_id, .. } => found(bulk::undo(connection, actor, *job_id).await, "job_id"),
        }
    }
}

/// Enqueues the job of a run, which is not shared with others that have the same parameters.
async fn enqueue<P: Payload>(connection: &mut PgConnection, actor: &Actor, run: &P) -> Result<Job> {
    let job = NewJob::run(actor.workspace_id, run)?.request_id(actor.request_id.as_deref()).apart();
    queue::enqueue(connection, job).await
}

/// Names the parameter whose record does not exist.
fn found<T>(result: Result<T>, field: &str) -> Result<T> {
    match result {
        Err(Error::NotFound) => Err(Error::missing(field)),
        result => result,
    }
}

fn nurture(workspace_id: Uuid, params: Map<String, Value>, asked: bool) -> Result<NurtureLeads> {
    let mut params = params;
    let enroll = match params.shift_remove("enroll") {
        None | Some(Value::Null | Value::Bool(false)) => Ok(false),
        Some(Value::Bool(true)) => Ok(true),
        Some(_) => Err(Error::invalid("enroll", "invalid", "must be true or false")),
    };
    let run = parameters(params).and_then(|parameters| NurtureLeads::read(workspace_id, parameters, asked));
    match Error::both(enroll, run)? {
        (true, run) => Ok(run),
        (false, run) => run.of_enrolled(),
    }
}

/// The parameters of a request, as a query string has them.
fn parameters(params: Map<String, Value>) -> Result<Vec<(String, String)>> {
    let (mut parameters, mut errors) = (Vec::new(), FieldErrors::default());
    for (name, value) in params {
        match texts(value) {
            Some(texts) => parameters.extend(texts.into_iter().map(|text| (name.clone(), text))),
            None => errors.push_with(|| no_texts().of(&name)),
        }
    }
    errors.check().map(|()| parameters)
}

/// The id that is the only parameter.
fn only_id(params: Map<String, Value>, name: &str) -> Result<Uuid> {
    let mut params = Object::new(params);
    let id = params.required(name);
    params.finish()?;
    id.ok_or_else(|| Error::Invalid(vec![FieldError::new(name, "required", "is required")]))
}

/// Puts the faults of parameters inside the field `params`.
pub(super) fn inside_params(error: Error) -> Error {
    match error {
        Error::Invalid(errors) => Error::Invalid(errors.into_iter().map(|error| error.inside("params")).collect()),
        Error::Missing(reason) => Error::Missing(reason.inside("params").into()),
        error => error,
    }
}
