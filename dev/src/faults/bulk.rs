//! `cargo dev faults bulk`

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::time::sleep;
use uuid::Uuid;

use super::files;
use super::harness::Harness;
use super::import::wait_for_work;

/// The longest time between observing a running job and killing a worker.
const AIM_MS: u64 = 400;

#[derive(Debug, Args)]
pub struct Arguments {
    /// How often a worker is killed during each bulk change.
    #[arg(long, value_name = "N", default_value_t = 5)]
    kills: usize,
    /// The number of leads.
    #[arg(long, value_name = "N", default_value_t = 50_000)]
    leads: usize,
    /// The number of workers at any time.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..))]
    workers: u8,
    /// The seed of the times of the kills.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Build the programs without optimizations: faster to build, but not what is deployed.
    #[arg(long)]
    debug: bool,
}

/// What a bulk change does, and what it leaves in the history of each lead.
type Change = (&'static str, Value, &'static str);

/// The changes, each of all leads.
fn changes() -> [Change; 5] {
    let owner = json!({ "assigned_to": "019ab3f2-7d20-7a11-9c3e-5b6f8a2d4c10" });
    [
        ("update", json!({ "score": 77 }), "updated"),
        // Every lead's search words change, too.
        ("update", json!({ "company": "Acme" }), "updated"),
        ("assign", owner, "updated"),
        ("delete", json!({}), "deleted"),
        ("restore", json!({}), "restored"),
    ]
}

/// Changes leads in bulk while workers are killed; returns the broken guarantees.
pub async fn run(arguments: Arguments) -> Result<Vec<String>> {
    let Arguments { kills, leads, seed, .. } = arguments;
    let mut harness = Harness::start(arguments.workers.into(), !arguments.debug).await?;
    let random = &mut StdRng::seed_from_u64(seed);
    let import = harness.upload(&files::plain(leads)).await?;
    harness.wait_for(&[import], Duration::from_secs(120)).await?;
    let (began, mut broken) = (Instant::now(), Vec::new());
    for (action, set, entry) in changes() {
        let job = start(&harness, action, &set, leads).await?;
        for _ in 0..kills {
            wait_for_work(&harness.pool).await?;
            sleep(Duration::from_millis(random.random_range(0..AIM_MS))).await;
            let victim = random.random_range(0..harness.workers.len());
            harness.kill_worker(victim).await?;
        }
        harness.wait_for(&[job], Duration::from_secs(300)).await?;
        println!("{action} {set}: {kills} kills");
        broken.extend(verify(&harness.pool, job, (action, entry), leads as i64).await?);
    }
    let left: i64 = sqlx::query_scalar("SELECT count(*) FROM bulk_targets").fetch_one(&harness.pool).await?;
    if left > 0 {
        broken.push(format!("{left} chunks of ids were not deleted"));
    }
    let present: i64 = sqlx::query_scalar("SELECT count(*) FROM leads WHERE score = 77 AND company = 'Acme'")
        .fetch_one(&harness.pool)
        .await?;
    if present != leads as i64 {
        broken.push(format!("{present} of {leads} leads have the new values"));
    }
    println!("{} bulk changes took {:.0?}", changes().len(), began.elapsed());
    harness.end(!broken.is_empty()).await?;
    Ok(broken)
}

/// Accepts a bulk change of all leads; returns the id of its job.
async fn start(harness: &Harness, action: &str, set: &Value, leads: usize) -> Result<Uuid> {
    let body = json!({ "filter": "all", "action": action, "set": set, "confirm": leads });
    let url = format!("{}/dev/crm/leads/bulk", harness.api_url());
    let response = reqwest::Client::new().post(url).bearer_auth(harness.key()).json(&body).send().await?;
    let (status, body) = (response.status(), response.text().await?);
    ensure!(status == 202, "a bulk change returned {status}: {body}");
    let job: Value = serde_json::from_str(&body)?;
    Ok(job["id"].as_str().context("the job has no id")?.parse()?)
}

/// Checks the result of a bulk change, and that every lead has exactly one entry of it in the history.
async fn verify(pool: &PgPool, job: Uuid, (action, entry): (&str, &str), leads: i64) -> Result<Vec<String>> {
    let (status, result): (String, Option<Value>) =
        sqlx::query_as("SELECT status, result FROM jobs WHERE id = $1").bind(job).fetch_one(pool).await?;
    let mut broken = Vec::new();
    if status != "succeeded" {
        broken.push(format!("{action} ended {status}"));
    }
    for (name, expected) in [("matched", leads), ("changed", leads), ("unchanged", 0), ("failed", 0)] {
        let counted = result.as_ref().and_then(|result| result[name].as_i64());
        if counted != Some(expected) {
            broken.push(format!("{action}: {name} is {counted:?} instead of {expected}"));
        }
    }
    let (entries, records): (i64, i64) = sqlx::query_as(
        "SELECT count(*), count(DISTINCT record_id) FROM history
         WHERE actor_type = 'job' AND actor_id = $1 AND action = $2 AND record_type = 'lead'",
    )
    .bind(job)
    .bind(entry)
    .fetch_one(pool)
    .await?;
    if (entries, records) != (leads, leads) {
        broken.push(format!("{action}: {entries} entries in the history of {records} leads instead of {leads}"));
    }
    Ok(broken)
}
