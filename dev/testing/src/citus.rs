//! [Citus](https://docs.citusdata.com), where it is installed: databases that are distributed over nodes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection};
use tokio::time::sleep;

use crate::postgres::{self, Cluster, Options};
use crate::server::Server;
use crate::unprivileged;

/// The variable that makes databases of tests distributed ones.
pub const TESTS: &str = "TEST_CITUS";
/// Why tests are skipped that need it.
pub const MISSING: &str = "Citus is not installed; docs/scaling.md says how to build it";

/// The settings of a server. Each database needs a background process.
pub(crate) const SETTINGS: [&str; 7] = [
    "shared_preload_libraries=citus",
    "wal_level=logical",
    "max_worker_processes=300",
    "max_replication_slots=40",
    "max_wal_senders=40",
    // The nodes are reached on loopback.
    "citus.node_conninfo=sslmode=disable",
    "citus.recover_2pc_interval=5s",
];

/// Whether the server has the extension.
#[must_use]
pub fn is_installed(server: &Server) -> bool {
    let bin = server.program("postgres");
    let Some(prefix) = bin.parent().and_then(|bin| bin.parent()) else { return false };
    ["lib/citus.so", "lib/postgresql/citus.so", "lib/citus.dylib"].iter().any(|library| prefix.join(library).is_file())
}

/// Whether databases of tests are distributed.
#[must_use]
pub fn is_tested() -> bool {
    std::env::var_os(TESTS).is_some()
}

/// The database on each server.
const DATABASE: &str = "crm";

/// A coordinator and its nodes, each a server of its own.
#[derive(Debug)]
pub struct Servers {
    server: Server,
    dir: PathBuf,
    options: Options,
    /// The URL of the database.
    url: String,
    /// The server that programs connect to; `None` while it is down.
    coordinator: Option<Cluster>,
    /// The servers with the data of tenants; `None` for one that is stopped.
    nodes: Vec<Option<Cluster>>,
    /// A server that follows a node, and the node's number.
    standby: Option<(usize, Cluster)>,
}

impl Servers {
    /// Starts a coordinator and nodes with the data in `dir`, which is initialized on first use.
    ///
    /// # Errors
    /// If a server does not start, or Citus is not installed.
    pub async fn start(server: &Server, dir: &Path, nodes: usize, options: &Options) -> Result<Self> {
        ensure!(is_installed(server), MISSING);
        let options = Options { citus: true, ..options.clone() };
        let coordinator = Cluster::start(server, &dir.join("coordinator"), &options).await?;
        let url = coordinator.database(DATABASE).await?;
        let options = Options { password: Some(password(&url)?.to_owned()), ..options };
        let (server, dir, coordinator) = (server.clone(), dir.to_owned(), Some(coordinator));
        let mut servers = Self { server, dir, options, url, coordinator, nodes: Vec::new(), standby: None };
        for number in 0..nodes {
            let node = servers.node(number).await?;
            servers.nodes.push(Some(node));
        }
        let mut urls = Vec::new();
        for node in servers.nodes.iter().flatten() {
            urls.push(node.database(DATABASE).await?);
        }
        coordinate(&servers.url, &urls).await?;
        Ok(servers)
    }

    /// The URL of the database.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The servers that run, the coordinator first.
    pub fn into_clusters(self) -> impl Iterator<Item = Cluster> {
        let standby = self.standby.map(|(_, standby)| standby);
        self.coordinator.into_iter().chain(self.nodes.into_iter().flatten()).chain(standby)
    }

    /// Crashes the coordinator, and starts it again.
    ///
    /// # Errors
    /// If it does not start.
    pub async fn crash_coordinator(&mut self) -> Result<()> {
        if let Some(coordinator) = self.coordinator.take() {
            coordinator.crash().await?;
        }
        let coordinator = Cluster::start(&self.server, &self.dir.join("coordinator"), &self.options).await?;
        ensure!(coordinator.url(DATABASE) == self.url, "another program has taken the coordinator's port");
        self.coordinator = Some(coordinator);
        Ok(())
    }

    /// Ends all connections to a node.
    ///
    /// # Errors
    /// If the node does not run.
    pub async fn end_connections(&mut self, number: usize) -> Result<()> {
        let node = self.nodes.get(number).and_then(Option::as_ref).context("the node does not run")?;
        let mut connection = PgConnection::connect(&node.url(DATABASE)).await?;
        let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                   WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
        sqlx::query(end).execute(&mut connection).await?;
        connection.close().await?;
        Ok(())
    }

    /// The port of a node that runs.
    #[must_use]
    pub fn node_port(&self, number: usize) -> Option<u16> {
        Some(self.nodes.get(number)?.as_ref()?.port())
    }

    /// The log of the coordinator.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn coordinator_log(&self) -> Result<String> {
        Ok(std::fs::read_to_string(self.dir.join("coordinator").join(postgres::LOG))?)
    }

    /// Starts another node without data, and adds it.
    ///
    /// # Errors
    /// If it does not start.
    pub async fn add_node(&mut self) -> Result<()> {
        let node = self.node(self.nodes.len()).await?;
        let url = node.database(DATABASE).await?;
        create(&url).await?.close().await?;
        let mut connection = PgConnection::connect(&self.url).await?;
        add(&mut connection, &url).await?;
        self.nodes.push(Some(node));
        connection.close().await?;
        Ok(())
    }

    /// Stops a node.
    ///
    /// # Errors
    /// If waiting for its process fails.
    pub async fn stop_node(&mut self, number: usize) -> Result<()> {
        match self.nodes.get_mut(number).and_then(Option::take) {
            Some(node) => node.stop().await,
            None => Ok(()),
        }
    }

    /// Starts a node that was stopped.
    ///
    /// # Errors
    /// If it does not start.
    pub async fn start_node(&mut self, number: usize) -> Result<()> {
        let node = self.node(number).await?;
        self.nodes[number] = Some(node);
        Ok(())
    }

    /// Starts a standby of a node, which has every commit that the node has confirmed.
    ///
    /// # Errors
    /// If the node does not run, or its data cannot be copied.
    pub async fn add_standby(&mut self, number: usize) -> Result<()> {
        let node = self.nodes.get(number).and_then(Option::as_ref).context("the node does not run")?;
        let dir = self.dir.join(format!("node-{}-standby", number + 1));
        node.copy(&self.server, &dir, true).await?;
        let standby = Cluster::start(&self.server, &dir, &self.options).await?;
        let mut connection = PgConnection::connect(&node.url(DATABASE)).await?;
        for statement in ["ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()"] {
            sqlx::raw_sql(statement).execute(&mut connection).await?;
        }
        let is_followed = "SELECT EXISTS (SELECT FROM pg_stat_replication WHERE sync_state = 'sync')";
        while !sqlx::query_scalar::<_, bool>(is_followed).fetch_one(&mut connection).await? {
            sleep(Duration::from_millis(100)).await;
        }
        connection.close().await?;
        self.standby = Some((number, standby));
        Ok(())
    }

    /// Crashes the node that has a standby.
    ///
    /// # Errors
    /// If waiting for its process fails.
    pub async fn crash_followed(&mut self) -> Result<()> {
        let number = self.standby.as_ref().context("no node has a standby")?.0;
        match self.nodes.get_mut(number).and_then(Option::take) {
            Some(node) => node.crash().await,
            None => Ok(()),
        }
    }

    /// Lets the standby take the place of its node.
    ///
    /// # Errors
    /// If the standby or the coordinator refuses.
    pub async fn promote_standby(&mut self) -> Result<()> {
        let (number, standby) = self.standby.take().context("no node has a standby")?;
        let url = standby.url(DATABASE);
        let mut connection = PgConnection::connect(&url).await?;
        for statement in
            ["SELECT pg_promote()", "ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()"]
        {
            sqlx::raw_sql(statement).execute(&mut connection).await?;
        }
        connection.close().await?;
        let mut coordinator = PgConnection::connect(&self.url).await?;
        let id = "SELECT nodeid FROM pg_dist_node WHERE groupid > 0 ORDER BY nodeid OFFSET $1 LIMIT 1";
        let id: i32 = sqlx::query_scalar(id).bind(i64::try_from(number)?).fetch_one(&mut coordinator).await?;
        move_to(&mut coordinator, id, &url).await?;
        coordinator.close().await?;
        self.nodes[number] = Some(standby);
        Ok(())
    }

    /// Stops all servers.
    ///
    /// # Errors
    /// If waiting for a process fails.
    pub async fn stop(self) -> Result<()> {
        for cluster in self.into_clusters() {
            cluster.stop().await?;
        }
        Ok(())
    }

    async fn node(&self, number: usize) -> Result<Cluster> {
        Cluster::start(&self.server, &self.dir.join(format!("node-{}", number + 1)), &self.options).await
    }
}

/// Deletes the data of all servers in `dir`.
///
/// # Errors
/// If one of them is running, or its data cannot be deleted.
pub async fn remove(dir: &Path) -> Result<()> {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        postgres::remove(&entry.path()).await?;
    }
    unprivileged::remove(dir).await
}

/// Makes a database the coordinator of these nodes, which are databases on 127.0.0.1 with the same name and
/// password. Without any, its own server holds the data, and is reached like a node, by connections. Nodes that it
/// has, in the same order, may have moved to other ports.
///
/// # Errors
/// If the extension cannot be created, or a node not be reached.
pub async fn coordinate(coordinator: &str, nodes: &[String]) -> Result<()> {
    for url in nodes {
        create(url).await?.close().await?;
    }
    let mut connection = create(coordinator).await?;
    let port = port(coordinator)?;
    sqlx::query("SELECT citus_set_coordinator_host('127.0.0.1', $1)").bind(port).execute(&mut connection).await?;
    let present = "SELECT nodeid FROM pg_dist_node WHERE groupid > 0 ORDER BY nodeid";
    let present: Vec<i32> = sqlx::query_scalar(present).fetch_all(&mut connection).await?;
    for (place, url) in nodes.iter().enumerate() {
        match present.get(place) {
            Some(id) => move_to(&mut connection, *id, url).await?,
            None => add(&mut connection, url).await?,
        }
    }
    if nodes.is_empty() {
        sqlx::query("SELECT citus_set_node_property('127.0.0.1', $1, 'shouldhaveshards', true)")
            .bind(port)
            .execute(&mut connection)
            .await?;
    }
    connection.close().await?;
    Ok(())
}

/// Tells the coordinator where a node is now.
///
/// # Errors
/// If the node cannot be reached.
pub async fn move_to(coordinator: &mut PgConnection, node_id: i32, node: &str) -> Result<()> {
    let port = port(node)?;
    let present = "SELECT nodeport FROM pg_dist_node WHERE nodeid = $1";
    if sqlx::query_scalar::<_, i32>(present).bind(node_id).fetch_one(&mut *coordinator).await? != port {
        let update = "SELECT citus_update_node($1, '127.0.0.1', $2)";
        sqlx::query(update).bind(node_id).bind(port).execute(coordinator).await?;
    }
    Ok(())
}

/// Adds a node with the extension to the cluster of a coordinator.
///
/// # Errors
/// If the node cannot be reached.
pub async fn add(coordinator: &mut PgConnection, node: &str) -> Result<()> {
    let added = sqlx::query("SELECT citus_add_node('127.0.0.1', $1)").bind(port(node)?).execute(coordinator).await;
    added.context("a node cannot be added")?;
    Ok(())
}

/// Creates the extension, and lets the server reach all nodes with its own password.
///
/// # Errors
/// If Citus is not installed.
pub async fn create(url: &str) -> Result<PgConnection> {
    let mut connection = PgConnection::connect(url).await?;
    sqlx::raw_sql("CREATE EXTENSION IF NOT EXISTS citus").execute(&mut connection).await.context(MISSING)?;
    // Newer servers name the plugins that may decode their log, as isolating a workspace does.
    let is_named = "SELECT EXISTS (SELECT FROM pg_settings WHERE name = 'output_plugin_libraries')";
    if sqlx::query_scalar(is_named).fetch_one(&mut connection).await? {
        for statement in
            ["ALTER SYSTEM SET output_plugin_libraries = pgoutput, test_decoding, citus", "SELECT pg_reload_conf()"]
        {
            sqlx::raw_sql(statement).execute(&mut connection).await?;
        }
    }
    sqlx::query("INSERT INTO pg_dist_authinfo VALUES (0, 'postgres', $1) ON CONFLICT DO NOTHING")
        .bind(format!("password={}", password(url)?))
        .execute(&mut connection)
        .await?;
    Ok(connection)
}

/// The password in a URL, made of letters and digits.
fn password(url: &str) -> Result<&str> {
    let rest = url.split_once("://").and_then(|(_, rest)| rest.split_once(':'));
    let (password, _) = rest.and_then(|(_, rest)| rest.split_once('@')).context("the URL has no password")?;
    Ok(password)
}

fn port(url: &str) -> Result<i32> {
    Ok(url.parse::<PgConnectOptions>()?.get_port().into())
}
