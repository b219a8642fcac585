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
    /// How many times a worker is stopped.
    #[arg(long, value_name = "N", default_value_t = 4)]
    stops: usize,
    /// How many files are imported meanwhile, each time.
    #[arg(long, value_name = "N", default_value_t = 4)]
    imports: usize,
    /// How many rows each file has.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    rows: usize,
    /// Chooses the rows of the files.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Build the programs without optimizations, which is sooner done but not what is deployed.
    #[arg(long)]
    debug: bool,
}

/// Imports files while one worker after the other is stopped past its leases and woken again;
/// returns the promises that were broken.
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
        // Its leases run out, its sessions are ended by the server, and the other takes its jobs.
        let ids: Vec<_> = jobs.iter().map(|(id, _)| *id).collect();
        sleep(LEASE).await;
        harness.wait_for(&ids, Duration::from_secs(120)).await?;
        harness.workers[victim].process.signal("CONT");
        // Time to do damage, if it can.
        sleep(Duration::from_secs(5)).await;
        let late: i64 = sqlx::query_scalar("SELECT count(*) FROM jobs WHERE id = ANY ($1) AND attempt > 1")
            .bind(&ids[first..])
            .fetch_one(&harness.pool)
            .await?;
        println!("stop {} of {}: {late} jobs were taken over", stop + 1, arguments.stops);
        taken_over += late;
    }
    let mut broken = verify(&harness.pool, &jobs).await?;
    if taken_over == 0 {
        broken.push("no job was taken over: nothing was shown".to_owned());
    }
    broken.extend(
        harness.ended().await.into_iter().map(|end| format!("{end}, although it was only stopped for a while")),
    );
    harness.end(!broken.is_empty()).await?;
    Ok(broken)
}
