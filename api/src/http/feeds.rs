//! Followers of feeds wait here for the next event, without a connection: one statement looks for all of them.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use shared::events::feed;
use shared::platform::db::Pool;
use tokio::sync::watch;
use uuid::Uuid;

/// How often is looked for new events.
const LOOK: Duration = Duration::from_millis(50);

/// The last cursors of the workspaces whose feeds are followed.
#[derive(Debug, Default)]
pub struct Feeds {
    followed: Mutex<HashMap<Uuid, watch::Sender<i64>>>,
    looking: tokio::sync::Mutex<()>,
}

impl Feeds {
    /// Waits until the workspace's feed reaches beyond a cursor.
    ///
    /// Whoever waits takes turns in looking, so nobody looks when nobody waits, and nobody is stranded when
    /// one that looks leaves.
    pub async fn wait(&self, pool: &Pool, workspace_id: Uuid, cursor: i64) {
        let mut reached = self.follow(workspace_id);
        loop {
            if *reached.borrow_and_update() > cursor {
                return;
            }
            tokio::select! {
                _ = reached.changed() => {}
                _turn = self.looking.lock() => self.look(pool).await,
            }
        }
    }

    fn follow(&self, workspace_id: Uuid) -> watch::Receiver<i64> {
        let mut followed = self.followed.lock().unwrap_or_else(PoisonError::into_inner);
        followed.entry(workspace_id).or_insert_with(|| watch::channel(0).0).subscribe()
    }

    /// Looks once for all that wait, after a pause.
    async fn look(&self, pool: &Pool) {
        tokio::time::sleep(LOOK).await;
        let ids: Vec<Uuid> = {
            let mut followed = self.followed.lock().unwrap_or_else(PoisonError::into_inner);
            followed.retain(|_, reached| reached.receiver_count() > 0);
            followed.keys().copied().collect()
        };
        let reaches = async { feed::reaches(&mut *pool.acquire().await?, &ids).await };
        match reaches.await {
            Ok(reaches) => {
                let followed = self.followed.lock().unwrap_or_else(PoisonError::into_inner);
                for (workspace_id, number) in reaches {
                    let Some(reached) = followed.get(&workspace_id) else { continue };
                    reached.send_if_modified(|known| std::mem::replace(known, number) != number);
                }
            }
            Err(error) => tracing::debug!(%error, "the feeds could not be looked at"),
        }
    }
}
