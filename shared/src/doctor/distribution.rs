//! Which servers have the data, where Citus is installed, and what hinders.

use sqlx::{FromRow, PgConnection};

use super::Finding;
use crate::error::Result;
use crate::platform::distribute::{distributable_tables, is_present, tenant_tables};

const CHECK: &str = "database.nodes";

/// How the tables of tenants lie.
#[derive(Debug, FromRow)]
struct Tables {
    distributed: i64,
    /// Those that are not distributed, or not with the others.
    apart: Vec<String>,
}

const TABLES: &str = concat!(
    "SELECT count(*) FILTER (WHERE is_distributed) AS distributed,
         coalesce(array_agg(name ORDER BY name) FILTER (WHERE NOT is_distributed OR colocationid <> (
             SELECT colocationid FROM pg_dist_partition WHERE logicalrelid = 'jobs'::regclass
         )), '{}') AS apart
     FROM (",
    distributable_tables!(),
    ") AS tenants LEFT JOIN pg_dist_partition ON logicalrelid = tenants.oid"
);

/// A server, and what it has.
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

/// The settings of the coordinator that matter.
#[derive(Debug, FromRow)]
struct ServerSettings {
    max_prepared_transactions: String,
    wal_level: String,
    lc_messages: String,
    /// Whether there are nodes that reach the coordinator as `localhost`.
    is_local: bool,
}

const SETTINGS: &str = "
    SELECT current_setting('max_prepared_transactions') AS max_prepared_transactions,
        current_setting('wal_level') AS wal_level, current_setting('lc_messages') AS lc_messages,
        count(*) > 1 AND coalesce(bool_or(groupid = 0 AND nodename = 'localhost'), false) AS is_local
    FROM pg_dist_node";

/// Without the extension, one server has everything.
pub(super) async fn check(connection: &mut PgConnection) -> Result<Vec<Finding>> {
    if !is_present(connection).await? {
        return Ok(vec![Finding::ok(CHECK, "One server has all data.")]);
    }
    let tables: Tables = sqlx::query_as(TABLES).fetch_one(&mut *connection).await?;
    let nodes: Vec<Node> = sqlx::query_as(NODES).fetch_all(&mut *connection).await?;
    let settings: ServerSettings = sqlx::query_as(SETTINGS).fetch_one(&mut *connection).await?;
    let mut found = vec![of_tables(tables, &nodes)];
    found.extend(nodes.iter().filter_map(of_node));
    found.extend(of_settings(&settings));
    Ok(found)
}

fn of_tables(Tables { distributed, apart }: Tables, nodes: &[Node]) -> Finding {
    if distributed == 0 {
        let message = "Citus is installed, and no table is distributed: one server has all data.";
        return Finding::warning(CHECK, message, "Add nodes, and run crm-api migrate; docs/scaling.md says how.");
    }
    if !apart.is_empty() {
        let message = format!("Tables that are not distributed with the others: {}.", apart.len());
        return Finding::fault(CHECK, message, "Run crm-api migrate.").with_details(apart);
    }
    let lines =
        nodes.iter().map(|node| format!("{}:{}  {} groups of shards", node.nodename, node.nodeport, node.shards));
    let holding = nodes.iter().filter(|node| node.shards > 0).count();
    Finding::ok(CHECK, format!("Distributed tables: {distributed}, nodes with their rows: {holding}."))
        .with_details(lines.collect())
}

fn of_node(node: &Node) -> Option<Finding> {
    let Node { nodename, nodeport, isactive, is_reachable, .. } = node;
    let state = match (isactive, is_reachable) {
        (true, true) => return None,
        (true, false) => "cannot be reached",
        (false, _) => "is not active",
    };
    let message = format!("{nodename}:{nodeport} {state}, so requests of its workspaces get 503.");
    Some(Finding::fault(CHECK, message, "Start it, or let its standby take over; docs/scaling.md says how."))
}

fn of_settings(set: &ServerSettings) -> Vec<Finding> {
    let mut found = Vec::new();
    if set.max_prepared_transactions == "0" {
        let message = "max_prepared_transactions is 0, so nothing can be committed on two servers.";
        found.push(Finding::fault(CHECK, message, "Set it to max_connections on every server."));
    }
    if set.wal_level != "logical" {
        let message = format!("wal_level is {}, so shards cannot move while they are written.", set.wal_level);
        found.push(Finding::warning(CHECK, message, "Set it to logical on every server."));
    }
    if !is_english(&set.lc_messages) {
        let message = format!("lc_messages is {}, so conflicts are not recognized.", set.lc_messages);
        found.push(Finding::fault(CHECK, message, "Set it to C on every server."));
    }
    if set.is_local {
        let message = "The nodes know the coordinator as localhost.";
        found.push(Finding::fault(CHECK, message, "Call citus_set_coordinator_host with its address."));
    }
    found
}

fn is_english(locale: &str) -> bool {
    ["C", "POSIX", ""].contains(&locale) || ["C.", "en"].iter().any(|prefix| locale.starts_with(prefix))
}
