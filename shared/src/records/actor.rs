//! Who writes, and what is deleted together.

use uuid::Uuid;

use crate::queue::Claimed;
use crate::string_enum;

string_enum! {
    /// What acts in a workspace.
    ActorKind {
        /// A caller with an API key.
        Key = "key",
        /// A job.
        Job = "job",
        /// A customer, on a page that a link in a mail leads to.
        Customer = "customer",
    }
}

/// Who writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// The workspace they write in.
    pub workspace_id: Uuid,
    /// What they are.
    pub kind: ActorKind,
    /// The API key, the job, or the customer.
    pub id: Uuid,
    /// The request that caused it.
    pub request_id: Option<String>,
}

impl Actor {
    /// A job.
    pub fn job(job: &Claimed) -> Self {
        let Claimed { workspace_id, id, request_id, .. } = job;
        Self { workspace_id: *workspace_id, kind: ActorKind::Job, id: *id, request_id: request_id.clone() }
    }
}

/// The deletion of a record, with what it takes along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deletion {
    /// Its entry in the history.
    pub id: Uuid,
}

impl Default for Deletion {
    fn default() -> Self {
        Self { id: Uuid::now_v7() }
    }
}
