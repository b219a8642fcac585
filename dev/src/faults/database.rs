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
    /// For how many seconds the server is away.
    #[arg(long, value_name = "S", default_value_t = 60)]
    seconds: u64,
    /// How many files are imported.
    #[arg(long, value_name = "N", default_value_t = 12)]
    imports: usize,
    /// How many rows each file has.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    rows: usize,
    /// How many workers there are.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..))]
    workers: u8,
    /// Chooses the rows of the files.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Build the programs without optimizations, which is sooner done but not what is deployed.
    #[arg(long)]
    debug: bool,
}

/// Imports files while the server is away for a time; returns the promises that were broken.
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
    println!("PostgreSQL is stopped for {} s while {running} imports run", arguments.seconds);
    harness.stop_database().await?;
    sleep(Duration::from_secs(arguments.seconds)).await;
    harness.start_database().await?;
    println!("PostgreSQL is back");
    let back = Instant::now();

    let ids: Vec<_> = jobs.iter().map(|(id, _)| *id).collect();
    harness.wait_for(&ids, Duration::from_secs(300)).await?;
    println!("all imports have ended {:.0?} later", back.elapsed());
    let mut broken = verify(&harness.pool, &jobs).await?;
    if running == 0 {
        broken.push("no import was running when the server was stopped: nothing was shown".to_owned());
    }
    broken.extend(harness.ended().await.into_iter().map(|end| format!("{end}, although only the server was stopped")));
    let crashes: i64 =
        sqlx::query_scalar("SELECT count(*) FROM jobs WHERE crashes > 0").fetch_one(&harness.pool).await?;
    if crashes > 0 {
        broken.push(format!("{crashes} jobs were taken for dead while the server was away"));
    }
    harness.end(!broken.is_empty()).await?;
    Ok(broken)
}
