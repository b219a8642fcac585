//! `cargo dev bench insight`

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use chrono::{DateTime, Utc};
use clap::Args;
use rand::seq::IndexedRandom;
use reqwest::Client;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

mod backends;
mod data;
mod requests;

use super::figures::{Bound, Figures, quantile};
use super::harness::{Api, Harness};
use backends::Backends;

/// The bounds of a report that is repeated within a minute, of a first one, and of a first one with `compare`.
const REPEATED_P95_MS: f64 = 300.0;
const FIRST_P95_MS: f64 = 1_000.0;
const COMPARED_P95_MS: f64 = 2_000.0;
const OLDEST_S: f64 = 60.0;
/// The bounds of the memory that a backend gains, and of the temporary files of one report.
const GROWN_MIB: f64 = 200.0;
const TEMPORARY_MIB: f64 = 100.0;
/// The bound of a customer's health.
const HEALTH_P95_MS: f64 = 20.0;
/// The number of customers whose health is requested.
const CUSTOMERS: usize = 500;
/// The least share of the write throughput that remains during reports.
const WRITES_KEPT: f64 = 0.9;
/// The number of concurrent writers.
const WRITERS: usize = 8;

#[derive(Debug, Args)]
pub struct Arguments {
    /// Thousands of leads, and as many customers; three times as many orders and interactions, and half as
    /// much feedback.
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    thousands: i64,
    /// The duration of each measurement: first writes alone, then writes and reports.
    #[arg(long, value_name = "S", default_value_t = 120)]
    seconds: u64,
    /// The number of callers, each of whom requests one report after another.
    #[arg(long, value_name = "N", default_value_t = 4)]
    callers: usize,
    /// The number of writes per second.
    #[arg(long, value_name = "N", default_value_t = 200)]
    writes: usize,
    /// The number of first requests of each report, each with another period, zone or filter.
    #[arg(long, value_name = "N", default_value_t = 20)]
    firsts: usize,
}

/// Requests all reports of a large workspace during writes.
pub async fn run(arguments: Arguments) -> Result<ExitCode> {
    Harness::with(async |harness| measure(harness, &arguments).await).await
}

async fn measure(harness: &Harness, arguments: &Arguments) -> Result<ExitCode> {
    let &Arguments { thousands, seconds, callers, writes, firsts } = arguments;
    let settings = json!({ "machine": harness.machine().await?, "leads": thousands * 1_000, "seconds": seconds,
        "callers": callers, "writes_per_s": writes });
    let mut figures = Figures::new("insight", settings);
    let api = harness.api().await?;
    let began = Instant::now();
    data::fill(harness, api.workspace, thousands * 1_000).await?;
    eprintln!("wrote the data in {:.0} s", began.elapsed().as_secs_f64());
    let worker = harness.worker()?;
    data::digest(harness, api.workspace).await?;
    eprintln!("scored and read the data after {:.0} s", began.elapsed().as_secs_f64());
    let caller = Arc::new(Caller::new(harness, &api).await?);
    let time = Duration::from_secs(seconds);

    let alone = write(&caller, writes, time).await?;
    figures.sample(json!({ "of": "writes alone", "per_s": alone.per_s, "p95_ms": quantile(&alone.ms, 0.95) }));
    measure_firsts(&mut figures, harness, &caller, firsts).await?;
    let asking = AbortOnDropHandle::new(tokio::spawn(ask_all(caller.clone(), callers, time)));
    let (beside, health) = tokio::try_join!(write(&caller, writes, time), caller.health())?;
    let asked = asking.await??;
    figures.alone("health of a customer, p95", quantile(&health, 0.95), "ms", Bound::AtMost(HEALTH_P95_MS));
    for (path, Asked { ms, ages }) in &asked {
        figures.sample(
            json!({ "of": path, "asked": ms.len(), "p50_ms": quantile(ms, 0.5), "p99_ms": quantile(ms, 0.99) }),
        );
        figures.alone(&format!("{path}, p95"), quantile(ms, 0.95), "ms", Bound::AtMost(REPEATED_P95_MS));
        figures.alone(&format!("{path}, the oldest"), quantile(ages, 1.0), "s", Bound::AtMost(OLDEST_S));
    }
    figures.ratio("writes", (beside.per_s, alone.per_s), "writes/s", "without reports", Bound::AtLeast(WRITES_KEPT));
    figures.ratio(
        "writes, p95",
        (quantile(&beside.ms, 0.95), quantile(&alone.ms, 0.95)),
        "ms",
        "without reports",
        Bound::None,
    );
    worker.stop().await?;
    api.program.stop().await?;
    Ok(figures.table())
}

/// Requests each report for the first time, with another period, zone or filter each time, and again.
async fn measure_firsts(figures: &mut Figures, harness: &Harness, caller: &Caller, firsts: usize) -> Result<()> {
    let backends = Backends::watch(&harness.pool).await?;
    for report in requests::REPORTS {
        let (mut first, mut compared, mut repeated, mut temporary) = (vec![], vec![], vec![], 0.0_f64);
        for _ in 0..firsts {
            let request = report.random();
            let before = backends::temporary_mib(&harness.pool).await?;
            let (ms, _) = caller.ask(&request).await?;
            temporary = temporary.max(backends::temporary_mib(&harness.pool).await? - before);
            if request.contains("compare=") {
                compared.push(ms)
            } else {
                first.push(ms)
            }
            repeated.push(caller.ask(&request).await?.0);
        }
        let path = report.path;
        let mut p95 = |of: &str, ms: &[f64], bound: f64| {
            if !ms.is_empty() {
                figures.alone(&format!("{path}, {of}, p95"), quantile(ms, 0.95), "ms", Bound::AtMost(bound));
            }
        };
        p95("first", &first, FIRST_P95_MS);
        p95("first with compare", &compared, COMPARED_P95_MS);
        p95("repeated", &repeated, REPEATED_P95_MS);
        figures.alone(&format!("{path}, temporary files"), temporary, "MiB", Bound::AtMost(TEMPORARY_MIB));
    }
    let grown = backends.stop().await?;
    figures.alone("memory that a backend gains", grown, "MiB", Bound::AtMost(GROWN_MIB));
    Ok(())
}

/// A caller with an API key.
struct Caller {
    client: Client,
    url: String,
    key: String,
    customers: Vec<Uuid>,
    written: AtomicUsize,
}

/// The response times of a report.
#[derive(Debug, Default)]
struct Asked {
    ms: Vec<f64>,
    /// The ages of the reports in seconds.
    ages: Vec<f64>,
}

/// The throughput and response times of writes.
struct Written {
    per_s: f64,
    ms: Vec<f64>,
}

impl Caller {
    async fn new(harness: &Harness, api: &Api) -> Result<Self> {
        let customers = sqlx::query_scalar("SELECT id FROM customers TABLESAMPLE SYSTEM (1) LIMIT 10000");
        let customers: Vec<Uuid> = customers.fetch_all(&harness.pool).await?;
        ensure!(!customers.is_empty(), "there are too few customers");
        let (client, url, key) = (Client::new(), api.url.clone(), api.key.clone());
        Ok(Self { client, url, key, customers, written: AtomicUsize::new(0) })
    }

    fn customer(&self) -> Uuid {
        self.customers.choose(&mut rand::rng()).copied().unwrap_or_default()
    }

    /// Requests a report; returns the response time in milliseconds and the age of the report in seconds.
    async fn ask(&self, path: &str) -> Result<(f64, f64)> {
        let began = Instant::now();
        let response = self.client.get(format!("{}/{path}", self.url)).bearer_auth(&self.key).send().await?;
        let (status, body) = (response.status(), response.text().await?);
        let ms = began.elapsed().as_secs_f64() * 1000.0;
        ensure!(status == 200, "{path} returned {status}: {body}");
        let report: Value = serde_json::from_str(&body)?;
        let as_of: DateTime<Utc> = report["as_of"].as_str().context("a report has no as_of")?.parse()?;
        Ok((ms, (Utc::now() - as_of).as_seconds_f64()))
    }

    /// Requests the health of customers, one after another; returns the response times in milliseconds.
    async fn health(&self) -> Result<Vec<f64>> {
        let mut all = Vec::with_capacity(CUSTOMERS);
        for _ in 0..CUSTOMERS {
            let path = format!("{}/customers/{}/health", self.url, self.customer());
            let began = Instant::now();
            let response = self.client.get(path).bearer_auth(&self.key).send().await?;
            let (status, body) = (response.status(), response.text().await?);
            all.push(began.elapsed().as_secs_f64() * 1000.0);
            ensure!(status == 200, "a customer's health returned {status}: {body}");
        }
        Ok(all)
    }

    /// Writes one record: a lead, an order, an interaction, or an update of a customer.
    async fn write(&self) -> Result<f64> {
        let n = self.written.fetch_add(1, Relaxed);
        let customer = self.customer();
        let (method, path, body) = match n % 4 {
            0 => (
                "POST",
                "leads".to_owned(),
                json!({ "name": "Ada", "email": format!("w{n}-{customer}@example.com"), "status": "contacted" }),
            ),
            1 => (
                "POST",
                "orders".to_owned(),
                json!({ "customer_id": customer, "product_id": customer, "quantity": 1 + n % 9 }),
            ),
            2 => (
                "POST",
                format!("customers/{customer}/interactions"),
                json!({ "type": "call", "subject": "A call", "date": Utc::now() }),
            ),
            _ => ("PUT", format!("customers/{customer}"), json!({ "notes": format!("note {n}") })),
        };
        let began = Instant::now();
        let request = self.client.request(method.parse()?, format!("{}/{path}", self.url)).bearer_auth(&self.key);
        let response = request.json(&body).send().await?;
        ensure!(response.status().is_success(), "{path} returned {}: {}", response.status(), response.text().await?);
        Ok(began.elapsed().as_secs_f64() * 1000.0)
    }
}

/// Writes this many records per second for a time; a writer that is late catches up.
async fn write(caller: &Arc<Caller>, per_second: usize, time: Duration) -> Result<Written> {
    let began = Instant::now();
    let mut writers = JoinSet::new();
    for _ in 0..WRITERS {
        let caller = caller.clone();
        let mut ticks = interval(Duration::from_secs_f64(WRITERS as f64 / per_second as f64));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        writers.spawn(async move {
            let mut ms = Vec::new();
            while began.elapsed() < time {
                ticks.tick().await;
                ms.push(caller.write().await?);
            }
            anyhow::Ok(ms)
        });
    }
    let mut ms = Vec::new();
    while let Some(written) = writers.join_next().await {
        ms.extend(written??);
    }
    Ok(Written { per_s: ms.len() as f64 / began.elapsed().as_secs_f64(), ms })
}

/// Requests random reports for a time.
async fn ask_all(caller: Arc<Caller>, callers: usize, time: Duration) -> Result<BTreeMap<String, Asked>> {
    let until = Instant::now() + time;
    let mut asking = JoinSet::new();
    for _ in 0..callers {
        let caller = caller.clone();
        asking.spawn(async move {
            let mut asked: BTreeMap<String, Asked> = BTreeMap::new();
            while Instant::now() < until {
                let (path, request) = requests::usual();
                let (ms, age) = caller.ask(&request).await?;
                let of = asked.entry(path.to_owned()).or_default();
                of.ms.push(ms);
                of.ages.push(age);
            }
            anyhow::Ok(asked)
        });
    }
    let mut all: BTreeMap<String, Asked> = BTreeMap::new();
    while let Some(asked) = asking.join_next().await {
        for (report, asked) in asked?? {
            let of = all.entry(report).or_default();
            of.ms.extend(asked.ms);
            of.ages.extend(asked.ages);
        }
    }
    Ok(all)
}
