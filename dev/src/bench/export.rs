//! `cargo dev bench export`

use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use futures_util::future::join_all;
use serde_json::json;
use shared::crm::leads::Lead;
use shared::records::Fields;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::figures::{Bound, Figures, median};
use super::harness::{Api, Harness};
use super::http::create_lead;
use super::import;
use super::load::{Load, find_wrk, wrk};

/// The least share of the speed of COPY.
const SPEED: f64 = 0.70;
/// The least number of leads per second with a search that every lead matches.
const SEARCHED: f64 = 50_000.0;
/// A word that every lead contains, and one that every tenth lead contains.
const SEARCHES: [(&str, f64, Bound); 2] = [("example", 1.0, Bound::AtLeast(SEARCHED)), ("ada", 0.1, Bound::None)];
/// The most memory of the API, in MiB.
const MEMORY: f64 = 100.0;
/// The least share of its speed that GET by id keeps with slow readers.
const UNDISTURBED: f64 = 0.8;
/// How long a slow reader pauses after each chunk of a stream.
const SLOW: Duration = Duration::from_millis(200);
/// How long GET by id is measured each time.
const SLICE: Duration = Duration::from_secs(3);

#[derive(Debug, Args)]
pub struct Arguments {
    /// The number of leads.
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    rows: usize,
    /// How often the leads are exported and copied.
    #[arg(long, value_name = "N", default_value_t = 5)]
    rounds: usize,
    /// The number of concurrent slow readers of the list.
    #[arg(long, value_name = "N", default_value_t = 20)]
    readers: usize,
}

/// Streams all leads, compared with COPY, and to slow readers during other requests.
pub async fn run(arguments: Arguments) -> Result<ExitCode> {
    find_wrk().await?;
    Harness::with(async |harness| measure(harness, &arguments).await).await
}

async fn measure(harness: &Harness, arguments: &Arguments) -> Result<ExitCode> {
    let &Arguments { rows, rounds, readers } = arguments;
    let settings = json!({ "machine": harness.machine().await?, "rows": rows, "rounds": rounds, "readers": readers });
    let mut figures = Figures::new("export", settings);
    let api = harness.api().await?;
    fill(harness, &api, rows).await?;
    let lead = create_lead(&api).await?;
    api.program.peak_memory().await?;

    let copy = format!(
        "COPY (SELECT {} FROM leads ORDER BY created_at DESC, id DESC) TO STDOUT CSV HEADER",
        Lead::COLUMN_LIST
    );
    let (mut exports, mut lists, mut copies) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=rounds {
        let export = seconds(download(&api, "leads/export")).await?;
        let copy = seconds(async {
            let status = harness.psql(&copy).stdout(Stdio::null()).status().await?;
            ensure!(status.success(), "psql failed");
            Ok(0)
        })
        .await?;
        let list = seconds(download(&api, "leads")).await?;
        figures.sample(json!({ "round": round, "export_s": export, "copy_s": copy, "list_s": list }));
        let per_second = |seconds: f64| rows as f64 / seconds;
        exports.push(per_second(export));
        copies.push(per_second(copy));
        lists.push(per_second(list));
    }
    let (copies, compared) = (median(&copies), "COPY … TO STDOUT CSV");
    figures.ratio("export as CSV", (median(&exports), copies), "leads/s", compared, Bound::AtLeast(SPEED));
    figures.ratio("the list as JSON, without parameters", (median(&lists), copies), "leads/s", compared, Bound::None);
    let memory = api.program.peak_memory().await?;
    figures.alone("peak memory of crm-api during these", memory, "MiB", Bound::AtMost(MEMORY));

    for (word, share, bound) in SEARCHES {
        searched(&mut figures, &api, (word, share * rows as f64, bound), rounds).await?;
    }
    slow_readers(&mut figures, &api, &lead, arguments).await?;
    let figure = format!("peak memory of crm-api with {readers} slow readers");
    figures.alone(&figure, api.program.peak_memory().await?, "MiB", Bound::AtMost(MEMORY));
    api.program.stop().await?;
    Ok(figures.table())
}

/// Exports the leads that contain a word.
async fn searched(
    figures: &mut Figures,
    api: &Api,
    (word, about, bound): (&str, f64, Bound),
    rounds: usize,
) -> Result<()> {
    let path = format!("leads/export?q={word}");
    let mut exports = Vec::new();
    for round in 1..=rounds {
        let mut rows = 0;
        let export = seconds(async {
            rows = lines(api, &path).await? - 1;
            Ok(rows)
        })
        .await?;
        ensure!((rows as f64 / about - 1.0).abs() < 0.05, "{rows} leads contain {word} instead of about {about}");
        figures.sample(json!({ "round": round, "q": word, "rows": rows, "export_s": export }));
        exports.push(rows as f64 / export);
    }
    let figure = format!("export with q={word}, about {about} leads");
    figures.alone(&figure, median(&exports), "leads/s", bound);
    let figure = format!("peak memory of crm-api during exports with q={word}");
    figures.alone(&figure, api.program.peak_memory().await?, "MiB", Bound::AtMost(MEMORY));
    Ok(())
}

/// Imports this many leads.
pub async fn fill(harness: &Harness, api: &Api, rows: usize) -> Result<()> {
    let file = harness.dir.join("leads.csv");
    import::write(&file, rows, false)?;
    let worker = harness.worker()?;
    let job = import::upload(api, &file).await?;
    let unfinished = "SELECT count(*) FROM jobs WHERE id = $1 AND finished_at IS NULL";
    while sqlx::query_scalar::<_, i64>(unfinished).bind(job).fetch_one(&harness.pool).await? > 0 {
        sleep(Duration::from_millis(200)).await;
    }
    worker.stop().await?;
    std::fs::remove_file(file)?;
    sqlx::raw_sql("VACUUM (ANALYZE) leads").execute(&harness.pool).await?;
    Ok(())
}

async fn seconds(work: impl Future<Output = Result<u64>>) -> Result<f64> {
    let began = Instant::now();
    work.await?;
    Ok(began.elapsed().as_secs_f64())
}

/// Reads a whole response as fast as possible; returns its length.
async fn download(api: &Api, path: &str) -> Result<u64> {
    let mut response = request(api, path).await?;
    let mut length = 0;
    while let Some(chunk) =
        response.chunk().await.with_context(|| format!("{path}: the response ended unexpectedly"))?
    {
        length += chunk.len() as u64;
    }
    Ok(length)
}

/// Counts the lines of a response whose cells contain no line breaks.
async fn lines(api: &Api, path: &str) -> Result<u64> {
    let mut response = request(api, path).await?;
    let mut lines = 0;
    while let Some(chunk) =
        response.chunk().await.with_context(|| format!("{path}: the response ended unexpectedly"))?
    {
        lines += chunk.iter().filter(|byte| **byte == b'\n').count() as u64;
    }
    Ok(lines)
}

async fn request(api: &Api, path: &str) -> Result<reqwest::Response> {
    let request = reqwest::Client::new().get(format!("{}/{path}", api.url)).bearer_auth(&api.key);
    Ok(request.send().await?.error_for_status()?)
}

/// Measures GET by id, alternately with and without slow readers of the list.
async fn slow_readers(figures: &mut Figures, api: &Api, lead: &str, arguments: &Arguments) -> Result<()> {
    let url = format!("{}/leads/{lead}", api.url);
    let (mut alone, mut with_readers) = (Vec::new(), Vec::new());
    for round in 1..=arguments.rounds {
        alone.push(wrk(&url, &api.key, 4, SLICE).await?);
        let readers = join_all((0..arguments.readers).map(|_| read_slowly(api))).await;
        let readers: Vec<JoinHandle<()>> = readers.into_iter().collect::<Result<_>>()?;
        sleep(Duration::from_secs(1)).await;
        let load = wrk(&url, &api.key, 4, SLICE).await?;
        let reading = readers.iter().filter(|reader| !reader.is_finished()).count();
        ensure!(reading == readers.len(), "only {reading} of {} slow readers were still reading", readers.len());
        figures.sample(json!({ "round": round, "beside_slow_readers": load.to_json() }));
        with_readers.push(load);
        readers.iter().for_each(JoinHandle::abort);
        sleep(Duration::from_millis(500)).await;
    }
    let middle = |loads: &[Load], of: fn(&Load) -> f64| median(&loads.iter().map(of).collect::<Vec<_>>());
    let figure = format!("GET of a lead with {} slow readers", arguments.readers);
    let speeds = (middle(&with_readers, |load| load.per_second), middle(&alone, |load| load.per_second));
    figures.ratio(&figure, speeds, "requests/s", "alone", Bound::AtLeast(UNDISTURBED));
    let p99 = (middle(&with_readers, |load| load.p99_ms), middle(&alone, |load| load.p99_ms));
    figures.ratio(&format!("{figure}, p99"), p99, "ms", "alone", Bound::None);
    Ok(())
}

/// Requests the list, and reads it slowly in a background task.
async fn read_slowly(api: &Api) -> Result<JoinHandle<()>> {
    let mut response = request(api, "leads").await?;
    Ok(tokio::spawn(async move {
        while let Ok(Some(_)) = response.chunk().await {
            sleep(SLOW).await;
        }
    }))
}
