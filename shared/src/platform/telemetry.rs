//! Logs: text on a terminal, one JSON object per line elsewhere. Spans: exported if the settings say so.
//!
//! Logs go to the standard error stream, since the standard output of commands is their result.

mod json;
mod limit;
mod lines;
mod program;
mod text;

use std::io::{self, IsTerminal};
use std::time::Duration;

use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::layer;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry;
use tracing_subscriber::util::SubscriberInitExt;

use crate::error::{Error, Result};
use crate::platform::config::{Log, LogFormat, Settings};
use crate::platform::trace;

pub use limit::LogLimit;
pub use program::Program;

/// How long the end of a program may wait for the collector.
const TIME_TO_FLUSH: Duration = Duration::from_secs(2);

/// Writes the gathered log lines when dropped.
#[must_use]
#[derive(Debug)]
pub struct Telemetry(());

/// Starts the logs and traces of the program with this name. `RUST_LOG` wins over the level of the settings. Needs
/// a Tokio runtime.
///
/// # Errors
/// [`Error::Internal`] for an invalid level, and if logging was already started.
pub fn start(service: &'static str, settings: &Settings) -> Result<Telemetry> {
    let program = Program::this(service);
    log(&settings.log, &program)?;
    trace::start(&settings.telemetry, &program)?;
    Ok(Telemetry(()))
}

fn log(settings: &Log, program: &Program) -> Result<()> {
    let level = std::env::var("RUST_LOG").unwrap_or_else(|_| settings.level.clone());
    // `Targets` cannot filter by the fields of spans: `EnvFilter` can, and costs time at every span.
    let filter: Targets =
        level.parse().map_err(|error| Error::internal(format!("invalid log level {level:?}: {error}")))?;
    let lines = layer().with_writer(lines::start()?);
    let json = match settings.format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !io::stderr().is_terminal(),
    };
    let filtered = registry().with(filter);
    let started = if json {
        filtered.with(lines.fmt_fields(json::Members).event_format(json::Objects::of(program))).try_init()
    } else {
        let lines = lines.with_ansi(io::stderr().is_terminal());
        filtered.with(lines.event_format(text::Lines::of(program))).try_init()
    };
    started.map_err(|error| Error::Internal(error.into()))?;
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        tracing::error!(place, "panic: {}", panic.payload_as_str().unwrap_or("?"));
    }));
    Ok(())
}

impl Telemetry {
    /// Exports the last spans, and writes the last log lines.
    pub async fn end(self) {
        trace::flush(TIME_TO_FLUSH).await;
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        lines::write();
    }
}
