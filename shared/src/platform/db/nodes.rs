//! Nodes of a database that is distributed by Citus. A statement of one workspace needs the node that has its
//! rows. One that crosses workspaces needs all nodes; while one cannot be reached, it is asked of the workspaces of
//! the others.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::{Error, ErrorClass, Result};

/// How long the workspaces that could be reached are remembered.
const KEPT: Duration = Duration::from_secs(1);

/// The workspaces whose rows can be reached. All tables are distributed like `jobs`.
const REACHABLE: &str = "
    WITH nodes AS MATERIALIZED (
        SELECT groupid FROM pg_dist_node
        WHERE noderole = 'primary' AND isactive AND citus_check_connection_to_node(nodename, nodeport)
    )
    SELECT workspaces.id FROM workspaces
    JOIN pg_dist_placement ON shardid = get_shard_id_for_distribution_column('jobs', workspaces.id)
    WHERE groupid IN (SELECT groupid FROM nodes)
    ORDER BY workspaces.id";

/// Those that could be reached when a node was last missing, and when that was.
static REACHED: Mutex<Option<(Instant, Arc<[Uuid]>)>> = Mutex::new(None);

/// Of which workspaces a read that crosses workspaces is asked: of all, or while a node is missing of those on the
/// other nodes. The read is repeated until its result [is accepted](Self::accept).
#[derive(Debug)]
pub(crate) struct Among {
    workspaces: Option<Arc<[Uuid]>>,
    is_repeated: bool,
}

impl Among {
    pub fn new() -> Self {
        Self { workspaces: reached(), is_repeated: false }
    }

    /// A parameter of the statement; `None` means all workspaces.
    pub fn workspaces(&self) -> Option<&[Uuid]> {
        self.workspaces.as_deref()
    }

    /// Returns the result; `None` if the read must be repeated, because a node is missing.
    pub async fn accept<T>(&mut self, connection: &mut PgConnection, result: Result<T>) -> Result<Option<T>> {
        match result {
            Err(error) if error.class() == ErrorClass::Node && !self.is_repeated => {
                self.workspaces = Some(find_reachable(connection).await?);
                self.is_repeated = true;
                Ok(None)
            }
            result => result.map(Some),
        }
    }
}

/// The rows of one workspace; none if its node cannot be reached. So what was done for the workspaces before it is
/// not lost.
pub(crate) fn or_nothing<T>(rows: sqlx::Result<Vec<T>>) -> Result<Vec<T>> {
    match rows.map_err(Error::from) {
        Err(error) if error.class() == ErrorClass::Node => Ok(Vec::new()),
        rows => rows,
    }
}

fn reached() -> Option<Arc<[Uuid]>> {
    let reached = REACHED.lock().unwrap_or_else(PoisonError::into_inner);
    reached.as_ref().filter(|(at, _)| at.elapsed() < KEPT).map(|(_, workspaces)| workspaces.clone())
}

async fn find_reachable(connection: &mut PgConnection) -> Result<Arc<[Uuid]>> {
    let found: Vec<Uuid> = sqlx::query_scalar(REACHABLE).fetch_all(connection).await?;
    let found: Arc<[Uuid]> = found.into();
    *REACHED.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), found.clone()));
    Ok(found)
}
