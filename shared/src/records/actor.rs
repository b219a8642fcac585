//! Creators, and deletions.

use std::collections::HashMap;

use uuid::Uuid;

use crate::events::{Actor, ActorKind};

/// Who or what creates records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Creator {
    /// The kind of actor.
    pub kind: ActorKind,
    /// The id of the API key, of the job or of the converted lead.
    pub id: Uuid,
}

impl Creator {
    /// The job of an import.
    pub fn import(job_id: Uuid) -> Self {
        Self { kind: ActorKind::Import, id: job_id }
    }

    /// The conversion of a lead.
    pub fn conversion(lead_id: Uuid) -> Self {
        Self { kind: ActorKind::Conversion, id: lead_id }
    }

    /// The value of the column `import_job_id`.
    pub(super) fn import_job_id(self) -> Option<Uuid> {
        (self.kind == ActorKind::Import).then_some(self.id)
    }

    /// The values of the columns `created_by_type` and `created_by_id`, which are empty for an import.
    pub(super) fn columns(self) -> Option<(ActorKind, Uuid)> {
        (self.kind != ActorKind::Import).then_some((self.kind, self.id))
    }
}

impl From<&Actor> for Creator {
    fn from(actor: &Actor) -> Self {
        Self { kind: actor.kind, id: actor.id }
    }
}

/// The deletions of records, each with its dependent records.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Deletions(HashMap<Uuid, Uuid>);

impl Deletions {
    /// The deletions of these records, which begin now.
    pub(super) fn begin(record_ids: impl IntoIterator<Item = Uuid>) -> Self {
        record_ids.into_iter().map(|id| (id, Uuid::now_v7())).collect()
    }

    /// The deleted records.
    pub(super) fn record_ids(&self) -> Vec<Uuid> {
        self.0.keys().copied().collect()
    }

    /// The entries in the history.
    pub(super) fn entries(&self) -> Vec<Uuid> {
        self.0.values().copied().collect()
    }

    /// The entry of a record's deletion.
    pub(super) fn entry_of(&self, record_id: Uuid) -> Option<Uuid> {
        self.0.get(&record_id).copied()
    }
}

impl FromIterator<(Uuid, Uuid)> for Deletions {
    /// The deletions of records, given with their entries in the history.
    fn from_iter<T: IntoIterator<Item = (Uuid, Uuid)>>(deletions: T) -> Self {
        Self(deletions.into_iter().collect())
    }
}
