//! Logs: text on a terminal, one JSON object per line elsewhere.
//!
//! Logs go to the standard error stream, since the standard output of commands is their result.

mod json;
mod limit;
mod lines;

use std::io::{self, IsTerminal};

use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::layer;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry;
use tracing_subscriber::util::SubscriberInitExt;

use crate::error::{Error, Result};
use crate::platform::config::{Log, LogFormat};

pub use limit::LogLimit;

/// Writes the gathered log lines when dropped.
#[must_use]
#[derive(Debug)]
pub struct Logging(());

/// Starts logging for the process. `RUST_LOG` wins over the level of the settings.
///
/// # Errors
/// [`Error::Internal`] for an invalid level, and if logging was already started.
pub fn start(settings: &Log) -> Result<Logging> {
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
        filtered.with(lines.fmt_fields(json::Members).event_format(json::Objects)).try_init()
    } else {
        filtered.with(lines.with_ansi(io::stderr().is_terminal())).try_init()
    };
    started.map_err(|error| Error::Internal(error.into()))?;
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        tracing::error!(place, "panic: {}", panic.payload_as_str().unwrap_or("?"));
    }));
    Ok(Logging(()))
}

impl Drop for Logging {
    fn drop(&mut self) {
        lines::write();
    }
}
