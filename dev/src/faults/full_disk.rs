//! `cargo dev faults full-disk`

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;
use sqlx::AssertSqlSafe;
use tokio::time::sleep;

use super::files;
use super::harness::Harness;
use super::verify::verify;

/// A job waits at most a minute, and then needs time to write its rows.
const ENDS_WITHIN: Duration = Duration::from_secs(300);
/// The most attempts per minute of a nightly job that always fails, with waits of 1, 2, 4, 8, 16 and 32 s.
const MAX_ATTEMPTS: i64 = 8;

#[derive(Debug, Args)]
pub struct Arguments {
    /// How many seconds no lead can be stored.
    #[arg(long, value_name = "S", default_value_t = 300)]
    seconds: u64,
    /// The number of files to import.
    #[arg(long, value_name = "N", default_value_t = 4)]
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
    /// Use the crm-api and crm-worker of this directory instead of building them.
    #[arg(long, value_name = "DIRECTORY")]
    programs: Option<PathBuf>,
}

/// Imports files while the database reports a full disk and the clean-up of a nightly run always fails;
/// returns the broken guarantees.
pub async fn run(arguments: Arguments) -> Result<Vec<String>> {
    let workers = arguments.workers.into();
    let mut harness = match &arguments.programs {
        Some(directory) => Harness::start_programs(workers, directory).await?,
        None => Harness::start(workers, !arguments.debug).await?,
    };
    let base = files::base();
    let mut jobs = vec![(harness.upload(&base).await?, base)];
    harness.wait_for(&[jobs[0].0], Duration::from_secs(60)).await?;
    break_table(&harness, "leads", "INSERT", "53100").await?;
    break_table(&harness, "scheduled_runs", "DELETE", "P0001").await?;
    harness.start_nightly().await?;
    for number in 1..=arguments.imports {
        let file = files::mixed(number, arguments.rows, arguments.seed);
        jobs.push((harness.upload(&file).await?, file));
    }
    println!("for {} s, no lead can be stored and no scheduled run deleted", arguments.seconds);
    let mut broken = Vec::new();
    sleep(Duration::from_secs(60.min(arguments.seconds))).await;
    let attempts: i64 = sqlx::query_scalar(
        "SELECT coalesce(sum(failures + waits), 0)::bigint FROM (
             SELECT failures, coalesce((retry_state->>'waits')::int, 0) AS waits FROM jobs WHERE kind = 'clean_up'
         ) AS parts",
    )
    .fetch_one(&harness.pool)
    .await
    .unwrap_or(-1);
    let night: i64 = sqlx::query_scalar("SELECT max(attempt)::bigint FROM jobs WHERE kind = 'nightly'")
        .fetch_one(&harness.pool)
        .await?;
    println!("in the first minute, the nightly run had {night} attempts, and its clean-up failed {attempts} times");
    if !(0..=MAX_ATTEMPTS).contains(&attempts) {
        broken.push(format!(
            "a clean-up that always fails had {attempts} attempts in a minute (-1: it is part of the nightly job)"
        ));
    }
    sleep(Duration::from_secs(arguments.seconds.saturating_sub(60))).await;
    let ids: Vec<_> = jobs.iter().map(|(id, _)| *id).collect();
    let states: Vec<(String, Option<String>, i64)> = sqlx::query_as(
        "SELECT status, error, count(*) FROM jobs WHERE id = ANY ($1) GROUP BY status, error ORDER BY 3 DESC",
    )
    .bind(&ids)
    .fetch_all(&harness.pool)
    .await?;
    for (status, error, count) in states {
        println!("{count} imports are {status}: {}", error.unwrap_or_default());
    }
    for table in ["leads", "scheduled_runs"] {
        let repair = format!("DROP TRIGGER broken ON {table}");
        sqlx::query(AssertSqlSafe(repair)).execute(&harness.pool).await?;
    }
    println!("leads can be stored again");
    let repaired = Instant::now();
    harness.wait_for(&ids, ENDS_WITHIN).await?;
    println!("all imports have finished {:.0?} later", repaired.elapsed());
    broken.extend(verify(&harness.pool, &jobs).await?);
    broken.extend(harness.ended().await.into_iter().map(|end| format!("{end}, although only the disk was full")));
    harness.end(!broken.is_empty()).await?;
    Ok(broken)
}

async fn break_table(harness: &Harness, table: &str, when: &str, code: &str) -> Result<()> {
    let sql = format!(
        "CREATE FUNCTION broken_{table}() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN RAISE EXCEPTION 'injected fault' USING ERRCODE = '{code}'; END $$;
         CREATE TRIGGER broken BEFORE {when} ON {table} FOR EACH STATEMENT EXECUTE FUNCTION broken_{table}()"
    );
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&harness.pool).await?;
    Ok(())
}
