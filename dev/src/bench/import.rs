//! `cargo dev bench import`

use std::io::{BufWriter, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use chrono::{DateTime, Utc};
use clap::Args;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};
use sqlx::FromRow;
use tokio::time::sleep;
use uuid::Uuid;

use super::figures::{Bound, Figures, median};
use super::harness::{Api, Harness, Program, succeed};
use crate::formats::Format;

/// The least share of the speed of `\copy`.
fn least_speed(format: Format) -> f64 {
    match format {
        Format::Csv => 0.60,
        Format::Jsonl => 0.55,
        Format::Xlsx => 0.35,
    }
}

/// The most memory of each program, in MiB.
fn most_memory(format: Format) -> f64 {
    if format == Format::Xlsx { 300.0 } else { 150.0 }
}

#[derive(Debug, Args)]
pub struct Arguments {
    /// The numbers of rows of the files.
    #[arg(long, value_name = "N", value_delimiter = ',', default_values_t = [100_000, 1_000_000])]
    rows: Vec<usize>,
    /// How often each file is imported and copied.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..))]
    rounds: u8,
    /// Measure only the memory: import each file once and copy nothing.
    #[arg(long)]
    memory: bool,
    /// The format of the files.
    #[arg(long, value_enum, default_value = "csv")]
    format: Format,
    /// Use rows in the format of another system's export, with six columns that become custom fields.
    #[arg(long)]
    wide: bool,
}

/// Imports files of valid rows through the API, and copies the resulting leads.
pub async fn run(arguments: Arguments) -> Result<ExitCode> {
    Harness::with(async |harness| measure(harness, &arguments).await).await
}

async fn measure(harness: &Harness, arguments: &Arguments) -> Result<ExitCode> {
    let rounds = if arguments.memory { 1 } else { arguments.rounds };
    let machine = harness.machine().await?;
    let rows = if arguments.wide { "wide" } else { "plain" };
    let format = format!("{:?}", arguments.format).to_lowercase();
    let mut figures =
        Figures::new("import", json!({ "machine": machine, "rounds": rounds, "rows": rows, "format": format }));
    let (api, worker) = (harness.api().await?, harness.worker()?);
    for &rows in &arguments.rows {
        let file = harness.dir.join("leads.csv");
        write(&file, rows, arguments.wide)?;
        let file = arguments.format.convert(&file)?;
        let mut speeds = Speeds::default();
        for round in 1..=rounds {
            harness.prepare("TRUNCATE leads, imports, jobs CASCADE; DROP TABLE IF EXISTS copied").await?;
            let imported = import(harness, &api, &file, rows).await?;
            let per_second = |seconds: f64| rows as f64 / seconds;
            speeds.import.push(per_second(imported.seconds));
            speeds.worker.push(per_second(imported.worker_seconds));
            let mut sample = json!({ "rows": rows, "round": round, "import_s": imported.seconds,
                "upload_s": imported.upload_seconds, "worker_s": imported.worker_seconds });
            if !arguments.memory {
                let seconds = copy(harness, rows).await?;
                speeds.copy.push(per_second(seconds));
                sample["copy_s"] = json!(seconds);
            }
            figures.sample(sample);
        }
        if !arguments.memory {
            speeds.report(&mut figures, rows, arguments.format);
        }
        report_memory(&mut figures, &api.program, &worker, rows, arguments.format).await?;
        std::fs::remove_file(file)?;
    }
    worker.stop().await?;
    api.program.stop().await?;
    Ok(figures.table())
}

/// Rows per second, by round.
#[derive(Default)]
struct Speeds {
    import: Vec<f64>,
    worker: Vec<f64>,
    copy: Vec<f64>,
}

impl Speeds {
    fn report(&self, figures: &mut Figures, rows: usize, format: Format) {
        let copy = median(&self.copy);
        let mut compared = |figure: &str, speeds: &[f64], bound| {
            let figure = format!("{figure}, {rows} rows");
            figures.ratio(&figure, (median(speeds), copy), "rows/s", "psql \\copy", bound);
        };
        compared("from the first byte to the end of the job", &self.import, Bound::AtLeast(least_speed(format)));
        compared("the worker's part", &self.worker, Bound::None);
    }
}

async fn report_memory(
    figures: &mut Figures,
    api: &Program,
    worker: &Program,
    rows: usize,
    format: Format,
) -> Result<()> {
    for (name, program) in [("crm-api", api), ("crm-worker", worker)] {
        let figure = format!("peak memory of {name}, {rows} rows");
        figures.alone(&figure, program.peak_memory().await?, "MiB", Bound::AtMost(most_memory(format)));
    }
    Ok(())
}

struct Imported {
    seconds: f64,
    upload_seconds: f64,
    worker_seconds: f64,
}

#[derive(FromRow)]
struct JobTimes {
    status: String,
    result: Option<Value>,
    started_at: Option<DateTime<Utc>>,
    finished_at: Option<DateTime<Utc>>,
}

/// Imports a file through the API.
async fn import(harness: &Harness, api: &Api, file: &Path, rows: usize) -> Result<Imported> {
    let (sent, began) = (Utc::now(), Instant::now());
    let id = upload(api, file).await?;
    let upload_seconds = began.elapsed().as_secs_f64();
    let job = loop {
        let job: JobTimes = sqlx::query_as("SELECT status, result, started_at, finished_at FROM jobs WHERE id = $1")
            .bind(id)
            .fetch_one(&harness.pool)
            .await?;
        if job.finished_at.is_some() {
            break job;
        }
        sleep(std::time::Duration::from_millis(50)).await;
    };
    ensure!(job.status == "succeeded", "the import ended {}: {:?}", job.status, job.result);
    let leads: i64 = sqlx::query_scalar("SELECT count(*) FROM leads").fetch_one(&harness.pool).await?;
    ensure!(leads == rows as i64, "{leads} of {rows} rows were imported: {:?}", job.result);
    let (started, finished) = job.started_at.zip(job.finished_at).context("the finished job has no times")?;
    let between = |from: DateTime<Utc>| (finished - from).as_seconds_f64();
    Ok(Imported { seconds: between(sent), upload_seconds, worker_seconds: between(started) })
}

/// Uploads a file; returns the id of its job.
pub async fn upload(api: &Api, file: &Path) -> Result<Uuid> {
    upload_part(api, &api.key, Part::file(file).await?).await
}

/// Uploads a file with this API key; returns the id of its job.
pub async fn upload_part(api: &Api, key: &str, file: Part) -> Result<Uuid> {
    let form = Form::new().part("file", file.mime_str("text/csv")?);
    let request = reqwest::Client::new().post(format!("{}/leads/import", api.url)).bearer_auth(key);
    let response = request.multipart(form).send().await.context("crm-api does not respond")?;
    let (status, body) = (response.status(), response.text().await?);
    ensure!(status == 202, "the upload returned {status}: {body}");
    let job: Value = serde_json::from_str(&body)?;
    Ok(job["id"].as_str().context("the job has no id")?.parse()?)
}

/// Copies the existing leads unchanged into a table with the same indexes.
async fn copy(harness: &Harness, rows: usize) -> Result<f64> {
    let file = harness.dir.join("copied.tsv").display().to_string();
    succeed(&mut harness.psql(&format!("\\copy leads TO '{file}'"))).await?;
    harness.prepare("TRUNCATE leads CASCADE; CREATE TABLE copied (LIKE leads INCLUDING ALL)").await?;
    let began = Instant::now();
    succeed(&mut harness.psql(&format!("\\copy copied FROM '{file}'"))).await?;
    let seconds = began.elapsed().as_secs_f64();
    let copied: i64 = sqlx::query_scalar("SELECT count(*) FROM copied").fetch_one(&harness.pool).await?;
    ensure!(copied == rows as i64, "{copied} of {rows} rows were copied");
    std::fs::remove_file(file)?;
    Ok(seconds)
}

/// Writes a file of valid rows with different emails.
pub fn write(path: &PathBuf, rows: usize, wide: bool) -> Result<()> {
    if wide {
        return Ok(std::fs::write(path, dev::sample::leads(rows, 1))?);
    }
    write_plain(path, 0..rows)
}

/// Writes rows with these numbers, which are part of the emails.
pub fn write_plain(path: &Path, rows: Range<usize>) -> Result<()> {
    let mut file = BufWriter::new(std::fs::File::create(path)?);
    let random = &mut StdRng::seed_from_u64(1);
    let pick = |random: &mut StdRng, words: &[&'static str]| words.choose(random).copied().unwrap_or_default();
    writeln!(file, "name,email,phone,company,source,status,score,notes")?;
    for row in rows {
        let (first, last) = (pick(random, FIRST_NAMES), pick(random, LAST_NAMES));
        let (company, kind) = (pick(random, COMPANIES), pick(random, KINDS));
        let (source, status) = (pick(random, SOURCES), pick(random, STATUSES));
        let (phone, score) = (random.random_range(1_000_000..9_999_999), random.random_range(0..=100));
        writeln!(
            file,
            "{first} {last},{first}.{last}.{row}@{company}.example,+49 30 {phone},{company} {kind},{source},{status},\
             {score},\"Wants an offer for {score} seats, and a call.\""
        )?;
    }
    Ok(file.flush()?)
}

const FIRST_NAMES: &[&str] = &["Ada", "Bruno", "Chloe", "Dmitri", "Elena", "Farid", "Greta", "Hugo", "Ines", "Jonas"];
const LAST_NAMES: &[&str] = &["Almeida", "Bauer", "Costa", "Diaz", "Eriksen", "Fischer", "Gupta", "Haddad", "Ito"];
const COMPANIES: &[&str] = &["Alder", "Beacon", "Cascade", "Delta", "Ember", "Falcon", "Granite", "Harbor", "Juniper"];
const KINDS: &[&str] = &["Analytics", "Clinics", "Energy", "Foods", "Group", "Labs", "Media", "Software", "Travel"];
const SOURCES: &[&str] = &["campaign", "website", "referral", "direct", "social", "email", "other"];
const STATUSES: &[&str] = &["new", "new", "new", "contacted", "contacted", "qualified", "proposal", "lost", "won"];
