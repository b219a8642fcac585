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

/// Works through the jobs of the CRM. Start as many as you like, on any machine.
#[derive(Debug, Parser)]
#[command(name = "crm-worker", version)]
struct Arguments {
    /// A file of settings that override the built-in ones.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The queues to work on, separated by commas; all if not given.
    #[arg(long, value_name = "QUEUE", value_delimiter = ',')]
    queues: Vec<String>,
    /// How many jobs of each queue to work on at once.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    concurrency: Option<u16>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Arguments),
}

/// Runs the program until it is told to stop by SIGTERM or SIGINT. A second one ends it at once.
///
/// # Errors
/// Wrong settings.
pub async fn run() -> anyhow::Result<ExitCode> {
    let mut arguments = Arguments::parse();
    let command = arguments.command.take();
    let settings = settings(arguments)?;
    if let Some(Command::Run(run)) = command {
        return run.run(&settings).await;
    }
    let _logging = telemetry::start(&settings.log)?;
    let shutdown = CancellationToken::new();
    tokio::spawn(wait_for_signals(shutdown.clone())?);
    crate::run(settings, jobs::all(), shutdown).await?;
    Ok(ExitCode::SUCCESS)
}

fn settings(arguments: Arguments) -> anyhow::Result<Settings> {
    let mut settings = Settings::load(arguments.config.as_deref())?;
    if let Some(unknown) = arguments.queues.iter().find(|queue| !queue::QUEUES.contains(&queue.as_str())) {
        bail!("--queues: there is no queue {unknown:?}, only {}", queue::QUEUES.join(", "));
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
/// The system refuses to deliver signals.
pub fn wait_for_signals(shutdown: CancellationToken) -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be listened for")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be listened for")?;
    Ok(async move {
        for first in [true, false] {
            tokio::select! {
                _ = terminate.recv() => (),
                _ = interrupt.recv() => (),
            }
            if first {
                shutdown.cancel();
            } else {
                tracing::warn!("told to stop again: what is at work is left for other workers");
                std::process::exit(1);
            }
        }
    })
}
