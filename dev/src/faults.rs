//! `cargo dev faults`: whether the promises hold while things break.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};
use dev::chores;
use shared::config::Settings;
use shared::telemetry;
use tokio_util::sync::CancellationToken;

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    fault: Fault,
}

#[derive(Debug, Subcommand)]
enum Fault {
    /// A worker that also knows jobs that misbehave, with the settings of the environment.
    #[command(hide = true)]
    Worker,
}

/// Runs one of the faults; fails if a promise was broken.
pub async fn run(arguments: Arguments) -> Result<ExitCode> {
    match arguments.fault {
        Fault::Worker => work().await,
    }
}

async fn work() -> Result<ExitCode> {
    let settings = Settings::load(None)?;
    telemetry::start(&settings.log)?;
    let shutdown = CancellationToken::new();
    tokio::spawn(worker::cli::wait_for_signals(shutdown.clone())?);
    worker::run(settings, chores::tasks(), shutdown).await?;
    Ok(ExitCode::SUCCESS)
}
