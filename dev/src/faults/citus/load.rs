//! Requests of many workspaces, and what became of them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use dev::client::Client;
use serde_json::json;
use sqlx::PgPool;
use tokio::task::JoinSet;
use tokio::time::sleep;
use uuid::Uuid;

use crate::faults::harness::Harness;

/// The pause of a client after each request.
const PAUSE: Duration = Duration::from_millis(40);

/// A workspace and the node that has its rows.
#[derive(Debug, Clone)]
pub struct Workspace {
    pub id: Uuid,
    pub key: String,
    /// The port of the node.
    pub node: i32,
}

/// Creates workspaces.
pub async fn workspaces(harness: &Harness, count: usize) -> Result<Vec<Workspace>> {
    let mut made = Vec::with_capacity(count);
    for number in 1..=count {
        let (id, key) = harness.new_workspace(&format!("workspace-{number}")).await?;
        made.push(Workspace { id, key, node: node_of(&harness.pool, id).await? });
    }
    Ok(made)
}

/// The port of the node that has the rows of a workspace.
pub async fn node_of(pool: &PgPool, id: Uuid) -> Result<i32> {
    let node = "SELECT nodeport FROM citus_shards WHERE shardid = get_shard_id_for_distribution_column('jobs', $1)";
    sqlx::query_scalar(node).bind(id).fetch_optional(pool).await?.context("the workspace is on no node")
}

/// A request that was answered, or not.
#[derive(Debug, Clone, Copy)]
pub struct Answer {
    pub workspace: usize,
    pub at: Instant,
    pub took: Duration,
    /// `None` without a response.
    pub status: Option<u16>,
}

impl Answer {
    pub fn succeeded(&self) -> bool {
        self.status.is_some_and(|status| (200..300).contains(&status))
    }
}

/// Clients that send requests until this is ended.
pub struct Load {
    clients: JoinSet<()>,
    answers: Arc<Mutex<Vec<Answer>>>,
}

impl Load {
    /// Starts one client for each workspace, which creates leads and reads them.
    pub fn start(url: &str, workspaces: &[Workspace]) -> Self {
        let answers = Arc::<Mutex<Vec<Answer>>>::default();
        let mut clients = JoinSet::new();
        for (number, workspace) in workspaces.iter().enumerate() {
            let (url, key, answers) = (url.to_owned(), workspace.key.clone(), answers.clone());
            clients.spawn(async move {
                let http = reqwest::Client::new();
                for turn in 0_u64.. {
                    let leads = format!("{url}/dev/crm/leads");
                    let request = if turn.is_multiple_of(2) {
                        let email = format!("{turn}@load.example.com");
                        http.post(leads).json(&json!({ "name": "Load", "email": email }))
                    } else {
                        http.get(format!("{leads}?limit=5"))
                    };
                    let at = Instant::now();
                    let response = request.bearer_auth(&key).timeout(Duration::from_secs(30)).send().await;
                    let status = response.ok().map(|response| response.status().as_u16());
                    let answer = Answer { workspace: number, at, took: at.elapsed(), status };
                    answers.lock().unwrap_or_else(PoisonError::into_inner).push(answer);
                    sleep(PAUSE).await;
                }
            });
        }
        Self { clients, answers }
    }

    /// The answers so far.
    pub fn answers(&self) -> Vec<Answer> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Stops the clients.
    pub async fn end(mut self) -> Vec<Answer> {
        self.clients.shutdown().await;
        self.answers()
    }
}

/// The longest time of all but the slowest hundredth.
pub fn p99<'a>(answers: impl Iterator<Item = &'a Answer>) -> Duration {
    let mut times: Vec<Duration> = answers.map(|answer| answer.took).collect();
    times.sort_unstable();
    times.get(times.len() * 99 / 100).or(times.last()).copied().unwrap_or_default()
}

/// Imports a file into each workspace; returns the jobs.
pub async fn import(harness: &Harness, workspaces: &[Workspace], rows: usize) -> Result<Vec<Uuid>> {
    let mut jobs = Vec::new();
    for workspace in workspaces {
        let mut file = "name,email,company\n".to_owned();
        for row in 0..rows {
            file.push_str(&format!("Person {row},{row}@import.example.com,Company {}\n", row % 97));
        }
        let job = Client::new(harness.api_url(), &workspace.key).import("leads", file).await?;
        jobs.push(job["id"].as_str().context("the job has no id")?.parse()?);
    }
    Ok(jobs)
}
