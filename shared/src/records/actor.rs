//! Actors, and deletions.

use uuid::Uuid;

use crate::queue::Claimed;
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
    }
}

/// Who changes records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// The workspace of the records.
    pub workspace_id: Uuid,
    /// The kind of actor.
    pub kind: ActorKind,
    /// The id of the API key, the job, or the customer.
    pub id: Uuid,
    /// The request that caused the changes.
    pub request_id: Option<String>,
}

impl Actor {
    /// The job as the actor.
    pub fn job(job: &Claimed) -> Self {
        let Claimed { workspace_id, id, request_id, .. } = job;
        Self { workspace_id: *workspace_id, kind: ActorKind::Job, id: *id, request_id: request_id.clone() }
    }
}

/// The deletion of a record and of its dependent records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deletion {
    /// The id of its entry in the history.
    pub id: Uuid,
}

impl Default for Deletion {
    fn default() -> Self {
        Self { id: Uuid::now_v7() }
    }
}
