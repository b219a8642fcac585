//! Runs a worker that also has the test jobs, with the settings of the environment.

use anyhow::Result;
use shared::platform::config::Settings;
use shared::platform::telemetry;
use testing::test_jobs;
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<()> {
    let settings = Settings::load(None)?;
    let _logging = telemetry::start(&settings.log)?;
    let shutdown = CancellationToken::new();
    tokio::spawn(worker::cli::wait_for_signals(shutdown.clone())?);
    worker::run(settings, test_jobs::tasks(), shutdown).await
}
