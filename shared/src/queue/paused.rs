//! What is not claimed: what operators have paused, and the work of suspended workspaces.

use std::sync::Arc;

use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::Result;

/// What a [`Notifier`](super::notify::Notifier) announces when something is paused, resumed, suspended or drained.
pub const STEERING: &str = "steering";

/// What is paused, as it was last read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Paused {
    queues: Vec<String>,
    kinds: Vec<String>,
    /// Paused and suspended workspaces, in order.
    workspaces: Vec<Uuid>,
    suspended: Vec<Uuid>,
}

impl Paused {
    /// Reads what is paused now.
    pub async fn read(connection: &mut PgConnection) -> Result<Self> {
        let mut paused = Self::default();
        let pauses: Vec<(String, String)> =
            sqlx::query_as("SELECT target, name FROM pauses ORDER BY target, name").fetch_all(&mut *connection).await?;
        for (target, name) in pauses {
            match target.as_str() {
                "queue" => paused.queues.push(name),
                "kind" => paused.kinds.push(name),
                _ => paused.workspaces.extend(Uuid::try_parse(&name)),
            }
        }
        let suspended = "SELECT id FROM workspaces WHERE suspended_at IS NOT NULL ORDER BY id";
        paused.suspended = sqlx::query_scalar(suspended).fetch_all(connection).await?;
        paused.workspaces.extend(&paused.suspended);
        paused.workspaces.sort_unstable();
        paused.workspaces.dedup();
        Ok(paused)
    }

    /// The queues of which nothing is claimed.
    pub fn queues(&self) -> &[String] {
        &self.queues
    }

    /// Whether nothing of a queue is claimed.
    pub fn has_queue(&self, queue: &str) -> bool {
        self.queues.iter().any(|paused| paused == queue)
    }

    /// The kinds of jobs of which nothing is claimed.
    pub fn kinds(&self) -> &[String] {
        &self.kinds
    }

    /// The workspaces of which nothing is claimed, in order.
    pub fn workspaces(&self) -> &[Uuid] {
        &self.workspaces
    }

    /// Whether nothing of a workspace is claimed.
    pub fn has_workspace(&self, workspace_id: Uuid) -> bool {
        self.workspaces.binary_search(&workspace_id).is_ok()
    }

    /// The workspaces whose keys are refused, in order. Their running jobs are handed back, and their schedules wait.
    pub fn suspended(&self) -> &[Uuid] {
        &self.suspended
    }

    /// Whether a workspace is suspended.
    pub fn is_suspended(&self, workspace_id: Uuid) -> bool {
        self.suspended.binary_search(&workspace_id).is_ok()
    }
}

/// Who claims, and what it leaves out.
#[derive(Debug, Clone, Default)]
pub struct Claimant {
    /// The worker that the leases name.
    pub worker_id: Option<Uuid>,
    /// What is paused.
    pub paused: Arc<Paused>,
}
