//! `cargo dev faults idempotency`

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Args;
use futures_util::future::try_join_all;
use rand::RngExt;
use reqwest::Client;
use serde_json::json;
use tokio::time::sleep;

use super::harness::Harness;

/// A request without a successful response in this time fails the run.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Debug, Args)]
pub struct Arguments {
    /// The number of requests, each sent twice concurrently.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    requests: usize,
    /// How often crm-api is killed.
    #[arg(long, value_name = "N", default_value_t = 20)]
    kills: usize,
    /// The number of pairs of concurrent requests.
    #[arg(long, value_name = "N", default_value_t = 16)]
    clients: usize,
    /// Build the programs without optimizations: faster to build, but not what is deployed.
    #[arg(long)]
    debug: bool,
}

/// Sends requests with idempotency keys while crm-api is killed; returns the broken guarantees.
pub async fn run(arguments: Arguments) -> Result<Vec<String>> {
    let Arguments { requests, kills, clients, debug } = arguments;
    let mut harness = Harness::start(0, !debug).await?;
    let rivals = Rivals {
        client: Client::new(),
        url: format!("{}/dev/crm/leads", harness.api_url()),
        key: harness.key().to_owned(),
        next: AtomicUsize::new(0),
        requests,
        replays: AtomicUsize::new(0),
        retries: AtomicUsize::new(0),
    };
    let began = Instant::now();
    let racing = try_join_all((0..clients).map(|_| rivals.race()));
    let killing = async {
        for kill in 1..=kills {
            // The kills are spread over the requests.
            while rivals.next.load(Relaxed) < requests * kill / (kills + 1) {
                sleep(Duration::from_millis(5)).await;
            }
            sleep(Duration::from_millis(rand::rng().random_range(0..50))).await;
            harness.kill_api().await?;
            println!("kill {kill} of {kills}, {} of {requests} requests", rivals.next.load(Relaxed));
        }
        anyhow::Ok(())
    };
    let (differing, ()) = tokio::try_join!(racing, killing)?;
    let differing: Vec<String> = differing.into_iter().flatten().collect();
    let (replays, retries) = (rivals.replays.load(Relaxed), rivals.retries.load(Relaxed));
    println!("{requests} requests twice in {:.0?}; {replays} replays, {retries} retries", began.elapsed());

    let mut broken = differing;
    let leads: i64 = sqlx::query_scalar("SELECT count(*) FROM leads").fetch_one(&harness.pool).await?;
    if leads != requests as i64 {
        broken.push(format!("{requests} requests created {leads} leads"));
    }
    harness.end(!broken.is_empty()).await?;
    Ok(broken)
}

struct Rivals {
    client: Client,
    url: String,
    key: String,
    next: AtomicUsize,
    requests: usize,
    replays: AtomicUsize,
    retries: AtomicUsize,
}

/// The parts of a response that must be the same: the location, the tag and the body.
type Replied = (Option<String>, Option<String>, String);

impl Rivals {
    /// Sends one request after another, each twice concurrently; returns those whose responses differ.
    async fn race(&self) -> Result<Vec<String>> {
        let mut differing = Vec::new();
        loop {
            let request = self.next.fetch_add(1, Relaxed);
            if request >= self.requests {
                return Ok(differing);
            }
            let (one, other) = tokio::try_join!(self.insist(request), self.insist(request))?;
            if one != other {
                differing.push(format!("request {request} returned {one:?} and {other:?}"));
            }
        }
    }

    /// Repeats a request until it succeeds.
    async fn insist(&self, request: usize) -> Result<Replied> {
        let body = json!({ "name": "Rival", "email": format!("rival{request}@example.com") });
        let began = Instant::now();
        loop {
            let sent = self.client.post(&self.url).bearer_auth(&self.key).json(&body);
            let sent = sent.header("Idempotency-Key", format!("request-{request}")).send().await;
            if let Ok(response) = sent
                && response.status() == 201
            {
                let header = |name: &str| Some(response.headers().get(name)?.to_str().ok()?.to_owned());
                let (location, tag, replay) = (header("location"), header("etag"), header("idempotent-replayed"));
                // The body ends early if the process is killed.
                if let Ok(body) = response.text().await {
                    self.replays.fetch_add(usize::from(replay.is_some()), Relaxed);
                    return Ok((location, tag, body));
                }
            }
            ensure!(began.elapsed() < PATIENCE, "request {request} did not succeed in time");
            self.retries.fetch_add(1, Relaxed);
            sleep(Duration::from_millis(rand::rng().random_range(5..50))).await;
        }
    }
}
