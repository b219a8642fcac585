//! `cargo dev bench bulk`

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use chrono::{DateTime, Utc};
use clap::Args;
use serde_json::{Value, json};
use sqlx::FromRow;
use tokio::time::sleep;
use uuid::Uuid;

use super::export::fill;
use super::figures::{Bound, Figures, median};
use super::harness::{Api, Harness, succeed};

/// The least share of the speed of one statement.
const SPEED: f64 = 0.50;
/// The most memory of each program, in MiB.
const MEMORY: f64 = 150.0;

#[derive(Debug, Args)]
pub struct Arguments {
    /// The number of leads.
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    leads: usize,
    /// How often the leads are changed in each way.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..))]
    rounds: u8,
}

/// Sets the status of all leads through the API, and with one SQL statement that writes the same history.
pub async fn run(arguments: Arguments) -> Result<ExitCode> {
    Harness::with(async |harness| measure(harness, &arguments).await).await
}

async fn measure(harness: &Harness, arguments: &Arguments) -> Result<ExitCode> {
    let &Arguments { leads, rounds } = arguments;
    let settings = json!({ "machine": harness.machine().await?, "leads": leads, "rounds": rounds });
    let mut figures = Figures::new("bulk", settings);
    let api = harness.api().await?;
    fill(harness, &api, leads).await?;
    let worker = harness.worker_of("imports")?;
    let (mut ours, mut theirs, mut accepting) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=rounds {
        reset(harness).await?;
        let bulk = change(harness, &api, leads).await?;
        check(harness, leads).await?;
        reset(harness).await?;
        let statement = change_by_statement(harness, &api).await?;
        check(harness, leads).await?;
        figures.sample(json!({ "round": round, "bulk_s": bulk.seconds, "accepted_s": bulk.accepted_seconds,
            "statement_s": statement }));
        ours.push(leads as f64 / bulk.seconds);
        theirs.push(leads as f64 / statement);
        accepting.push(bulk.accepted_seconds);
    }
    let figure = format!("a bulk update of {leads} leads, from the request to the end of the job");
    let compared = (median(&ours), median(&theirs));
    figures.ratio(&figure, compared, "leads/s", "one UPDATE with the same history", Bound::AtLeast(SPEED));
    figures.alone("accepting it", median(&accepting), "s", Bound::None);
    for (name, program) in [("crm-api", &api.program), ("crm-worker", &worker)] {
        let figure = format!("peak memory of {name}");
        figures.alone(&figure, program.peak_memory().await?, "MiB", Bound::AtMost(MEMORY));
    }
    worker.stop().await?;
    api.program.stop().await?;
    Ok(figures.table())
}

/// Makes all leads new, as nobody has changed them.
async fn reset(harness: &Harness) -> Result<()> {
    harness.prepare("TRUNCATE history, jobs CASCADE; UPDATE leads SET status = 'new', lost_at = NULL").await?;
    harness.prepare("VACUUM FULL leads").await?;
    harness.prepare("VACUUM (ANALYZE) leads").await
}

struct Changed {
    seconds: f64,
    accepted_seconds: f64,
}

#[derive(FromRow)]
struct Job {
    status: String,
    result: Option<Value>,
    finished_at: Option<DateTime<Utc>>,
}

async fn change(harness: &Harness, api: &Api, leads: usize) -> Result<Changed> {
    let body = json!({ "filter": "all", "action": "update", "set": { "status": "lost" }, "confirm": leads });
    let (sent, began) = (Utc::now(), Instant::now());
    let request = reqwest::Client::new().post(format!("{}/leads/bulk", api.url)).bearer_auth(&api.key).json(&body);
    let job: Value = request.send().await?.error_for_status()?.json().await?;
    let accepted_seconds = began.elapsed().as_secs_f64();
    let id: Uuid = job["id"].as_str().context("the job has no id")?.parse()?;
    let (job, finished_at) = loop {
        let job: Job = sqlx::query_as("SELECT status, result, finished_at FROM jobs WHERE id = $1")
            .bind(id)
            .fetch_one(&harness.pool)
            .await?;
        if let Some(finished_at) = job.finished_at {
            break (job, finished_at);
        }
        sleep(Duration::from_millis(50)).await;
    };
    let changed = job.result.as_ref().and_then(|result| result["changed"].as_u64());
    let is_whole = job.status == "succeeded" && changed == Some(leads as u64);
    ensure!(is_whole, "the bulk update ended {}: {:?}", job.status, job.result);
    Ok(Changed { seconds: (finished_at - sent).as_seconds_f64(), accepted_seconds })
}

/// Changes the leads and writes their history with one statement.
async fn change_by_statement(harness: &Harness, api: &Api) -> Result<f64> {
    let workspace = api.workspace;
    // The ids of the entries rise, as those of the product do.
    let statement = format!(
        "WITH changed AS (
             UPDATE leads SET status = 'lost', lost_at = coalesce(leads.lost_at, now()), updated_at = now()
             FROM (SELECT id, status, lost_at FROM leads WHERE workspace_id = '{workspace}') AS before
             WHERE leads.workspace_id = '{workspace}' AND leads.id = before.id AND leads.status <> 'lost'
             RETURNING leads.id, before.status AS former, before.lost_at AS former_at, leads.lost_at
         )
         INSERT INTO history (workspace_id, id, record_type, record_id, action, actor_type, actor_id, former, latter, created_at)
         SELECT '{workspace}', lpad(to_hex(row_number() OVER ()), 32, '0')::uuid, 'lead', id, 'updated', 'job', '{workspace}',
             jsonb_build_object('status', former, 'lost_at', former_at),
             jsonb_build_object('status', 'lost', 'lost_at', lost_at), now()
         FROM changed"
    );
    let began = Instant::now();
    succeed(&mut harness.psql(&statement)).await?;
    Ok(began.elapsed().as_secs_f64())
}

/// Checks that every lead was changed, and has one entry in the history.
async fn check(harness: &Harness, leads: usize) -> Result<()> {
    let counts: Vec<i64> = sqlx::query_scalar(
        "SELECT count(*) FROM leads WHERE status = 'lost' AND lost_at IS NOT NULL
         UNION ALL SELECT count(DISTINCT record_id) FROM history UNION ALL SELECT count(*) FROM history",
    )
    .fetch_all(&harness.pool)
    .await?;
    ensure!(counts.iter().all(|rows| *rows == leads as i64), "the tables have {counts:?} rows for {leads} leads");
    Ok(())
}
