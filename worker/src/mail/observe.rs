//! The log lines and spans of attempts to send emails.

use std::time::Duration;

use shared::mail::{Leased, Outcome};
use shared::platform::trace::{Kind, Span as Trace};
use tracing::Span;

/// An attempt to send an email, as logs and traces show it.
pub(super) struct Observed {
    span: Span,
    trace: Trace,
    is_bulk: bool,
}

impl Observed {
    /// Begins an attempt, at this mail server if there is one.
    pub fn begin(email: &Leased, host: Option<&str>) -> Self {
        let event = email.content.event;
        let mut trace =
            Trace::resume(Kind::Client, format_args!("email {}", event.as_str()), email.trace_context.as_deref());
        trace.set_some("network.protocol.name", host.map(|_| "smtp"));
        trace.set_some("server.address", host);
        trace.set("crm.email.id", email.id);
        trace.set("crm.email.event", event.as_str());
        trace.set("crm.workspace.id", email.workspace_id);
        trace.set_some("crm.job.id", email.job_id);
        trace.set_some("crm.request.id", email.request_id.as_deref());
        // At level error, so that every line about the email has its ids.
        let span = tracing::error_span!(
            "email",
            email_id = %email.id,
            job_id = email.job_id.map(display),
            workspace_id = %email.workspace_id,
            event = event.as_str(),
            request_id = email.request_id,
            trace_id = trace.trace_id(),
        );
        Self { span, trace, is_bulk: event.is_bulk() }
    }

    /// The span of the log.
    pub fn span(&self) -> &Span {
        &self.span
    }

    /// Logs the end of the attempt, without the server's answer, which may contain the address. Bulk emails are many,
    /// so those that were sent are logged for debugging only.
    pub fn end(mut self, to_domain: &str, outcome: &Outcome, time: Duration) {
        let (word, ms) = (outcome.word(), time.as_millis() as u64);
        self.trace.set("crm.email.outcome", word);
        let is_routine = match outcome {
            Outcome::Sent { .. } => self.is_bulk,
            Outcome::Untouched => true,
            Outcome::Bounced { .. } | Outcome::Deferred { .. } | Outcome::Unknown { .. } => {
                self.trace.fail(word);
                false
            }
        };
        let _in_span = self.span.enter();
        if is_routine {
            tracing::debug!(to_domain, outcome = word, ms, "email attempted");
        } else {
            tracing::info!(to_domain, outcome = word, ms, "email attempted");
        }
    }
}
