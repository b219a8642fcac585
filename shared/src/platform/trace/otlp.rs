//! Recording spans with OpenTelemetry, and exporting them over OTLP.
//!
//! Spans that have ended wait in a queue for a task that exports them. A span that finds the queue full is
//! lost, as is a batch that the collector does not accept, so nothing ever waits for the collector.

mod client;

use std::collections::HashMap;
use std::fmt::Arguments;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use opentelemetry::trace::{
    Span as _, SpanBuilder, SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags, TraceId, TraceState,
    Tracer, TracerProvider,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{Protocol, SpanExporter as OtlpExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    Sampler, SdkTracer, SdkTracerProvider, Span as SdkSpan, SpanData, SpanExporter, SpanProcessor,
};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};

use super::{Kind, TraceContext, Value};
use crate::error::{Error, Result};
use crate::platform::config::Telemetry;
use crate::platform::telemetry::{LogLimit, Program};

/// The spans that wait at most: a few MiB.
const QUEUED: usize = 4_096;
/// The spans of one request to the collector at most.
const BATCH: usize = 512;
/// How long a span waits for others.
const LINGER: Duration = Duration::from_secs(1);
/// How long a batch may take, with retries.
const PATIENCE: Duration = Duration::from_secs(10);

static EXPORTER: OnceLock<Exporter> = OnceLock::new();
/// The spans that were not exported, and are not in the log yet.
static LOST: AtomicU64 = AtomicU64::new(0);

struct Exporter {
    tracer: SdkTracer,
    queue: mpsc::Sender<Item>,
}

/// What waits in the queue.
enum Item {
    Ended(Box<SpanData>),
    /// Asks for a reply once everything before it has been exported.
    Flush(oneshot::Sender<()>),
}

/// A span that is recorded.
#[derive(Debug)]
pub(super) struct Recording(SdkSpan);

impl Recording {
    /// Begins a span; `None` if nothing is exported, or the trace is not sampled.
    pub fn begin(kind: Kind, name: Arguments<'_>, parent: Option<&TraceContext>) -> Option<Self> {
        let Exporter { tracer, .. } = EXPORTER.get()?;
        if parent.is_some_and(|parent| !parent.is_sampled()) {
            return None;
        }
        let builder = SpanBuilder::from_name(name.to_string()).with_kind(kind.into());
        let parent = parent.map_or_else(Context::new, |parent| Context::new().with_remote_span_context(parent.into()));
        let span = tracer.build_with_context(builder, &parent);
        span.is_recording().then_some(Self(span))
    }

    /// The context that what it causes continues.
    pub fn context(&self) -> TraceContext {
        let context = self.0.span_context();
        TraceContext::of_span(context.trace_id(), context.span_id(), &context.trace_state().header())
    }

    pub fn set(&mut self, name: &'static str, value: Value) {
        self.0.set_attribute(match value {
            Value::Text(text) => KeyValue::new(name, text),
            Value::Number(number) => KeyValue::new(name, number),
        });
    }

    pub fn fail(&mut self) {
        self.0.set_status(Status::error(""));
    }
}

impl From<&TraceContext> for SpanContext {
    fn from(context: &TraceContext) -> Self {
        let trace_id = TraceId::from_hex(context.trace_id()).unwrap_or(TraceId::INVALID);
        let span_id = SpanId::from_hex(context.span_id()).unwrap_or(SpanId::INVALID);
        let flags = TraceFlags::default().with_sampled(context.is_sampled());
        let state = context.state().and_then(|state| state.parse::<TraceState>().ok()).unwrap_or_default();
        Self::new(trace_id, span_id, flags, true, state)
    }
}

impl From<Kind> for SpanKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Server => Self::Server,
            Kind::Client => Self::Client,
            Kind::Consumer => Self::Consumer,
            Kind::Internal => Self::Internal,
        }
    }
}

/// Starts the task that exports spans until the process ends.
pub(super) fn start(settings: &Telemetry, program: &Program) -> Result<()> {
    let headers: HashMap<String, String> = settings.headers().collect();
    let exporter = OtlpExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(format!("{}/v1/traces", settings.otlp_endpoint.trim_end_matches('/')))
        .with_timeout(PATIENCE)
        .with_headers(headers)
        .with_http_client(client::Client::new()?)
        .build();
    let mut exporter = exporter.map_err(|error| Error::internal(format!("telemetry.otlp_endpoint: {error}")))?;
    let resource = resource(program);
    exporter.set_resource(&resource);
    let (queue, ended) = mpsc::channel(QUEUED);
    let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(settings.sample_ratio)));
    let provider = SdkTracerProvider::builder()
        .with_resource(resource)
        .with_sampler(sampler)
        .with_span_processor(Queue(queue.clone()))
        .build();
    if EXPORTER.set(Exporter { tracer: provider.tracer("crm"), queue }).is_err() {
        return Err(Error::internal("spans are exported already"));
    }
    tokio::spawn(export(ended, exporter));
    Ok(())
}

fn resource(program: &Program) -> Resource {
    let attributes = [
        KeyValue::new("service.name", program.service),
        KeyValue::new("service.version", program.version),
        KeyValue::new("host.name", program.host.clone()),
        KeyValue::new("process.pid", i64::from(program.pid)),
    ];
    Resource::builder_empty().with_attributes(attributes).build()
}

/// Waits until the spans that have ended are exported, at most so long.
pub(super) async fn flush(limit: Duration) {
    let Some(Exporter { queue, .. }) = EXPORTER.get() else { return };
    let (done, exported) = oneshot::channel();
    let flushed = timeout(limit, async {
        if queue.send(Item::Flush(done)).await.is_ok() {
            let _ = exported.await;
        }
    });
    if flushed.await.is_err() {
        tracing::warn!("the last spans could not be exported in time");
    }
}

/// Passes spans that have ended to the task that exports them.
#[derive(Debug)]
struct Queue(mpsc::Sender<Item>);

impl SpanProcessor for Queue {
    fn on_start(&self, _: &mut SdkSpan, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        if self.0.try_send(Item::Ended(Box::new(span))).is_err() {
            LOST.fetch_add(1, Relaxed);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

async fn export(mut queue: mpsc::Receiver<Item>, exporter: OtlpExporter) {
    let (mut batch, mut flushed) = (Vec::with_capacity(BATCH), Vec::new());
    let limit = LogLimit::each_minute();
    while gather(&mut queue, &mut batch, &mut flushed).await {
        let count = batch.len() as u64;
        let error = match batch.is_empty() {
            true => None,
            false => exporter.export(std::mem::take(&mut batch)).await.err(),
        };
        if error.is_some() {
            LOST.fetch_add(count, Relaxed);
        }
        report_lost(&limit, error.map(|error| error.to_string()));
        for done in flushed.drain(..) {
            let _ = done.send(());
        }
    }
}

/// Gathers spans until the batch is full, the first one has waited long enough, or somebody waits for a flush.
/// Returns whether more may follow.
async fn gather(
    queue: &mut mpsc::Receiver<Item>,
    batch: &mut Vec<SpanData>,
    flushed: &mut Vec<oneshot::Sender<()>>,
) -> bool {
    let mut next = queue.recv().await;
    let mut lingering = std::pin::pin!(sleep(LINGER));
    loop {
        match next {
            Some(Item::Ended(span)) => batch.push(*span),
            Some(Item::Flush(done)) => flushed.push(done),
            None => return false,
        }
        if batch.len() >= BATCH || !flushed.is_empty() {
            return true;
        }
        tokio::select! {
            item = queue.recv() => next = item,
            () = &mut lingering => return true,
        }
    }
}

/// Logs how many spans were lost, at most once a minute.
fn report_lost(limit: &LogLimit, error: Option<String>) {
    if LOST.load(Relaxed) > 0 && limit.allows().is_some() {
        tracing::warn!(
            spans = LOST.swap(0, Relaxed),
            error,
            "spans were lost: the collector does not accept them in time"
        );
    }
}
