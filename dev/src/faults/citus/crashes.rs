//! `cargo dev faults citus crashes`

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use uuid::Uuid;

use crate::faults::harness::Harness;
use crate::faults::import::wait_for_work;
use crate::faults::{files, verify};

/// The longest pause between a kill and the next file.
const PAUSE_MS: u64 = 4_000;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// How often something is killed.
    #[arg(long, value_name = "N", default_value_t = 20)]
    kills: usize,
    /// The number of files to import.
    #[arg(long, value_name = "N", default_value_t = 12)]
    imports: usize,
    /// The number of rows of each file.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    rows: usize,
    /// The seed of the rows and of the kills.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Kills programs, the connections of a node and the coordinator while files are imported and keys are created;
/// returns the broken guarantees.
pub async fn run(arguments: Arguments, release: bool) -> Result<Vec<String>> {
    let Arguments { kills, imports, rows, seed } = arguments;
    let mut harness = Harness::start(3, release).await?;
    let random = &mut StdRng::seed_from_u64(seed);
    let base = files::base();
    let mut jobs = vec![(upload(&harness, &base, "base").await?, base)];
    harness.wait_for(&[jobs[0].0], Duration::from_secs(120)).await?;
    let keys = create_keys(harness.api_url().to_owned(), harness.key().to_owned());

    let began = Instant::now();
    for kill in 1..=kills {
        while jobs.len() <= imports && jobs.len() <= 2 + kill * imports / kills {
            let file = files::mixed(jobs.len(), rows, seed);
            let job = upload(&harness, &file, &jobs.len().to_string()).await?;
            jobs.push((job, file));
        }
        // The connections of this program end, too.
        let _ = wait_for_work(&harness.pool).await;
        sleep(Duration::from_millis(random.random_range(0..PAUSE_MS))).await;
        let what = match kill % 4 {
            0 => {
                harness.kill_api().await?;
                "crm-api"
            }
            1 => {
                let victim = random.random_range(0..harness.workers.len());
                harness.kill_worker(victim).await?;
                "a worker"
            }
            2 => {
                harness.servers()?.end_connections(random.random_range(0..2)).await?;
                "the connections of a node"
            }
            _ => {
                harness.servers()?.crash_coordinator().await?;
                "the coordinator"
            }
        };
        println!("kill {kill} of {kills}: {what}");
    }
    let ids: Vec<_> = jobs.iter().map(|(id, _)| *id).collect();
    while sqlx::query("SELECT count(*) FROM jobs").execute(&harness.pool).await.is_err() {
        sleep(Duration::from_millis(100)).await;
    }
    harness.wait_for(&ids, Duration::from_secs(600)).await?;
    println!("{imports} imports took {:.0?}", began.elapsed());
    keys.abort();
    let mut broken = verify::verify(&harness.pool, &jobs).await?;
    broken.extend(verify_keys(&harness.pool).await?);
    harness.end(!broken.is_empty()).await?;
    Ok(broken)
}

/// Uploads a file until it is accepted, which repeats nothing.
async fn upload(harness: &Harness, file: &files::File, key: &str) -> Result<Uuid> {
    let url = format!("{}/dev/crm/leads/import?on_conflict={}", harness.api_url(), file.on_conflict.as_str());
    for _ in 0..60 {
        let form = Form::new().part("file", Part::text(file.csv.clone()).file_name("leads.csv"));
        let request = reqwest::Client::new().post(&url).bearer_auth(harness.key()).header("Idempotency-Key", key);
        if let Ok(response) = request.multipart(form).send().await
            && response.status() == 202
        {
            let job: Value = response.json().await?;
            return Ok(job["id"].as_str().context("the job has no id")?.parse()?);
        }
        sleep(Duration::from_millis(500)).await;
    }
    bail!("the file {key} was not accepted within 30 s")
}

/// Creates keys, each with its event, until the task is aborted.
fn create_keys(url: String, key: String) -> JoinHandle<()> {
    tokio::spawn(async move {
        let http = reqwest::Client::new();
        for number in 0_u64.. {
            let new = json!({ "name": format!("key {number}"), "scopes": ["records:read"] });
            let request = http.post(format!("{url}/dev/crm/keys")).bearer_auth(&key).json(&new);
            // Whatever the answer is, there is the key with its event, or neither.
            let _ = request.timeout(Duration::from_secs(10)).send().await;
            sleep(Duration::from_millis(30)).await;
        }
    })
}

/// Each key has one event, and each event a key. Whoever created a key on the command line has none.
async fn verify_keys(pool: &PgPool) -> Result<Vec<String>> {
    // What two nodes have prepared is committed within a minute.
    let created = "SELECT subject_id FROM events WHERE type = 'api_key.created'
                   UNION ALL SELECT subject_id FROM new_events WHERE type = 'api_key.created'";
    for _ in 0..120 {
        let prepared: i64 = sqlx::query_scalar("SELECT count(*) FROM pg_dist_transaction").fetch_one(pool).await?;
        if prepared == 0 {
            break;
        }
        sleep(Duration::from_secs(1)).await;
    }
    let mut events: Vec<Uuid> = sqlx::query_scalar(created).fetch_all(pool).await?;
    let mut keys: Vec<Uuid> =
        sqlx::query_scalar("SELECT id FROM api_keys WHERE name LIKE 'key %'").fetch_all(pool).await?;
    events.sort_unstable();
    keys.sort_unstable();
    let without = keys.iter().filter(|key| !events.contains(key)).count();
    let twice = events.windows(2).filter(|pair| pair[0] == pair[1]).count();
    let own: Vec<Uuid> = sqlx::query_scalar("SELECT id FROM api_keys").fetch_all(pool).await?;
    let lost = events.iter().filter(|event| !own.contains(event)).count();
    println!("{} keys: {without} without an event, {twice} with two; {lost} events without a key", keys.len());
    let counts = [(without, "keys have no event"), (twice, "keys have two events"), (lost, "events have no key")];
    Ok(counts.into_iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect())
}
