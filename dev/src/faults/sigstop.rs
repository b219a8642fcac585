//! `cargo dev faults sigstop`

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use shared::queue::LEASE;
use tokio::time::sleep;

use super::files;
use super::harness::Harness;
use super::verify::verify;

#[derive(Debug, Args)]
pub struct Arguments {
    /// How often a worker is suspended.
    #[arg(long, value_name = "N", default_value_t = 4)]
    stops: usize,
    /// The number of files to import each time.
    #[arg(long, value_name = "N", default_value_t = 4)]
    imports: usize,
    /// The number of rows of each file.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    rows: usize,
    /// The seed of the rows.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Build the programs without optimizations: faster to build, but not what is deployed.
    #[arg(long)]
    debug: bool,
}

/// Imports files while one worker after another is suspended until its leases expire, and resumed; returns the
/// broken guarantees.
pub async fn run(arguments: Arguments) -> Result<Vec<String>> {
    let mut harness = Harness::start(2, !arguments.debug).await?;
    let base = files::base();
    let mut jobs = vec![(harness.upload(&base).await?, base)];
    let mut taken_over = 0;
    for stop in 0..arguments.stops {
        let first = jobs.len();
        for number in first..first + arguments.imports {
            let file = files::mixed(number, arguments.rows, arguments.seed);
            jobs.push((harness.upload(&file).await?, file));
        }
        let victim = stop % harness.workers.len();
        harness.workers[victim].process.signal("STOP");
        // Its leases expire, the database ends its sessions, and the other worker claims its jobs.
        let ids: Vec<_> = jobs.iter().map(|(id, _)| *id).collect();
        sleep(LEASE).await;
        harness.wait_for(&ids, Duration::from_secs(120)).await?;
        harness.workers[victim].process.signal("CONT");
        // The resumed worker has time to do damage, if it can.
        sleep(Duration::from_secs(5)).await;
        let late: i64 = sqlx::query_scalar("SELECT count(*) FROM jobs WHERE id = ANY ($1) AND attempt > 1")
            .bind(&ids[first..])
            .fetch_one(&harness.pool)
            .await?;
        println!("stop {} of {}: {late} jobs were claimed by the other worker", stop + 1, arguments.stops);
        taken_over += late;
    }
    let mut broken = verify(&harness.pool, &jobs).await?;
    if taken_over == 0 {
        broken.push("the other worker claimed no job, so nothing was tested".to_owned());
    }
    broken.extend(harness.ended().await.into_iter().map(|end| format!("{end}, although it was only suspended")));
    harness.end(!broken.is_empty()).await?;
    Ok(broken)
}
