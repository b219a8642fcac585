//! The command line of `crm-worker`.

mod run;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Parser, Subcommand};
use shared::platform::config::Settings;
use shared::platform::telemetry;
use shared::queue;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::jobs;

/// Runs the background jobs of the CRM and sends its email. You can run any number of workers, on
/// any machines.
#[derive(Debug, Parser)]
#[command(name = "crm-worker", version)]
struct Arguments {
    /// A settings file, applied over the built-in settings; also CRM_CONFIG.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The queues to work on, separated by commas; all queues by default.
    #[arg(long, value_name = "QUEUE", value_delimiter = ',')]
    queues: Vec<String>,
    /// The number of jobs of each queue to run at once.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    concurrency: Option<u16>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Arguments),
}

/// Runs the program until SIGTERM or SIGINT. A second signal ends it at once.
///
/// # Errors
/// The settings are invalid.
pub async fn run() -> anyhow::Result<ExitCode> {
    let mut arguments = Arguments::parse();
    let command = arguments.command.take();
    let settings = settings(arguments)?;
    if let Some(Command::Run(run)) = command {
        return run.run(&settings).await;
    }
    let telemetry = telemetry::start("crm-worker", &settings)?;
    let shutdown = CancellationToken::new();
    tokio::spawn(wait_for_signals(shutdown.clone())?);
    let ended = crate::run(settings, jobs::all(), shutdown).await;
    telemetry.end().await;
    ended.map(|()| ExitCode::SUCCESS)
}

fn settings(arguments: Arguments) -> anyhow::Result<Settings> {
    let mut settings = Settings::load(arguments.config.as_deref())?;
    if let Some(unknown) = arguments.queues.iter().find(|queue| !queue::QUEUES.contains(&queue.as_str())) {
        bail!("--queues: unknown queue {unknown:?}; available: {}", queue::QUEUES.join(", "));
    }
    if !arguments.queues.is_empty() {
        settings.worker.queues = arguments.queues;
    }
    if let Some(concurrency) = arguments.concurrency {
        settings.worker.concurrency = concurrency.into();
    }
    Ok(settings)
}

/// Stops the worker at the first signal and ends the process at the second.
///
/// # Errors
/// The system refuses to register the signal handlers.
pub fn wait_for_signals(shutdown: CancellationToken) -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    Ok(async move {
        for first in [true, false] {
            tokio::select! {
                _ = terminate.recv() => (),
                _ = interrupt.recv() => (),
            }
            if first {
                shutdown.cancel();
            } else {
                tracing::warn!("second signal received; exiting without handing back jobs");
                std::process::exit(1);
            }
        }
    })
}
