//! `cargo dev faults citus divided`

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result};
use dev::client::Client;
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::time::sleep;
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
    let mut harness = Harness::start(1, release).await?;
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
    println!("{} transactions touch several nodes, {} are prepared", counts.crossing.len(), counts.prepared);
    if let Some(statements) = counts.crossing.first() {
        broken.push(format!("{} transactions touch several nodes, such as {statements}", counts.crossing.len()));
    }
    if counts.prepared > 0 {
        broken.push(format!("{} transactions are prepared on nodes", counts.prepared));
    }
    broken.extend(crossing_statements(&counts, &workspaces));
    harness.end(!broken.is_empty()).await?;
    Ok(broken)
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
    /// The first statements of transactions on several nodes.
    crossing: Vec<String>,
    prepared: u64,
    /// For each workspace id in a statement, the nodes that were sent it.
    workspaces: BTreeMap<String, BTreeSet<String>>,
}

impl Counts {
    fn of(log: &str) -> Self {
        let mut counts = Self::default();
        // By backend: the nodes of its open transaction, and the first statement.
        let mut open = BTreeMap::<String, (BTreeSet<String>, String)>::new();
        let mut command = BTreeMap::<String, String>::new();
        for line in log.lines() {
            let Some(backend) = line.split_once('[').and_then(|(_, rest)| Some(rest.split_once(']')?.0.to_owned()))
            else {
                continue;
            };
            if let Some((_, text)) = line.split_once("NOTICE:  issuing ") {
                command.insert(backend, text.to_owned());
            } else if let Some((_, server)) = line.split_once("DETAIL:  on server ") {
                let node = server.split(' ').next().unwrap_or_default().to_owned();
                let node = node.rsplit('@').next().unwrap_or_default().to_owned();
                let Some(text) = command.remove(&backend) else { continue };
                counts.add(&node, &text, open.entry(backend).or_default());
            }
        }
        counts
    }

    fn add(&mut self, node: &str, text: &str, (nodes, first): &mut (BTreeSet<String>, String)) {
        let count = self.nodes.entry(node.to_owned()).or_default();
        if text.starts_with("BEGIN") {
            count.1 += 1;
            nodes.insert(node.to_owned());
        } else if text.starts_with("COMMIT") || text.starts_with("ROLLBACK") {
            if nodes.len() > 1 {
                self.crossing.push(first.clone());
            }
            (*nodes, *first) = Default::default();
        } else if text.starts_with("PREPARE TRANSACTION") {
            self.prepared += 1;
        } else {
            count.0 += 1;
            if first.is_empty() {
                text.clone_into(first);
            }
            for id in text.split('\'').filter(|part| part.len() == 36 && part.matches('-').count() == 4) {
                self.workspaces.entry(id.to_owned()).or_default().insert(node.to_owned());
            }
        }
    }
}

/// Workspaces whose statements were sent to several nodes.
fn crossing_statements(counts: &Counts, workspaces: &[Workspace]) -> Option<String> {
    let several = workspaces
        .iter()
        .filter(|workspace| counts.workspaces.get(&workspace.id.to_string()).is_some_and(|nodes| nodes.len() > 1));
    let several = several.count();
    (several > 0).then(|| format!("statements of {several} workspaces were sent to several nodes"))
}
