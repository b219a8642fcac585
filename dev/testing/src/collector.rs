//! A collector of spans on this machine, as operators have one: it speaks OTLP over HTTP.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1 as otlp;
use prost::Message;

use crate::receiver::{Received, Receiver};

/// How long [`Collector::until`] waits; generous, since many tests share few cores.
const PATIENCE: Duration = Duration::from_secs(60);

/// A span that arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// The id of its trace.
    pub trace_id: String,
    /// Its id.
    pub id: String,
    /// The id of the span that it is a part of; empty without one.
    pub parent_id: String,
    /// The `tracestate`.
    pub state: String,
    /// Its name.
    pub name: String,
    /// Its kind, such as `SERVER`.
    pub kind: String,
    /// Whether it is marked as failed.
    pub has_failed: bool,
    /// Its attributes, as text.
    pub attributes: BTreeMap<String, String>,
    /// The attributes of the process, as text.
    pub process: BTreeMap<String, String>,
}

impl Span {
    /// An attribute; empty without one.
    #[must_use]
    pub fn attribute(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }
}

/// A collector, which accepts everything unless its receiver has another script.
pub struct Collector(pub Receiver);

impl Collector {
    /// Starts one on a free port.
    ///
    /// # Panics
    /// If no port can be bound.
    pub async fn start() -> Self {
        Self(Receiver::start().await)
    }

    /// The setting that makes a program export its spans to the collector.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.0.address)
    }

    /// The spans so far.
    #[must_use]
    pub fn spans(&self) -> Vec<Span> {
        self.0.received().iter().flat_map(spans).collect()
    }

    /// Waits until the spans are as wanted, and returns them.
    ///
    /// # Panics
    /// If they are not in time.
    pub async fn until(&self, what: &str, holds: impl Fn(&[Span]) -> bool) -> Vec<Span> {
        let began = Instant::now();
        loop {
            let spans = self.spans();
            if holds(&spans) {
                return spans;
            }
            assert!(began.elapsed() < PATIENCE, "no {what} among {spans:#?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn spans(request: &Received) -> Vec<Span> {
    assert_eq!((request.path.as_str(), request.header("content-type")), ("/v1/traces", "application/x-protobuf"));
    let request =
        ExportTraceServiceRequest::decode(request.bytes.clone()).expect("the body is a request to a collector");
    let mut all = Vec::new();
    for of_process in request.resource_spans {
        let process = texts(of_process.resource.unwrap_or_default().attributes);
        let spans = of_process.scope_spans.into_iter().flat_map(|of_scope| of_scope.spans);
        all.extend(spans.map(|span| read(span, process.clone())));
    }
    all
}

fn read(span: otlp::Span, process: BTreeMap<String, String>) -> Span {
    Span {
        kind: span.kind().as_str_name().trim_start_matches("SPAN_KIND_").to_owned(),
        has_failed: span.status.as_ref().is_some_and(|status| status.code() == otlp::status::StatusCode::Error),
        trace_id: hex(&span.trace_id),
        id: hex(&span.span_id),
        parent_id: hex(&span.parent_span_id),
        state: span.trace_state,
        name: span.name,
        attributes: texts(span.attributes),
        process,
    }
}

fn texts(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    attributes.into_iter().map(|KeyValue { key, value, .. }| (key, text(value))).collect()
}

fn text(value: Option<AnyValue>) -> String {
    match value.and_then(|value| value.value) {
        Some(any_value::Value::StringValue(text)) => text,
        Some(any_value::Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
