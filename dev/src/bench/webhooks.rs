//! Delivery of webhooks to a receiver that answers in 5 ms.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use dev::client::Client;
use serde_json::{Value, json};
use testing::receiver::{Answer, Receiver};
use tokio::time::sleep;

use super::figures::{Bound, Figures, quantile};
use super::harness::{Api, Harness, Program};

/// The time that the receiver takes.
const ANSWER: Duration = Duration::from_millis(5);
/// The deliveries per second of one worker.
const AT_LEAST: f64 = 1_000.0;
/// The median time from a commit to the request at the receiver.
const AT_MOST_MS: f64 = 150.0;
/// The leads of one batch.
const BATCH: usize = 1_000;
const PATIENCE: Duration = Duration::from_secs(300);

#[derive(Debug, Args)]
pub struct Arguments {
    /// The number of events, each delivered to all endpoints.
    #[arg(long, value_name = "N", default_value_t = 5_000)]
    events: usize,
    /// The number of endpoints.
    #[arg(long, value_name = "N", default_value_t = 4)]
    endpoints: usize,
    /// The number of events, one after another, of which the time is measured.
    #[arg(long, value_name = "N", default_value_t = 200)]
    samples: usize,
}

/// Measures delivery by one worker.
pub async fn run(arguments: Arguments) -> Result<ExitCode> {
    Harness::with(async |harness| measure(harness, &arguments).await).await
}

async fn measure(harness: &Harness, arguments: &Arguments) -> Result<ExitCode> {
    let &Arguments { events, endpoints, samples } = arguments;
    let settings = json!({ "machine": harness.machine().await?, "events": events, "endpoints": endpoints,
        "samples": samples, "answer_ms": ANSWER.as_millis() });
    let mut figures = Figures::new("webhooks", settings);
    let receiver = Receiver::start().await;
    let receivers = receiver.address.to_string();
    let variables = [("CRM_WEBHOOKS__ALLOW_HTTP", "true"), ("CRM_WEBHOOKS__INTERNAL_RECEIVERS", receivers.as_str())];
    let api = harness.api_with(&variables).await?;
    let client = Client::new(api.url.trim_end_matches("/dev/crm"), &api.key);

    for (endpoints, bound) in [(1, Bound::None), (endpoints, Bound::AtLeast(AT_LEAST))] {
        let per_second = deliver(harness, &client, &receiver, (events, endpoints), &variables).await?;
        figures.sample(json!({ "endpoints": endpoints, "delivered_per_s": per_second }));
        figures.alone(&format!("deliveries to {endpoints} endpoints, recorded"), per_second, "/s", bound);
    }

    let worker = harness.worker_with(&variables)?;
    receiver.script(|_| Answer::status(200));
    subscribe(&client, &receiver, 1).await?;
    let waited = one_by_one(&client, &receiver, samples).await?;
    figures.sample(json!({ "waited_ms": waited }));
    figures.alone("time from the commit to the request, p50", quantile(&waited, 0.5), "ms", Bound::AtMost(AT_MOST_MS));
    figures.alone("  p99", quantile(&waited, 0.99), "ms", Bound::None);
    stop(worker, api).await?;
    Ok(figures.table())
}

async fn stop(worker: Program, api: Api) -> Result<()> {
    worker.stop().await?;
    api.program.stop().await
}

/// Deletes all webhooks, and creates others for created leads.
async fn subscribe(client: &Client, receiver: &Receiver, endpoints: usize) -> Result<()> {
    let present = client.get("webhooks").await?;
    for webhook in present.as_array().into_iter().flatten() {
        client.delete(&format!("webhooks/{}", webhook["id"].as_str().context("a webhook has no id")?)).await?;
    }
    for n in 0..endpoints {
        let body = json!({ "url": receiver.url(&format!("/{n}")), "events": ["lead.created"] });
        client.post("webhooks", &format!("{:016x}", rand::random::<u64>()), &body).await?;
    }
    Ok(())
}

/// Delivers events that happened before a worker starts; returns the deliveries per second, from the first to the last.
async fn deliver(
    harness: &Harness,
    client: &Client,
    receiver: &Receiver,
    (events, endpoints): (usize, usize),
    variables: &[(&str, &str)],
) -> Result<f64> {
    receiver.script(|_| Answer { after: ANSWER, ..Answer::status(200) });
    subscribe(client, receiver, endpoints).await?;
    for _ in 0..events.div_ceil(BATCH) {
        let items: Vec<Value> = (0..BATCH).map(|_| lead()).collect();
        client.post("leads/batch", &format!("{:016x}", rand::random::<u64>()), &json!({ "items": items })).await?;
    }
    harness.prepare("VACUUM ANALYZE").await?;
    let (before, all) = (receiver.count(), events.div_ceil(BATCH) * BATCH * endpoints);
    let worker = harness.worker_with(variables)?;
    let began = Instant::now();
    while receiver.count() < before + all {
        ensure!(began.elapsed() < PATIENCE, "only {} of {all} events arrived", receiver.count() - before);
        sleep(Duration::from_millis(20)).await;
    }
    worker.stop().await?;
    let unrecorded = "SELECT count(*) FROM webhook_deliveries WHERE state <> 'delivered'";
    let unrecorded: i64 = sqlx::query_scalar(unrecorded).fetch_one(&harness.pool).await?;
    ensure!(unrecorded == 0, "{unrecorded} deliveries are not recorded");
    let received = receiver.received().split_off(before);
    let (first, last) = received.first().zip(received.last()).context("nothing was delivered")?;
    Ok((received.len() - 1) as f64 / (last.at - first.at).as_secs_f64())
}

/// Creates leads one after the other; returns the time of each from the response to the request at the receiver, in
/// milliseconds.
async fn one_by_one(client: &Client, receiver: &Receiver, samples: usize) -> Result<Vec<f64>> {
    let mut waited = Vec::with_capacity(samples);
    for _ in 0..samples {
        let before = receiver.count();
        client.post("leads", &format!("{:016x}", rand::random::<u64>()), &lead()).await?;
        let committed = Instant::now();
        while receiver.count() == before {
            ensure!(committed.elapsed() < PATIENCE, "an event did not arrive");
            sleep(Duration::from_millis(1)).await;
        }
        let at = receiver.last().context("nothing arrived")?.at;
        waited.push(at.saturating_duration_since(committed).as_secs_f64() * 1000.0);
        // Longer than the worker keeps a workspace without work for some, and shorter for others.
        sleep(Duration::from_millis(rand::random_range(0..900))).await;
    }
    Ok(waited)
}

fn lead() -> Value {
    let n = rand::random::<u64>();
    json!({ "name": "Ada Example", "email": format!("{n:016x}@example.com"), "company": "Example Ltd" })
}
