//! `cargo dev faults events`

mod deliveries;
mod follower;
mod writers;

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Args;
use futures_util::future::try_join_all;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sqlx::{PgPool, Row};
use testing::receiver::Receiver;
use tokio::time::sleep;

use super::harness::Harness;
use follower::Follower;
use writers::Writers;

/// How long after the last write every event must have its number.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Args)]
pub struct Arguments {
    /// The number of writes.
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    writes: usize,
    /// How often a worker or crm-api is killed.
    #[arg(long, value_name = "N", default_value_t = 50)]
    kills: usize,
    /// The number of concurrent writers.
    #[arg(long, value_name = "N", default_value_t = 16)]
    writers: usize,
    /// The number of files that are imported meanwhile.
    #[arg(long, value_name = "N", default_value_t = 4)]
    imports: usize,
    /// The rows of each file.
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    rows: usize,
    /// How long a transaction is held open, in seconds.
    #[arg(long, value_name = "N", default_value_t = 60)]
    held_s: u64,
    /// The number of workers at any time.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..))]
    workers: u8,
    /// The seed of the times of the kills.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Build the programs without optimizations: faster to build, but not what is deployed.
    #[arg(long)]
    debug: bool,
}

/// Follows the feed while records are written and programs are killed; returns the broken guarantees.
pub async fn run(arguments: Arguments) -> Result<Vec<String>> {
    let Arguments { writes, kills, seed, held_s, .. } = arguments;
    let receiver = Receiver::start().await;
    let receivers = receiver.address.to_string();
    let environment = [("CRM_WEBHOOKS__ALLOW_HTTP", "true"), ("CRM_WEBHOOKS__INTERNAL_RECEIVERS", receivers.as_str())];
    let mut harness = Harness::start_with(arguments.workers.into(), !arguments.debug, &environment).await?;
    deliveries::subscribe(&harness, &receiver).await?;
    let random = &mut StdRng::seed_from_u64(seed);
    let began = Instant::now();
    let mut follower = Follower::begin(harness.api_url(), harness.key()).await?;
    let writers = Writers::new(harness.api_url(), harness.key(), writes);
    let (pool, has_ended) = (harness.pool.clone(), AtomicBool::new(false));
    let writing = async {
        try_join_all((0..arguments.writers).map(|number| writers.write(number))).await?;
        has_ended.store(true, Relaxed);
        anyhow::Ok(())
    };
    let killing = async {
        for kill in 1..=kills {
            while writers.done() < writes * kill / (kills + 1) {
                sleep(Duration::from_millis(5)).await;
            }
            sleep(Duration::from_millis(random.random_range(0..50))).await;
            if random.random_bool(0.5) {
                harness.kill_api().await?;
            } else {
                let victim = random.random_range(0..harness.workers.len());
                harness.kill_worker(victim).await?;
            }
        }
        anyhow::Ok(())
    };
    let importing = async {
        let mut jobs = Vec::new();
        for import in 1..=arguments.imports {
            while writers.done() < writes * import / (arguments.imports + 1) {
                sleep(Duration::from_millis(5)).await;
            }
            jobs.push(writers.import(arguments.rows).await?);
        }
        anyhow::Ok(jobs)
    };
    let holding = hold(&pool, Duration::from_secs(held_s));
    let following = follower.follow_until(&has_ended);
    let ((), (), imports, (), ()) = tokio::try_join!(writing, killing, importing, holding, following)?;
    harness.wait_for(&imports, Duration::from_secs(300)).await?;
    until_numbered(&pool).await?;
    follower.catch_up().await?;
    println!(
        "{writes} writes, {kills} kills, {} imports and {} events in {:.0?}; {} requests were repeated",
        imports.len(),
        follower.events(),
        began.elapsed(),
        writers.repeated(),
    );
    print_delays(&pool).await?;
    let mut broken = follower.broken();
    broken.extend(follower.compare().await?);
    broken.extend(deliveries::verify(&pool, &receiver).await?);
    broken.extend(verify(&pool).await?);
    harness.end(!broken.is_empty()).await?;
    Ok(broken)
}

/// Holds a transaction open that has written, and that keeps dead rows.
async fn hold(pool: &PgPool, time: Duration) -> Result<()> {
    let mut transaction = pool.begin().await?;
    sqlx::query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ").execute(&mut *transaction).await?;
    sqlx::query("SELECT pg_current_xact_id()").execute(&mut *transaction).await?;
    sleep(time).await;
    Ok(transaction.rollback().await?)
}

/// Prints how long events waited for their numbers, which begin with the microseconds of their time.
async fn print_delays(pool: &PgPool) -> Result<()> {
    let (median, p99): (f64, f64) = sqlx::query_as(
        "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY waited), percentile_cont(0.99) WITHIN GROUP (ORDER BY waited)
         FROM (SELECT number / 1e3 - extract(epoch FROM created_at)::float8 * 1e3 AS waited FROM events) AS delays",
    )
    .fetch_one(pool)
    .await?;
    println!("events had their numbers after {median:.0} ms (median), {p99:.0} ms (p99)");
    Ok(())
}

async fn until_numbered(pool: &PgPool) -> Result<()> {
    let began = Instant::now();
    loop {
        let left: i64 = sqlx::query_scalar("SELECT count(*) FROM new_events").fetch_one(pool).await?;
        if left == 0 {
            return Ok(());
        }
        ensure!(began.elapsed() < PATIENCE, "{left} events have no number after {PATIENCE:?}");
        sleep(Duration::from_millis(50)).await;
    }
}

/// Each change has exactly one event, and the events of each record are in the order of its changes.
async fn verify(pool: &PgPool) -> Result<Vec<String>> {
    let checks = [
        ("events are there twice", "SELECT count(*) - count(DISTINCT id) AS n FROM events"),
        (
            "changes by requests have no event",
            "SELECT count(*) AS n FROM history WHERE actor_type = 'key'
                 AND NOT EXISTS (SELECT FROM events WHERE events.id = history.id)",
        ),
        (
            "events have no change",
            "SELECT count(*) AS n FROM events
             WHERE actor_type = 'key' AND type ~ '(updated|deleted|restored|converted)$' AND subject_type <> 'settings'
                 AND NOT EXISTS (SELECT FROM history WHERE history.id = events.id)",
        ),
        (
            "leads were created without exactly one event",
            "SELECT count(*) AS n FROM leads
             LEFT JOIN LATERAL (
                 SELECT count(*) FROM events WHERE type = 'lead.created' AND subject_id = leads.id
             ) AS created ON true
             WHERE created_by_type = 'key' AND created.count <> 1",
        ),
        (
            "events come before an earlier one of their record",
            "SELECT count(*) AS n FROM (
                 SELECT data ->> 'updated_at' AS at,
                     lag(data ->> 'updated_at') OVER (PARTITION BY subject_id ORDER BY number) AS before
                 FROM events WHERE subject_type = 'lead' AND type ~ '(created|updated|converted)$'
             ) AS changes WHERE at < before",
        ),
    ];
    let mut broken = Vec::new();
    for (what, statement) in checks {
        let count: i64 = sqlx::query(statement).fetch_one(pool).await?.try_get("n")?;
        if count > 0 {
            broken.push(format!("{count} {what}"));
        }
    }
    Ok(broken)
}
