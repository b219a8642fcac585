//! Logs: readable ones on a terminal, one JSON object a line elsewhere.
//!
//! They go to the standard error stream, since the standard output of commands is their result.

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

/// Logging, until it is dropped.
#[must_use]
#[derive(Debug)]
pub struct Logging(());

/// Starts logging for the process. `RUST_LOG` wins over the level of the settings.
///
/// # Errors
/// [`Error::Internal`] for a level that is none, and when logging was started before.
pub fn start(settings: &Log) -> Result<Logging> {
    let level = std::env::var("RUST_LOG").unwrap_or_else(|_| settings.level.clone());
    // Not by the fields of spans: a filter that knows them looks at every span that is entered.
    let filter: Targets =
        level.parse().map_err(|error| Error::internal(format!("the log level {level:?} is wrong: {error}")))?;
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
