//! `cargo dev faults citus missing-node`

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::time::sleep;
use uuid::Uuid;

use super::load::{Answer, Load, Workspace, import, p99, workspaces};
use crate::faults::harness::Harness;

/// The number of the node that is stopped.
const LOST: usize = 1;
/// Within this time of its node's return, a workspace is served again.
const RESUMES_WITHIN: Duration = Duration::from_secs(10);

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The number of workspaces.
    #[arg(long, value_name = "N", default_value_t = 16)]
    workspaces: usize,
    /// How many seconds the node is down.
    #[arg(long, value_name = "S", default_value_t = 30)]
    seconds: u64,
    /// The number of rows that are imported into each workspace.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    rows: usize,
    /// Crash the node, and let a standby take its place.
    #[arg(long)]
    standby: bool,
}

/// Stops a node for a time; returns the broken guarantees.
pub async fn run(arguments: Arguments, release: bool) -> Result<Vec<String>> {
    let mut harness = Harness::start(2, release).await?;
    let workspaces = workspaces(&harness, arguments.workspaces).await?;
    let port = harness.servers()?.node_port(LOST).context("there is no second node")?;
    let is_hit: Vec<bool> = workspaces.iter().map(|workspace| workspace.node == i32::from(port)).collect();
    let hit = is_hit.iter().filter(|is_hit| **is_hit).count();
    println!("{hit} of {} workspaces are on the node that is stopped", workspaces.len());
    let of = |hit: bool| {
        let is_hit = is_hit.clone();
        move |answer: &&Answer| is_hit[answer.workspace] == hit
    };

    if arguments.standby {
        harness.servers()?.add_standby(LOST).await?;
    }
    let load = Load::start(harness.api_url(), &workspaces);
    sleep(Duration::from_secs(10)).await;
    let jobs = import(&harness, &workspaces, arguments.rows).await?;
    sleep(Duration::from_secs(2)).await;
    let stopped = Instant::now();
    let before = p99(load.answers().iter().filter(of(false)));
    if arguments.standby {
        harness.servers()?.crash_followed().await?;
    } else {
        harness.servers()?.stop_node(LOST).await?;
    }
    println!("the node is down for {} s while files are imported", arguments.seconds);
    sleep(Duration::from_secs(arguments.seconds)).await;
    let returned = Instant::now();
    let during: Vec<Answer> =
        load.answers().into_iter().filter(|answer| answer.at > stopped + Duration::from_secs(1)).collect();
    let others_done = finished_of_others(&harness, &workspaces, &jobs, &is_hit).await?;
    if arguments.standby {
        harness.servers()?.promote_standby().await?;
        println!("its standby has taken its place after {:.1?}", returned.elapsed());
    } else {
        harness.servers()?.start_node(LOST).await?;
        println!("the node runs again");
    }
    let back = Instant::now();
    sleep(RESUMES_WITHIN + Duration::from_secs(5)).await;
    harness.wait_for(&jobs, Duration::from_secs(300)).await?;
    let answers = load.end().await;

    let mut broken = Vec::new();
    let others = during.iter().filter(of(false));
    let failed = others.clone().filter(|answer| !answer.succeeded()).count();
    let after = p99(others.clone());
    println!(
        "the others: {} requests, {failed} failed; p99 {before:.0?} before and {after:.0?} meanwhile",
        others.count()
    );
    if failed > 0 {
        broken.push(format!("{failed} requests of workspaces on another node failed"));
    }
    if after > 2 * before {
        broken.push(format!("the p99 of workspaces on another node rose from {before:.0?} to {after:.0?}"));
    }
    println!("{others_done} of {} imports on another node finished meanwhile", workspaces.len() - hit);
    if others_done == 0 {
        broken.push("no import on another node finished while the node was down".to_owned());
    }
    let mine: Vec<&Answer> = during.iter().filter(of(true)).filter(|answer| answer.at < returned).collect();
    let wrong = mine.iter().filter(|answer| answer.status != Some(503)).count();
    println!("its own: {} requests, {wrong} of them not answered by 503", mine.len());
    if wrong > 0 || mine.is_empty() {
        broken.push(format!("{wrong} of {} requests to the missing node were not answered by 503", mine.len()));
    }
    for number in (0..workspaces.len()).filter(|number| is_hit[*number]) {
        let mut own = answers.iter().filter(|answer| answer.workspace == number && answer.at > back);
        let late = own.find(|answer| answer.succeeded()).is_none_or(|first| first.at > back + RESUMES_WITHIN);
        let failed = answers
            .iter()
            .filter(|answer| answer.workspace == number && answer.at > back + RESUMES_WITHIN && !answer.succeeded());
        let failed = failed.count();
        if late || failed > 0 {
            broken.push(format!("workspace {number}: not served {RESUMES_WITHIN:?} after its node returned"));
        }
    }
    let (wrong, crashes): (i64, i64) = sqlx::query_as(
        "SELECT count(*) FILTER (WHERE status <> 'succeeded'), coalesce(sum(retries), 0)::bigint FROM jobs WHERE id = ANY ($1)",
    )
    .bind(&jobs)
    .fetch_one(&harness.pool)
    .await?;
    println!(
        "{} jobs finished {:.0?} after the node's return, {wrong} not successfully; {crashes} retries counted",
        jobs.len(),
        back.elapsed()
    );
    if wrong > 0 {
        broken.push(format!("{wrong} jobs failed"));
    }
    let created: i64 = sqlx::query_scalar("SELECT count(*) FROM leads WHERE email_key LIKE '%@import.example.com'")
        .fetch_one(&harness.pool)
        .await?;
    let expected = (arguments.rows * workspaces.len()) as i64;
    println!("{created} of {expected} rows were imported");
    if created != expected {
        broken.push(format!("{created} of {expected} rows were imported"));
    }
    harness.end(!broken.is_empty()).await?;
    Ok(broken)
}

/// How many imports of workspaces on another node have succeeded.
async fn finished_of_others(
    harness: &Harness,
    workspaces: &[Workspace],
    jobs: &[Uuid],
    is_hit: &[bool],
) -> Result<i64> {
    let mut finished = 0;
    for ((workspace, job), _) in workspaces.iter().zip(jobs).zip(is_hit).filter(|(_, is_hit)| !**is_hit) {
        finished += sqlx::query_scalar::<_, i64>(
            "SELECT count(*) FROM jobs WHERE workspace_id = $1 AND id = $2 AND status = 'succeeded'",
        )
        .bind(workspace.id)
        .bind(job)
        .fetch_one(&harness.pool)
        .await?;
    }
    Ok(finished)
}
