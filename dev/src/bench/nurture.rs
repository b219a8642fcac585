//! `cargo dev bench nurture`

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use chrono::{DateTime, Utc};
use clap::Args;
use serde_json::{Value, json};
use sqlx::FromRow;
use tokio::time::sleep;

use super::export::fill;
use super::figures::{Bound, Figures, median};
use super::harness::{Api, Harness};

/// The most seconds of a run.
const SECONDS: f64 = 60.0;
/// The most memory of the worker, in MiB.
const MEMORY: f64 = 150.0;

#[derive(Debug, Args)]
pub struct Arguments {
    /// The number of leads.
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    leads: usize,
    /// How often the leads are nurtured from the start.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..))]
    rounds: u8,
}

/// A finished job.
#[derive(FromRow)]
struct Job {
    status: String,
    result: Option<Value>,
    created_at: DateTime<Utc>,
    finished_at: DateTime<Utc>,
}

/// Nurtures leads with one worker: queues their emails, and records the steps and interactions.
pub async fn run(arguments: Arguments) -> Result<ExitCode> {
    Harness::with(async |harness| measure(harness, &arguments).await).await
}

async fn measure(harness: &Harness, arguments: &Arguments) -> Result<ExitCode> {
    let &Arguments { leads, rounds } = arguments;
    let settings = json!({ "machine": harness.machine().await?, "leads": leads, "rounds": rounds });
    let mut figures = Figures::new("nurture", settings);
    let api = harness.api().await?;
    fill(harness, &api, leads).await?;
    let worker = harness.worker_of("workflows")?;
    let (mut sending, mut waiting) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        // Resets all leads to the state before any contact.
        harness.prepare("TRUNCATE emails, nurture_steps, lead_interactions, history").await?;
        harness.prepare("UPDATE leads SET status = 'new', last_contact = NULL, nurture_enrolled_at = NULL").await?;
        harness.prepare("VACUUM (ANALYZE) leads").await?;
        let sent = nurture(harness, &api).await?;
        check(harness, &sent, "sent", leads).await?;
        let waited = nurture(harness, &api).await?;
        check(harness, &waited, "waiting", leads).await?;
        let (sent, waited) = (sent.seconds(), waited.seconds());
        figures.sample(json!({ "round": round, "send_s": sent, "wait_s": waited }));
        sending.push(sent);
        waiting.push(waited);
    }
    figures.alone(
        &format!("nurturing {leads} leads, each with an email"),
        median(&sending),
        "s",
        Bound::AtMost(SECONDS),
    );
    figures.alone("the same with the next step not due yet", median(&waiting), "s", Bound::None);
    figures.alone("peak memory of crm-worker", worker.peak_memory().await?, "MiB", Bound::AtMost(MEMORY));
    worker.stop().await?;
    api.program.stop().await?;
    Ok(figures.table())
}

impl Job {
    /// The time from the request to the end.
    fn seconds(&self) -> f64 {
        (self.finished_at - self.created_at).as_seconds_f64()
    }
}

async fn nurture(harness: &Harness, api: &Api) -> Result<Job> {
    let request = reqwest::Client::new().post(format!("{}/leads/nurture/start", api.url)).bearer_auth(&api.key);
    request.send().await?.error_for_status()?;
    loop {
        let job = sqlx::query_as(
            "SELECT status, result, created_at, finished_at FROM jobs
             WHERE kind = 'nurture_leads' AND NOT EXISTS (SELECT FROM jobs WHERE kind = 'nurture_leads' AND finished_at IS NULL)
             ORDER BY id DESC LIMIT 1",
        );
        if let Some(job) = job.fetch_optional(&harness.pool).await? {
            return Ok(job);
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// Compares the result of the run with the rows in the database.
async fn check(harness: &Harness, job: &Job, count: &str, leads: usize) -> Result<()> {
    let counted = job.result.as_ref().and_then(|result| result[count].as_u64());
    ensure!(
        job.status == "succeeded" && counted == Some(leads as u64),
        "unexpected result of the run: {:?}",
        job.result
    );
    let counts: Vec<i64> = sqlx::query_scalar(
        "SELECT count(*) FROM emails UNION ALL SELECT count(*) FROM nurture_steps UNION ALL SELECT count(*) FROM lead_interactions",
    )
    .fetch_all(&harness.pool)
    .await?;
    ensure!(counts.iter().all(|rows| *rows == leads as i64), "the tables have {counts:?} rows for {leads} leads");
    Ok(())
}
