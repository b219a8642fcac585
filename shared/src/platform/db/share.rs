//! How many connections one workspace may use at once.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::Semaphore;
use uuid::Uuid;

use super::Pool;

/// How many workspaces are known before those that ask for nothing are forgotten.
const MANY: usize = 1024;

tokio::task_local! {
    static SHARE: Arc<Semaphore>;
}

/// Does work for a workspace, which uses three quarters of the pool's connections at most: however much
/// one asks for, and whether its callers wait or not, others have a connection soon.
pub async fn on_behalf_of<T>(pool: &Pool, workspace_id: Uuid, work: impl Future<Output = T>) -> T {
    SHARE.scope(pool.shares().of(workspace_id), work).await
}

/// The share of the workspace for which work is done now, if there is one.
pub(super) fn current() -> Option<Arc<Semaphore>> {
    SHARE.try_with(Clone::clone).ok()
}

/// The shares of the workspaces that ask for connections.
#[derive(Debug)]
pub(super) struct Shares {
    size: usize,
    by_workspace: Mutex<HashMap<Uuid, Weak<Semaphore>>>,
}

impl Shares {
    /// Shares of a pool with so many connections.
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
