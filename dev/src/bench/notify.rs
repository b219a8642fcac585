//! `cargo dev bench notify`

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use futures_util::future::try_join_all;
use serde_json::json;
use shared::platform::db;
use shared::queue::notify::{Listener, Notifier};
use shared::queue::{self, NewJob, Payload};
use sqlx::{Connection, PgConnection};
use tokio::time::Instant;

use super::figures::{Bound, Figures, median};
use super::harness::Harness;
use super::lead_step::{LeadStep, WORKSPACE};

/// The least share of the speed without notifications.
const SPEED: f64 = 0.9;

#[derive(Debug, Args)]
pub struct Arguments {
    /// The number of concurrent clients, with one connection each.
    #[arg(long, value_name = "N", default_value_t = 16)]
    clients: usize,
    /// The number of time slices, alternately with and without notifications.
    #[arg(long, value_name = "N", default_value_t = 20)]
    slices: usize,
    /// The duration of a slice.
    #[arg(long, value_name = "S", default_value_t = 2.0)]
    seconds: f64,
}

/// Enqueues from many clients at once, alternately with and without notifications.
pub async fn run(arguments: Arguments) -> Result<ExitCode> {
    Harness::with(async |harness| measure(harness, &arguments).await).await
}

async fn measure(harness: &Harness, arguments: &Arguments) -> Result<ExitCode> {
    let &Arguments { clients, slices, seconds } = arguments;
    let settings =
        json!({ "machine": harness.machine().await?, "clients": clients, "slices": slices, "slice_s": seconds });
    let mut figures = Figures::new("notifier", settings);
    let settings = harness.settings()?;
    let pool = db::pool(&settings.database, "bench notify")?;
    let notifier = Notifier::new(pool.clone());
    // A listener, as in a worker.
    let mut listener = Listener::new(&pool).await?;
    let listening = tokio::spawn(async move { while listener.next().await.is_ok() {} });
    let connections = (0..clients).map(|_| PgConnection::connect(&settings.database.url));
    let mut connections = try_join_all(connections).await?;

    let slice_time = Duration::from_secs_f64(seconds);
    // Warms up connections and plans.
    enqueue(&mut connections, Some(&notifier), slice_time / 4).await?;
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for slice in 0..slices {
        let used = (slice % 2 == 0).then_some(&notifier);
        let speed = enqueue(&mut connections, used, slice_time).await?;
        figures.sample(json!({ "slice": slice, "notifier": used.is_some(), "jobs_per_s": speed }));
        if used.is_some() { &mut with } else { &mut without }.push(speed);
    }
    listening.abort();
    let speeds = (median(&with), median(&without));
    let figure = format!("{clients} clients enqueue, with the notifier");
    figures.ratio(&figure, speeds, "jobs/s", "without", Bound::AtLeast(SPEED));
    Ok(figures.table())
}

/// Enqueues one job after another on each connection for a time; returns jobs per second.
async fn enqueue(connections: &mut [PgConnection], notifier: Option<&Notifier>, time: Duration) -> Result<f64> {
    let began = Instant::now();
    let clients = connections.iter_mut().map(async |connection| {
        let mut count = 0;
        while began.elapsed() < time {
            queue::enqueue(connection, NewJob::new(WORKSPACE, &LeadStep::new())?).await?;
            if let Some(notifier) = notifier {
                notifier.notify(LeadStep::QUEUE);
            }
            count += 1;
        }
        Ok::<u32, anyhow::Error>(count)
    });
    let count: u32 = try_join_all(clients).await?.into_iter().sum();
    Ok(f64::from(count) / began.elapsed().as_secs_f64())
}
