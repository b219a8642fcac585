//! Runs a worker that also has the test jobs, with the settings of the environment.

use anyhow::Result;
use shared::platform::config::Settings;
use shared::platform::telemetry;
use testing::test_jobs;
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<()> {
    let settings = Settings::load(None)?;
    let telemetry = telemetry::start("test-worker", &settings)?;
    let shutdown = CancellationToken::new();
    tokio::spawn(worker::cli::wait_for_signals(shutdown.clone())?);
    let ended = worker::run(settings, test_jobs::tasks(), shutdown).await;
    telemetry.end().await;
    ended
}
