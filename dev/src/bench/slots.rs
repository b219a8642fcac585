//! `cargo dev bench slots`

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;
use reqwest::multipart::Part;
use serde_json::json;
use tokio::time::sleep;
use uuid::Uuid;

use super::figures::{Bound, Figures, quantile};
use super::harness::Harness;
use super::import::{upload, upload_part, write_plain};

/// The most milliseconds until another workspace's import starts (maximum).
const STARTS_WITHIN_MS: f64 = 2000.0;
/// The approximate size of a row.
const ROW_BYTES: usize = 115;

#[derive(Debug, Args)]
pub struct Arguments {
    /// The size of each long file.
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    mib: usize,
    /// The number of long files that one workspace imports at once, and the number of slots.
    #[arg(long, value_name = "N", default_value_t = 4)]
    files: usize,
    /// The number of imports of one row by another workspace, one after another.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..))]
    samples: u16,
}

/// Uses all slots of a worker with long imports of one workspace, and imports single rows of another.
pub async fn run(arguments: Arguments) -> Result<ExitCode> {
    Harness::with(async |harness| measure(harness, &arguments).await).await
}

async fn measure(harness: &Harness, arguments: &Arguments) -> Result<ExitCode> {
    let &Arguments { mib, files, samples } = arguments;
    let settings = json!({ "machine": harness.machine().await?, "mib": mib, "files": files, "samples": samples });
    let mut figures = Figures::new("slots", settings);
    let api = harness.api().await?;
    let (_, other) = harness.workspace("other").await?;
    let rows = (mib << 20) / ROW_BYTES;
    let mut long = Vec::new();
    for number in 0..files {
        let file = harness.dir.join("leads.csv");
        write_plain(&file, number * rows..(number + 1) * rows)?;
        long.push(upload(&api, &file).await?);
        std::fs::remove_file(file)?;
    }
    let slots = files.to_string();
    let worker = harness.worker_with(&[("CRM_WORKER__CONCURRENCY", &slots)])?;
    wait_until_running(harness, &long).await?;

    let mut waited = Vec::new();
    for sample in 0..samples {
        let row = Part::text(format!("name,email\nAda,ada{sample}@example.com\n")).file_name("one.csv");
        waited.push(wait_until_ended(harness, upload_part(&api, &other, row).await?).await?);
    }
    let unfinished: i64 = sqlx::query_scalar("SELECT count(*) FROM jobs WHERE id = ANY ($1) AND finished_at IS NULL")
        .bind(&long)
        .fetch_one(&harness.pool)
        .await?;
    ensure!(
        unfinished == files as i64,
        "a long import ended before the last sample: import more or take fewer samples"
    );
    figures.sample(json!({ "waited_ms": waited }));
    for (share, name, bound) in [(0.5, "p50", Bound::None), (1.0, "longest", Bound::AtMost(STARTS_WITHIN_MS))] {
        let figure = format!("time until a row starts during {files} files of {mib} MiB, {name} of {samples}");
        figures.alone(&figure, quantile(&waited, share), "ms", bound);
    }
    worker.stop().await?;
    api.program.stop().await?;
    Ok(figures.table())
}

async fn wait_until_running(harness: &Harness, jobs: &[Uuid]) -> Result<()> {
    loop {
        let running: i64 = sqlx::query_scalar("SELECT count(*) FROM jobs WHERE id = ANY ($1) AND status = 'running'")
            .bind(jobs)
            .fetch_one(&harness.pool)
            .await?;
        if running == jobs.len() as i64 {
            return Ok(());
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// Waits for an import of one row; returns the milliseconds until it started.
async fn wait_until_ended(harness: &Harness, job: Uuid) -> Result<f64> {
    loop {
        let ended: Option<(String, f64)> = sqlx::query_as(
            "SELECT status, extract(epoch FROM started_at - created_at)::float8 * 1000 FROM jobs
             WHERE id = $1 AND finished_at IS NOT NULL",
        )
        .bind(job)
        .fetch_optional(&harness.pool)
        .await?;
        if let Some((status, waited)) = ended {
            ensure!(status == "succeeded", "the import of one row ended {status}");
            return Ok(waited);
        }
        sleep(Duration::from_millis(20)).await;
    }
}
