//! `cargo dev faults citus growing`

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use sqlx::{Connection, PgConnection, PgPool};
use tokio::time::sleep;

use super::load::{Load, import, node_of, p99, workspaces};
use crate::faults::harness::Harness;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The number of workspaces.
    #[arg(long, value_name = "N", default_value_t = 12)]
    workspaces: usize,
    /// The number of rows of the large workspace.
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    rows: usize,
}

/// Grows the cluster under load; returns the broken guarantees.
pub async fn run(arguments: Arguments, release: bool) -> Result<Vec<String>> {
    let mut harness = Harness::start(2, release).await?;
    let workspaces = workspaces(&harness, arguments.workspaces).await?;
    let large = workspaces.first().context("there is no workspace")?.clone();
    let jobs = import(&harness, &workspaces[..1], arguments.rows).await?;
    harness.wait_for(&jobs, Duration::from_secs(600)).await?;
    println!("one workspace has {} leads", arguments.rows);

    let load = Load::start(harness.api_url(), &workspaces);
    sleep(Duration::from_secs(10)).await;
    let before = p99(load.answers().iter());
    let began = Instant::now();
    let jobs = import(&harness, &workspaces[1..], 2_000).await?;
    harness.servers()?.add_node().await?;
    let mut connection = PgConnection::connect(harness.database_url()).await?;
    let rebalance = "SELECT citus_rebalance_start(shard_transfer_mode => 'force_logical')";
    sqlx::query(rebalance).execute(&mut connection).await?;
    sqlx::query("SELECT citus_rebalance_wait()").execute(&mut connection).await?;
    println!("a node was added and shards were moved to it in {:.0?}", began.elapsed());

    let isolated = Instant::now();
    // A logical split may never end while rows are written (Citus 13.2.2).
    let shard: i64 = sqlx::query_scalar(
        "SELECT isolate_tenant_to_new_shard('jobs', $1, 'CASCADE', shard_transfer_mode => 'block_writes')",
    )
    .bind(large.id)
    .fetch_one(&mut connection)
    .await?;
    let port = harness.servers()?.node_port(2).context("the node is there")?;
    let from = node_of(&harness.pool, large.id).await?;
    if from != i32::from(port) {
        sqlx::query(
            "SELECT citus_move_shard_placement($1, '127.0.0.1', $2, '127.0.0.1', $3, shard_transfer_mode => 'force_logical')",
        )
        .bind(shard)
        .bind(from)
        .bind(i32::from(port))
        .execute(&mut connection)
        .await?;
    }
    println!("the large workspace is alone on its shard, on the new node, after {:.0?}", isolated.elapsed());
    connection.close().await?;
    sleep(Duration::from_secs(5)).await;
    harness.wait_for(&jobs, Duration::from_secs(300)).await?;
    let answers = load.end().await;

    let mut broken = Vec::new();
    let failed: Vec<_> = answers.iter().filter(|answer| !answer.succeeded()).collect();
    let moving = || answers.iter().filter(|answer| answer.at > began);
    let longest = moving().map(|answer| answer.took).max().unwrap_or_default();
    println!(
        "{} requests, {} failed; p99 {before:.0?} before, {:.0?} while shards moved, longest {longest:.1?}",
        answers.len(),
        failed.len(),
        p99(moving())
    );
    if !failed.is_empty() {
        broken.push(format!("{} requests failed, such as {:?}", failed.len(), failed[0]));
    }
    let moved: i64 =
        sqlx::query_scalar("SELECT count(*) FROM citus_shards WHERE table_name = 'jobs'::regclass AND nodeport = $1")
            .bind(i32::from(port))
            .fetch_one(&harness.pool)
            .await?;
    if moved < 2 {
        broken.push(format!("the new node has {moved} shards"));
    }
    if node_of(&harness.pool, large.id).await? != i32::from(port) {
        broken.push("the large workspace is not on the new node".to_owned());
    }
    broken.extend(counted(&harness.pool, arguments.rows as i64, &answers, &workspaces).await?);
    harness.end(!broken.is_empty()).await?;
    Ok(broken)
}

/// Compares the leads with the answered requests.
async fn counted(
    pool: &PgPool,
    rows: i64,
    answers: &[super::load::Answer],
    workspaces: &[super::load::Workspace],
) -> Result<Option<String>> {
    let stored: i64 = sqlx::query_scalar("SELECT count(*) FROM leads").fetch_one(pool).await?;
    let created = answers.iter().filter(|answer| answer.status == Some(201)).count() as i64;
    let imported = rows + 2_000 * (workspaces.len() as i64 - 1);
    println!("{stored} leads: {imported} imported and {created} created");
    // A request whose client stopped at the end may have created one more.
    let unanswered = workspaces.len() as i64;
    let is_exact = (0..=unanswered).contains(&(stored - imported - created));
    Ok((!is_exact).then(|| format!("{stored} leads are stored, but {} were written", imported + created)))
}
