//! `cargo dev faults database`

use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;
use tokio::time::sleep;

use super::files;
use super::harness::Harness;
use super::verify::verify;

#[derive(Debug, Args)]
pub struct Arguments {
    /// How many seconds the server is stopped.
    #[arg(long, value_name = "S", default_value_t = 60)]
    seconds: u64,
    /// The number of files to import.
    #[arg(long, value_name = "N", default_value_t = 12)]
    imports: usize,
    /// The number of rows of each file.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    rows: usize,
    /// The number of workers.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..))]
    workers: u8,
    /// The seed of the rows.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Build the programs without optimizations: faster to build, but not what is deployed.
    #[arg(long)]
    debug: bool,
}

/// Imports files while the server is stopped for a time; returns the broken guarantees.
pub async fn run(arguments: Arguments) -> Result<Vec<String>> {
    let mut harness = Harness::start(arguments.workers.into(), !arguments.debug).await?;
    let base = files::base();
    let mut jobs = vec![(harness.upload(&base).await?, base)];
    for number in 1..=arguments.imports {
        let file = files::mixed(number, arguments.rows, arguments.seed);
        jobs.push((harness.upload(&file).await?, file));
    }
    let running: i64 =
        sqlx::query_scalar("SELECT count(*) FROM jobs WHERE status = 'running'").fetch_one(&harness.pool).await?;
    println!("stopping PostgreSQL for {} s while {running} imports run", arguments.seconds);
    harness.stop_database().await?;
    sleep(Duration::from_secs(arguments.seconds)).await;
    harness.start_database().await?;
    println!("PostgreSQL runs again");
    let restarted = Instant::now();

    let ids: Vec<_> = jobs.iter().map(|(id, _)| *id).collect();
    harness.wait_for(&ids, Duration::from_secs(300)).await?;
    println!("all imports have finished {:.0?} later", restarted.elapsed());
    let mut broken = verify(&harness.pool, &jobs).await?;
    if running == 0 {
        broken.push("no import was running when the server was stopped, so nothing was tested".to_owned());
    }
    broken.extend(harness.ended().await.into_iter().map(|end| format!("{end}, although only the server was stopped")));
    let crashes: i64 =
        sqlx::query_scalar("SELECT count(*) FROM jobs WHERE crashes > 0").fetch_one(&harness.pool).await?;
    if crashes > 0 {
        broken.push(format!("{crashes} jobs were counted as crashed while the server was stopped"));
    }
    harness.end(!broken.is_empty()).await?;
    Ok(broken)
}
