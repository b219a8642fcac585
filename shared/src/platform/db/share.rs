//! The share of the pool that one workspace may use at once.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::Semaphore;
use uuid::Uuid;

use super::Pool;

/// With this many entries, the map drops those of idle workspaces.
const MANY: usize = 1024;

tokio::task_local! {
    static SHARE: Arc<Semaphore>;
}

/// Runs work for a workspace, which can use at most three quarters of the pool's connections. However many
/// requests one workspace sends, and whether or not they wait, other workspaces soon get a connection.
pub async fn on_behalf_of<T>(pool: &Pool, workspace_id: Uuid, work: impl Future<Output = T>) -> T {
    SHARE.scope(pool.shares().of(workspace_id), work).await
}

/// The share of the workspace that the current work is for, if any.
pub(super) fn current() -> Option<Arc<Semaphore>> {
    SHARE.try_with(Clone::clone).ok()
}

/// The shares of the workspaces that use connections.
#[derive(Debug)]
pub(super) struct Shares {
    size: usize,
    by_workspace: Mutex<HashMap<Uuid, Weak<Semaphore>>>,
}

impl Shares {
    /// The shares of a pool with this many connections.
    pub(super) fn new(connections: usize) -> Self {
        Self { size: (connections * 3 / 4).max(1), by_workspace: Mutex::default() }
    }

    fn of(&self, workspace_id: Uuid) -> Arc<Semaphore> {
        let mut shares = self.by_workspace.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(share) = shares.get(&workspace_id).and_then(Weak::upgrade) {
            return share;
        }
        if shares.len() >= MANY {
            shares.retain(|_, share| share.strong_count() > 0);
        }
        let share = Arc::new(Semaphore::new(self.size));
        shares.insert(workspace_id, Arc::downgrade(&share));
        share
    }
}
