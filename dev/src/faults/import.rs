//! `cargo dev faults import`

use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sqlx::PgPool;
use tokio::time::sleep;

use super::files;
use super::harness::Harness;
use super::orders;
use super::verify::verify;
use super::watch::Watch;
use crate::formats::Format;

/// A killed job must run again within this time.
const RUNS_AGAIN_WITHIN: Duration = Duration::from_secs(20);

/// The longest pause between a kill and the next file.
const PAUSE_MS: u64 = 2_500;
/// The longest time between observing a running job and killing a worker.
const AIM_MS: u64 = 400;
/// The number of files uploaded before the first kill.
const HEAD_START: usize = 4;

#[derive(Debug, Args)]
pub struct Arguments {
    /// How often a worker is killed.
    #[arg(long, value_name = "N", default_value_t = 50)]
    kills: usize,
    /// The number of files to import.
    #[arg(long, value_name = "N", default_value_t = 40)]
    imports: usize,
    /// The number of rows of each file.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    rows: usize,
    /// The number of workers at any time.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..))]
    workers: u8,
    /// The format of the files.
    #[arg(long, value_enum, default_value = "csv")]
    format: Format,
    /// The seed of the rows and of the times of the kills.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Build the programs without optimizations: faster to build, but not what is deployed.
    #[arg(long)]
    debug: bool,
}

/// Imports files while workers are killed; returns the broken guarantees.
pub async fn run(arguments: Arguments) -> Result<Vec<String>> {
    let Arguments { kills, imports, rows, seed, format, .. } = arguments;
    let mut harness = Harness::start(arguments.workers.into(), !arguments.debug).await?;
    let random = &mut StdRng::seed_from_u64(seed);
    let base = files::base();
    let mut jobs = vec![(harness.upload_as(&base, format).await?, base)];
    let customers = orders::customers(&harness).await?;
    harness.wait_for(&[jobs[0].0, customers], Duration::from_secs(60)).await?;
    let mut ordered = Vec::new();

    let began = Instant::now();
    let watch = Watch::new(harness.pool.clone());
    for kill in 1..=kills {
        sleep(Duration::from_millis(random.random_range(0..PAUSE_MS))).await;
        // Files are uploaded throughout the run, so that each kill can hit running jobs.
        while jobs.len() <= imports && jobs.len() <= HEAD_START + kill * imports / kills {
            let file = files::mixed(jobs.len(), rows, seed);
            jobs.push((harness.upload_as(&file, format).await?, file));
            // Every fifth file has a file of orders beside it.
            if jobs.len() % 5 == 0 {
                let file = orders::file(jobs.len(), rows, seed);
                ordered.push((harness.upload_to("orders/import", format.of_text(&file.csv)?).await?, file));
            }
        }
        wait_for_work(&harness.pool).await?;
        sleep(Duration::from_millis(random.random_range(0..AIM_MS))).await;
        let victim = random.random_range(0..harness.workers.len());
        let killed = Instant::now();
        let claimed = harness.kill_worker(victim).await?;
        watch.killed(&claimed, killed).await?;
        println!("kill {kill} of {kills}, {} of {imports} files", jobs.len() - 1);
    }
    let ids: Vec<_> = jobs.iter().map(|(id, _)| *id).chain(ordered.iter().map(|(id, _)| *id)).collect();
    harness.wait_for(&ids, Duration::from_secs(300)).await?;
    let took = began.elapsed();

    let mut broken = verify(&harness.pool, &jobs).await?;
    broken.extend(orders::verify(&harness.pool, &ordered).await?);
    broken.extend(report(watch.end().await?, kills, jobs.len() - 1, took));
    harness.end(!broken.is_empty()).await?;
    Ok(broken)
}

/// Waits until a job is running, but not for long: a worker may also be killed while it is idle.
pub async fn wait_for_work(pool: &PgPool) -> Result<()> {
    for _ in 0..100 {
        let busy = "SELECT EXISTS (SELECT 1 FROM jobs WHERE lease_until > now())";
        if sqlx::query_scalar(busy).fetch_one(pool).await? {
            break;
        }
        sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

fn report(mut delays: Vec<Duration>, kills: usize, imports: usize, took: Duration) -> Option<String> {
    delays.sort_unstable();
    let quantile = |q: f64| {
        let rank = (delays.len() as f64 * q).ceil() as usize;
        delays.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    };
    let (p50, p99, max) = (quantile(0.5), quantile(0.99), quantile(1.0));
    println!("{imports} imports took {took:.0?}; {kills} kills hit {} running jobs", delays.len());
    println!("from kill to running again: p50 {p50:.1?}, p99 {p99:.1?}, max {max:.1?}");
    let late = p99 > RUNS_AGAIN_WITHIN;
    late.then(|| format!("killed jobs ran again after {p99:.1?} (p99), not within {RUNS_AGAIN_WITHIN:?}"))
}
