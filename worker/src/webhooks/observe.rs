//! The log lines and spans of attempts to deliver webhooks.

use hyper::Uri;
use shared::events::EventId;
use shared::platform::trace::{Kind, Span};
use shared::webhooks::{Attempt, Due, Target};
use tracing::field::display;
use uuid::Uuid;

/// Where a delivery comes from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caused<'a> {
    pub workspace_id: Uuid,
    pub event_id: Uuid,
    pub event_type: &'a str,
    pub request_id: Option<&'a str>,
}

/// The span of an attempt. It has the receiver's host and no more of its URL, which may have secrets.
pub(super) fn span_of(workspace_id: Uuid, target: &Target, due: &Due) -> Span {
    let name = format_args!("POST webhook {}", due.event_type);
    let mut span = Span::resume(Kind::Client, name, due.trace_context.as_deref());
    if span.is_recorded() {
        let url = target.url.parse::<Uri>().ok();
        span.set("http.request.method", "POST");
        span.set_some("server.address", url.as_ref().and_then(Uri::host));
        span.set_some("server.port", url.as_ref().and_then(Uri::port_u16));
        span.set("crm.webhook.id", due.webhook_id);
        span.set("crm.delivery.id", due.id);
        span.set("crm.event.id", EventId(due.event_id).to_string());
        span.set("crm.event.type", due.event_type.as_str());
        span.set("crm.workspace.id", workspace_id);
        span.set_some("crm.request.id", due.request_id.as_deref());
        span.set_some("http.request.resend_count", (due.attempts > 0).then_some(i32::from(due.attempts)));
    }
    span
}

pub(super) fn end_span(span: &mut Span, attempt: &Attempt) {
    span.set_some("http.response.status_code", attempt.status);
    if !attempt.accepted {
        span.fail(attempt.status.map_or_else(|| "no_answer".to_owned(), |status| status.to_string()));
    }
}

/// Logs an attempt. There may be one for each change of a record, so those that were accepted are logged for debugging
/// only.
pub(super) fn log(attempt: &Attempt, caused: Caused<'_>, trace_id: Option<&str>) {
    let Attempt { id, webhook_id, status, error, .. } = attempt;
    let Caused { workspace_id, event_id, event_type, request_id } = caused;
    let (event_id, ms) = (EventId(event_id), attempt.latency.as_millis() as u64);
    let (delivery_id, webhook_id) = (display(id), display(webhook_id));
    let (number, workspace_id, event_id) =
        (attempt.attempts.saturating_add(1), display(workspace_id), display(event_id));
    if attempt.accepted {
        tracing::debug!(
            delivery_id,
            webhook_id,
            workspace_id,
            event_id,
            event_type,
            attempt = number,
            outcome = "delivered",
            status,
            ms,
            request_id,
            trace_id,
            "webhook attempted"
        );
    } else {
        tracing::info!(
            delivery_id,
            webhook_id,
            workspace_id,
            event_id,
            event_type,
            attempt = number,
            outcome = "failed",
            status,
            error,
            ms,
            request_id,
            trace_id,
            "webhook attempted"
        );
    }
}
