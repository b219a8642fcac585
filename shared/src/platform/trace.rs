//! Traces across requests, jobs, emails and webhooks.
//!
//! What a request causes happens later, in other processes. So the [`TraceContext`] of the request is stored
//! with its jobs, and that of a job with its emails and events, and whoever works on these continues the trace
//! with a [`Span`].
//!
//! Spans are exported with the cargo feature `otel`, to the endpoint in the settings. Without either they
//! record nothing, and the trace of a caller is handed on unchanged.

mod context;
#[cfg(not(feature = "otel"))]
mod off;
#[cfg(feature = "otel")]
mod otlp;
mod span;

use std::time::Duration;

use crate::error::Result;
use crate::platform::config::Telemetry;
use crate::platform::telemetry::Program;

#[cfg(not(feature = "otel"))]
use off as exporter;
#[cfg(feature = "otel")]
use otlp as exporter;

pub use context::{TraceContext, current, scope, stored};
pub use span::{Kind, Span, Value};

/// Whether spans can be exported.
pub(crate) const IS_BUILT: bool = cfg!(feature = "otel");

/// Starts exporting spans if the settings have an endpoint. Needs a Tokio runtime.
///
/// # Errors
/// [`Error::Internal`](crate::Error::Internal) for an endpoint or headers that cannot be used.
pub(super) fn start(settings: &Telemetry, program: &Program) -> Result<()> {
    if settings.otlp_endpoint.is_empty() { Ok(()) } else { exporter::start(settings, program) }
}

/// Exports the spans that have ended. What cannot be exported in time is lost.
pub async fn flush(limit: Duration) {
    exporter::flush(limit).await;
}
