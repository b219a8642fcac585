//! Log lines as text.

use std::fmt;

use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::{Format, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::Program;

/// Writes each event as a line that begins with the host, the program with its version, and its process.
#[derive(Debug)]
pub(super) struct Lines {
    prefix: String,
    format: Format,
}

impl Lines {
    pub fn of(Program { service, version, host, pid }: &Program) -> Self {
        Self { prefix: format!("{host} {service}/{version}[{pid}] "), format: Format::default() }
    }
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'w> FormatFields<'w> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut line: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        line.write_str(&self.prefix)?;
        self.format.format_event(context, line, event)
    }
}
