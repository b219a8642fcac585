//! What is distributed, and what hinders.

use sqlx::{FromRow, PgConnection};

use super::{is_present, tenant_tables};
use crate::error::Result;

/// What `crm-api doctor` says about the distribution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The nodes with their shards, one a line.
    pub summary: Vec<String>,
    /// What must be mended, each a sentence.
    pub problems: Vec<String>,
}

/// The tables of tenants that are not distributed, or not with the others.
const APART: &str = concat!(
    "WITH tenants AS (",
    tenant_tables!(),
    ")
     SELECT name FROM tenants LEFT JOIN pg_dist_partition ON logicalrelid = tenants.oid
     WHERE NOT is_distributed OR colocationid <> (
         SELECT colocationid FROM pg_dist_partition WHERE logicalrelid = 'jobs'::regclass
     )
     ORDER BY name"
);
const TABLES: &str = concat!("SELECT count(*) FROM (", tenant_tables!(), ") AS tenants WHERE is_distributed");

/// A server, and what it holds.
#[derive(Debug, FromRow)]
struct Node {
    nodename: String,
    nodeport: i32,
    isactive: bool,
    is_reachable: bool,
    /// Groups of shards that lie together.
    shards: i64,
}

const NODES: &str = "
    SELECT nodename, nodeport, isactive,
        coalesce(citus_check_connection_to_node(nodename, nodeport), false) AS is_reachable,
        (SELECT count(*) FROM pg_dist_placement JOIN pg_dist_shard USING (shardid)
         WHERE pg_dist_placement.groupid = pg_dist_node.groupid AND logicalrelid = 'jobs'::regclass) AS shards
    FROM pg_dist_node WHERE noderole = 'primary' ORDER BY groupid";

/// A setting of the coordinator that must be different, and why.
const SETTINGS: &str = "
    SELECT wanted.sentence FROM (VALUES
        ('max_prepared_transactions', '0', 'max_prepared_transactions is 0, so nothing commits on two nodes: set it to max_connections on every node'),
        ('wal_level', 'replica', 'wal_level is replica, so shards cannot be moved while they are written: set it to logical on every node')
    ) AS wanted (name, wrong, sentence)
    JOIN pg_settings ON pg_settings.name = wanted.name AND setting = wrong
    UNION ALL
    SELECT 'lc_messages is ' || setting || ', so conflicts are not recognized: set it to C on every node'
    FROM pg_settings WHERE name = 'lc_messages' AND setting NOT IN ('', 'C', 'POSIX') AND setting NOT ILIKE 'C.%' AND setting NOT LIKE 'en%'
    UNION ALL
    SELECT 'the coordinator is known to nodes as localhost: call citus_set_coordinator_host with its address'
    FROM pg_dist_node WHERE groupid = 0 AND nodename = 'localhost' AND (SELECT count(*) FROM pg_dist_node) > 1";

/// Returns what is distributed and what hinders; `None` without the extension.
pub async fn status(connection: &mut PgConnection) -> Result<Option<Status>> {
    if !is_present(connection).await? {
        return Ok(None);
    }
    let tables: i64 = sqlx::query_scalar(TABLES).fetch_one(&mut *connection).await?;
    let apart: Vec<String> = sqlx::query_scalar(APART).fetch_all(&mut *connection).await?;
    let nodes: Vec<Node> = sqlx::query_as(NODES).fetch_all(&mut *connection).await?;
    let mut problems: Vec<String> = sqlx::query_scalar(SETTINGS).fetch_all(&mut *connection).await?;
    if !apart.is_empty() {
        problems.push(format!("not distributed with the others: {}; run crm-api migrate", apart.join(", ")));
    }
    let mut summary = vec![format!("{tables} tables are distributed over {} servers", nodes.len())];
    for Node { nodename, nodeport, isactive, is_reachable, shards } in nodes {
        summary.push(format!("{nodename}:{nodeport}  {shards} groups of shards"));
        if !isactive || !is_reachable {
            let state = if isactive { "cannot be reached" } else { "is not active" };
            problems.push(format!("{nodename}:{nodeport} {state}: requests of its workspaces get 503"));
        }
    }
    Ok(Some(Status { summary, problems }))
}
