//! Who makes changes.

use uuid::Uuid;

use crate::string_enum;

string_enum! {
    /// The kinds of actors in a workspace.
    ActorKind {
        /// A client with an API key.
        Key = "key",
        /// A job.
        Job = "job",
        /// A customer, on a page that is linked from an email.
        Customer = "customer",
        /// An operator, with a command on the server.
        Operator = "operator",
        /// The job of an import that created the record.
        Import = "import",
        /// The conversion of a lead, which created the customer.
        Conversion = "conversion",
        /// A schedule, which started a job.
        Schedule = "schedule",
        /// Someone who is signed in to the console.
        Session = "session",
        /// A worker, while it sends email or watches over jobs.
        Worker = "worker",
    }
}

/// Who changes records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// The workspace of the records.
    pub workspace_id: Uuid,
    /// The kind of actor.
    pub kind: ActorKind,
    /// The id of the API key, the session, the job, the customer, the schedule, or the operator's command.
    pub id: Uuid,
    /// The request that caused the changes.
    pub request_id: Option<String>,
}

impl Actor {
    /// A client with an API key.
    pub fn key(workspace_id: Uuid, id: Uuid, request_id: String) -> Self {
        Self { workspace_id, kind: ActorKind::Key, id, request_id: Some(request_id) }
    }

    /// A worker, which acts for nobody.
    pub fn worker(workspace_id: Uuid) -> Self {
        Self { workspace_id, kind: ActorKind::Worker, id: Uuid::nil(), request_id: None }
    }

    /// An operator, with a command on the server.
    pub fn operator(workspace_id: Uuid) -> Self {
        Self { workspace_id, kind: ActorKind::Operator, id: Uuid::now_v7(), request_id: None }
    }

    /// The job that acts, if one does.
    pub fn job_id(&self) -> Option<Uuid> {
        (self.kind == ActorKind::Job).then_some(self.id)
    }

    /// Whether each of its changes is an event. What a job writes is summarised by the events of the job.
    pub fn is_reported(&self) -> bool {
        self.kind != ActorKind::Job
    }
}
