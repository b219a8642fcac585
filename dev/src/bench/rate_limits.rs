//! `cargo dev bench rate-limits`

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;
use futures_util::future::try_join_all;
use serde_json::json;
use shared::accounts::workspaces::{self, OwnLimit};
use sqlx::PgPool;
use tokio::time::sleep;
use uuid::Uuid;

use super::figures::{Bound, Figures, median};
use super::harness::{Harness, Program};
use super::load::{find_wrk, wrk};

/// The default limit.
const PER_MINUTE: i32 = 6_000;
const BURST: i32 = 1_000;
/// The largest error of the limit, as a share of what is allowed.
const ERROR: f64 = 0.10;
/// The most that the limit may cost a request, in milliseconds.
const COST_MS: f64 = 0.1;

#[derive(Debug, Args)]
pub struct Arguments {
    /// The most processes that share the limit.
    #[arg(long, value_name = "N", default_value_t = 4)]
    processes: usize,
    /// The duration of each measurement.
    #[arg(long, value_name = "S", default_value_t = 10)]
    seconds: u64,
    /// How often requests with and without a limit are measured, alternately.
    #[arg(long, value_name = "N", default_value_t = 5)]
    rounds: usize,
}

/// Exceeds the limit of a key at several processes, and compares the speed of requests with and without a limit.
pub async fn run(arguments: Arguments) -> Result<ExitCode> {
    find_wrk().await?;
    Harness::with(async |harness| measure(harness, &arguments).await).await
}

async fn measure(harness: &Harness, arguments: &Arguments) -> Result<ExitCode> {
    let &Arguments { processes, seconds, rounds } = arguments;
    let settings = json!({ "machine": harness.machine().await?, "processes": processes, "seconds": seconds,
        "per_minute": PER_MINUTE, "burst": BURST });
    let mut figures = Figures::new("rate-limits", settings);
    let time = Duration::from_secs(seconds);
    let mut apis: Vec<(Program, String)> = Vec::new();
    for number in 1..=processes {
        apis.push(harness.another_api(&format!("crm-api-{number}.log")).await?);
        if number == 1 {
            cost(harness, &apis[0].1, (rounds, time), &mut figures).await?;
        }
        // A full bucket.
        let (workspace, key) = harness.workspace(&format!("limited-{number}")).await?;
        set(&harness.pool, workspace, PER_MINUTE, BURST).await?;
        let urls: Vec<&str> = apis.iter().map(|(_, url)| url.as_str()).collect();
        let begun = Instant::now();
        let allowed = hammer(&urls, &key, time).await? as f64;
        let expected = f64::from(BURST) + f64::from(PER_MINUTE) / 60.0 * begun.elapsed().as_secs_f64();
        let error = (allowed - expected).abs() / expected;
        figures.sample(json!({ "processes": number, "allowed": allowed, "expected": expected }));
        figures.alone(&format!("error with {number} processes"), error, "", Bound::AtMost(ERROR));
    }
    for (program, _) in apis {
        program.stop().await?;
    }
    Ok(figures.table())
}

async fn set(pool: &PgPool, workspace: Uuid, per_minute: i32, burst: i32) -> Result<()> {
    let limit = OwnLimit { per_minute: Some(per_minute), burst: Some(burst) };
    workspaces::set_own_limit(&mut *pool.acquire().await?, workspace, limit).await?;
    Ok(())
}

/// What a limit that nobody reaches costs each request.
async fn cost(harness: &Harness, url: &str, (rounds, time): (usize, Duration), figures: &mut Figures) -> Result<()> {
    let (workspace, key) = harness.workspace("cost").await?;
    let mut latencies = [Vec::new(), Vec::new()];
    for round in 0..rounds * 2 {
        let is_limited = round % 2;
        set(&harness.pool, workspace, [0, i32::MAX][is_limited], i32::MAX).await?;
        // Keys are trusted for half a second.
        sleep(Duration::from_secs(1)).await;
        // One connection: the latency is the time of a request.
        let load = wrk(url, &key, 1, time).await?;
        figures.sample(json!({ "limited": is_limited == 1, "load": load.to_json() }));
        latencies[is_limited].push(1_000.0 / load.per_second);
    }
    let [without, with] = latencies.map(|latencies| median(&latencies));
    figures.alone("cost of a limit", with - without, "ms", Bound::AtMost(COST_MS));
    Ok(())
}

/// Sends requests to all processes at once, and returns how many were allowed.
async fn hammer(urls: &[&str], key: &str, time: Duration) -> Result<usize> {
    let until = Instant::now() + time;
    let client = reqwest::Client::new();
    let callers = urls.iter().flat_map(|url| [url; 8]).map(async |url| {
        let mut allowed = 0;
        while Instant::now() < until {
            match client.get(*url).bearer_auth(key).send().await?.status().as_u16() {
                200 => allowed += 1,
                429 => {}
                status => bail!("{url} returned {status}"),
            }
        }
        Ok(allowed)
    });
    Ok(try_join_all(callers).await?.into_iter().sum())
}
