//! `cargo dev faults citus missing-node`

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use sqlx::PgPool;
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

/// What was measured.
struct Measured {
    workspaces: Vec<Workspace>,
    /// The port of the node that was down.
    lost: u16,
    /// All answers, and those while the node was down.
    answers: Vec<Answer>,
    meanwhile: Vec<Answer>,
    /// The p99 of the workspaces on other nodes before.
    before: Duration,
    /// When the node, or its standby, answered again.
    back: Instant,
    imports: Vec<Uuid>,
    /// The imports on other nodes that had finished before that.
    finished: i64,
}

/// Stops a node for a time; returns the broken guarantees.
pub async fn run(arguments: Arguments, release: bool) -> Result<Vec<String>> {
    let mut harness = Harness::start(2, release).await?;
    let measured = measure(&mut harness, &arguments).await?;
    let mut broken = measured.others();
    broken.extend(measured.own());
    broken.extend(measured.returned());
    broken.extend(measured.work(&harness.pool, arguments.rows).await?);
    harness.end(!broken.is_empty()).await?;
    Ok(broken)
}

async fn measure(harness: &mut Harness, arguments: &Arguments) -> Result<Measured> {
    let workspaces = workspaces(harness, arguments.workspaces).await?;
    let lost = harness.servers()?.node_port(LOST).context("there is no second node")?;
    let is_other = |number: usize| workspaces[number].node != i32::from(lost);
    println!(
        "{} of {} workspaces are on the node that is stopped",
        (0..workspaces.len()).filter(|number| !is_other(*number)).count(),
        workspaces.len()
    );
    if arguments.standby {
        harness.servers()?.add_standby(LOST).await?;
    }
    let load = Load::start(harness.api_url(), &workspaces);
    sleep(Duration::from_secs(10)).await;
    let imports = import(harness, &workspaces, arguments.rows).await?;
    sleep(Duration::from_secs(2)).await;
    let before = p99(load.answers().iter().filter(|answer| is_other(answer.workspace)));
    let stopped = Instant::now();
    if arguments.standby {
        harness.servers()?.crash_followed().await?;
    } else {
        harness.servers()?.stop_node(LOST).await?;
    }
    println!("the node is down for {} s while files are imported", arguments.seconds);
    sleep(Duration::from_secs(arguments.seconds)).await;
    let meanwhile = load.answers().into_iter().filter(|answer| answer.at > stopped + Duration::from_secs(1)).collect();
    let finished = finished_of_others(&harness.pool, &workspaces, &imports, lost).await?;
    let returning = Instant::now();
    if arguments.standby {
        harness.servers()?.promote_standby().await?;
        println!("its standby has taken its place after {:.1?}", returning.elapsed());
    } else {
        harness.servers()?.start_node(LOST).await?;
        println!("the node runs again after {:.1?}", returning.elapsed());
    }
    let back = Instant::now();
    sleep(RESUMES_WITHIN + Duration::from_secs(5)).await;
    harness.wait_for(&imports, Duration::from_secs(300)).await?;
    println!("all imports have ended {:.0?} after that", back.elapsed());
    let answers = load.end().await;
    Ok(Measured { workspaces, lost, answers, meanwhile, before, back, imports, finished })
}

impl Measured {
    fn is_own(&self, number: usize) -> bool {
        self.workspaces[number].node == i32::from(self.lost)
    }

    /// Workspaces on other nodes continue.
    fn others(&self) -> Vec<String> {
        let mut broken = Vec::new();
        let others = self.meanwhile.iter().filter(|answer| !self.is_own(answer.workspace));
        let failed = others.clone().filter(|answer| !answer.succeeded()).count();
        let (before, after) = (self.before, p99(others.clone()));
        println!(
            "the others: {} requests, {failed} failed; p99 {before:.0?} before and {after:.0?} meanwhile; {} imports finished",
            others.count(),
            self.finished
        );
        if failed > 0 {
            broken.push(format!("{failed} requests of workspaces on another node failed"));
        }
        if after > 2 * before {
            broken.push(format!("the p99 of workspaces on another node rose from {before:.0?} to {after:.0?}"));
        }
        if self.finished == 0 {
            broken.push("no import on another node finished while the node was down".to_owned());
        }
        broken
    }

    /// Its own workspaces are told to wait.
    fn own(&self) -> Option<String> {
        let own: Vec<_> = self.meanwhile.iter().filter(|answer| self.is_own(answer.workspace)).collect();
        let wrong = own.iter().filter(|answer| answer.status != Some(503)).count();
        println!("its own: {} requests, {wrong} of them not answered by 503", own.len());
        (wrong > 0 || own.is_empty())
            .then(|| format!("{wrong} of {} requests to the missing node were not answered by 503", own.len()))
    }

    /// They are served soon after its return.
    fn returned(&self) -> Vec<String> {
        let limit = self.back + RESUMES_WITHIN;
        let is_served = |number: usize| {
            let own = || self.answers.iter().filter(move |answer| answer.workspace == number && answer.at > self.back);
            let first = own().find(|answer| answer.succeeded());
            first.is_some_and(|first| first.at <= limit) && own().all(|answer| answer.at <= limit || answer.succeeded())
        };
        let late = (0..self.workspaces.len()).filter(|number| self.is_own(*number) && !is_served(*number));
        late.map(|number| format!("workspace {number}: not served {RESUMES_WITHIN:?} after its node returned"))
            .collect()
    }

    /// No job has failed, and no row is missing or there twice.
    async fn work(&self, pool: &PgPool, rows: usize) -> Result<Vec<String>> {
        let failed: i64 = sqlx::query_scalar("SELECT count(*) FROM jobs WHERE id = ANY ($1) AND status <> 'succeeded'")
            .bind(&self.imports)
            .fetch_one(pool)
            .await?;
        let created: i64 = sqlx::query_scalar("SELECT count(*) FROM leads WHERE email_key LIKE '%@import.example.com'")
            .fetch_one(pool)
            .await?;
        let expected = (rows * self.workspaces.len()) as i64;
        println!("{failed} of {} imports failed; {created} of {expected} rows were imported", self.imports.len());
        let wrong = [
            (failed > 0, format!("{failed} jobs failed")),
            (created != expected, format!("{created} of {expected} rows were imported")),
        ];
        Ok(wrong.into_iter().filter(|(is_wrong, _)| *is_wrong).map(|(_, what)| what).collect())
    }
}

/// How many imports of workspaces on another node have succeeded.
async fn finished_of_others(pool: &PgPool, workspaces: &[Workspace], imports: &[Uuid], lost: u16) -> Result<i64> {
    let mut finished = 0;
    for (workspace, import) in workspaces.iter().zip(imports).filter(|(workspace, _)| workspace.node != i32::from(lost))
    {
        let succeeded = "SELECT count(*) FROM jobs WHERE workspace_id = $1 AND id = $2 AND status = 'succeeded'";
        finished += sqlx::query_scalar::<_, i64>(succeeded).bind(workspace.id).bind(import).fetch_one(pool).await?;
    }
    Ok(finished)
}
