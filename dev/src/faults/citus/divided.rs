//! `cargo dev faults citus divided`

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result};
use dev::client::Client;
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool};
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::load::{Workspace, import, workspaces};
use crate::faults::harness::Harness;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The number of workspaces.
    #[arg(long, value_name = "N", default_value_t = 64)]
    workspaces: usize,
}

/// Does all kinds of work, and counts what each node was sent; returns the broken guarantees.
pub async fn run(arguments: Arguments, release: bool) -> Result<Vec<String>> {
    let emails = std::env::temp_dir().join(format!("crm-divided-{:016x}", rand::random::<u64>()));
    std::fs::create_dir(&emails)?;
    let directory = emails.to_str().context("the directory has an unusual name")?;
    let mut harness = Harness::start_with(1, release, &[("CRM_MAIL__DIRECTORY", directory)]).await?;
    let workspaces = workspaces(&harness, arguments.workspaces).await?;
    // Sessions that begin from here on log what they send to nodes.
    let mut connection = PgConnection::connect(harness.database_url()).await?;
    for setting in ["citus.log_remote_commands = on", "log_min_messages = notice", "client_min_messages = error"] {
        let set = format!("ALTER DATABASE crm SET {setting}");
        sqlx::query(AssertSqlSafe(set)).execute(&mut connection).await?;
    }
    connection.close().await?;
    harness.kill_api().await?;
    harness.kill_worker(0).await?;
    let jobs = import(&harness, &workspaces, 50).await?;
    for workspace in &workspaces {
        work(&Client::new(harness.api_url(), &workspace.key)).await?;
    }
    harness.wait_for(&jobs, Duration::from_secs(300)).await?;
    let sent = wait_for_emails(&harness.pool).await?;
    println!("{sent} emails were sent");
    sleep(Duration::from_secs(5)).await;

    let log = harness.servers()?.coordinator_log()?;
    let counts = Counts::of(&log);
    let mut broken = Vec::new();
    for (node, (statements, transactions)) in &counts.nodes {
        let own = workspaces.iter().filter(|workspace| node.ends_with(&format!(":{}", workspace.node))).count();
        println!("{node}, with {own} workspaces: {statements} statements, {transactions} transactions");
    }
    let total: u64 = counts.nodes.values().map(|(statements, _)| statements).sum();
    for (node, (statements, _)) in &counts.nodes {
        let own = workspaces.iter().filter(|workspace| node.ends_with(&format!(":{}", workspace.node))).count();
        let share = *statements as f64 / total.max(1) as f64;
        let due = own as f64 / workspaces.len() as f64;
        if (share - due).abs() > 0.15 {
            broken.push(format!("{node} has {due:.2} of the workspaces, but gets {share:.2} of the statements"));
        }
    }
    println!("{} transactions wrote on several nodes", counts.crossing.len());
    if let Some(statements) = counts.crossing.first() {
        broken.push(format!("{} transactions wrote on several nodes, such as {statements}", counts.crossing.len()));
    }
    broken.extend(crossing_statements(&counts, &workspaces));
    std::fs::remove_dir_all(&emails)?;
    harness.end(!broken.is_empty()).await?;
    Ok(broken)
}

/// Waits until all emails are sent, and returns their number.
async fn wait_for_emails(pool: &PgPool) -> Result<i64> {
    let counts = "SELECT count(*), count(*) FILTER (WHERE state = 'sent') FROM emails";
    let sent = async {
        loop {
            let (all, sent): (i64, i64) = sqlx::query_as(counts).fetch_one(pool).await?;
            if sent == all && sent > 0 {
                return Ok(sent);
            }
            sleep(Duration::from_millis(200)).await;
        }
    };
    timeout(Duration::from_secs(300), sent).await.context("emails are not sent")?
}

/// One workspace's work: records, lists, an order with its customer, a run of a workflow and its emails.
async fn work(client: &Client) -> Result<()> {
    let lead = client.post("leads", "lead", &json!({ "name": "Ada", "email": "ada@example.com" })).await?;
    let id = lead["id"].as_str().context("the lead has no id")?;
    client.put(&format!("leads/{id}"), &json!({ "score": 5 })).await?;
    client.get("leads?limit=20").await?;
    client.post(&format!("leads/{id}/interactions"), "call", &json!({ "type": "call", "notes": "Called." })).await?;
    let customer = client.post("customers", "customer", &json!({ "name": "Bob", "email": "bob@example.com" })).await?;
    let order = json!({ "customer_id": customer["id"], "product_id": Uuid::from_u128(1), "quantity": 1 });
    client.post("orders", "order", &order).await?;
    client.post("leads/nurture/start", "nurture", &json!({})).await?;
    client.get("events?limit=5").await?;
    client.delete(&format!("leads/{id}")).await
}

/// What the coordinator sent to nodes, by its log.
#[derive(Default)]
struct Counts {
    /// The statements and transactions of each node.
    nodes: BTreeMap<String, (u64, u64)>,
    /// The statements of transactions that wrote on several nodes.
    crossing: Vec<String>,
    /// For each workspace by which a statement filters, the nodes that were sent it.
    workspaces: BTreeMap<String, BTreeSet<String>>,
}

/// A transaction of a session of the coordinator.
#[derive(Default)]
struct Transaction {
    statements: Vec<String>,
    /// The nodes on which it is prepared: all on which it wrote, if these are several.
    prepared: BTreeSet<String>,
}

impl Counts {
    fn of(log: &str) -> Self {
        let mut counts = Self::default();
        let (mut open, mut commands) = (BTreeMap::<&str, Transaction>::new(), BTreeMap::<&str, &str>::new());
        for line in log.lines() {
            let Some((session, _)) = line.split_once('[').and_then(|(_, rest)| rest.split_once(']')) else { continue };
            if let Some((_, command)) = line.split_once("NOTICE:  issuing ") {
                commands.insert(session, command);
            } else if let Some((_, server)) = line.split_once("DETAIL:  on server ") {
                let node = server.split(' ').next().and_then(|server| server.rsplit('@').next()).unwrap_or_default();
                if let Some(command) = commands.remove(session) {
                    counts.add(node, command, open.entry(session).or_default());
                }
            }
        }
        counts
    }

    fn add(&mut self, node: &str, command: &str, transaction: &mut Transaction) {
        let (statements, transactions) = self.nodes.entry(node.to_owned()).or_default();
        if command.starts_with("BEGIN") {
            *transactions += 1;
        } else if command.starts_with("PREPARE TRANSACTION") {
            transaction.prepared.insert(node.to_owned());
        } else if command.starts_with("COMMIT") || command.starts_with("ROLLBACK") {
            let Transaction { statements, prepared } = std::mem::take(transaction);
            if prepared.len() > 1 {
                self.crossing.push(statements.join("; "));
            }
        } else {
            *statements += 1;
            transaction.statements.push(command.chars().take(120).collect());
            for (_, value) in command.match_indices(FILTER).map(|(at, _)| command.split_at(at + FILTER.len())) {
                self.workspaces.entry(value.chars().take(36).collect()).or_default().insert(node.to_owned());
            }
        }
    }
}

/// How the coordinator writes the filter by a workspace, up to its id.
const FILTER: &str = "workspace_id OPERATOR(pg_catalog.=) '";

/// Workspaces whose statements were sent to several nodes.
fn crossing_statements(counts: &Counts, workspaces: &[Workspace]) -> Option<String> {
    let several = workspaces
        .iter()
        .filter(|workspace| counts.workspaces.get(&workspace.id.to_string()).is_some_and(|nodes| nodes.len() > 1));
    let several = several.count();
    (several > 0).then(|| format!("statements of {several} workspaces were sent to several nodes"))
}
