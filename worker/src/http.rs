//! The worker's HTTP endpoints for operators: liveness, readiness and metrics.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use shared::platform::db::CLOCK;
use shared::platform::listen::AdminPort;
use shared::queue::{self, Depth, Waiting};
use shared::{mail, webhooks};
use sqlx::PgConnection;
use tokio::sync::{Mutex, Semaphore};
use tokio::time::timeout;

use crate::context::WorkerContext;
use crate::metrics;

/// A worker is not ready if the database has not answered for this long. The worker asks it every 2
/// s.
const READY_WITHIN: Duration = Duration::from_secs(10);
/// The most connections at once; others wait.
const MAX_CONNECTIONS: usize = 64;
/// Counting a long queue reads much of it, so counts are reused for this long.
const COUNT_EVERY: Duration = Duration::from_secs(10);
/// How long a readiness probe waits for the details.
const PATIENCE: Duration = Duration::from_secs(1);
/// The most reasons in the details.
const MAX_REASONS: usize = 20;
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

pub(crate) async fn serve(process: Arc<WorkerContext>, port: AdminPort) {
    let listener = port.listener().await;
    if let Ok(address) = listener.local_addr() {
        tracing::info!(%address, "serving metrics and readiness");
    }
    let counted = Arc::new(Counted::default());
    let seats = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(seat) = seats.clone().acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            // Most likely the process is out of file descriptors.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let (process, counted) = (process.clone(), counted.clone());
        let answers = service_fn(move |request| {
            let (process, counted) = (process.clone(), counted.clone());
            async move { Ok::<_, Infallible>(answer(&process, &counted, &request).await) }
        });
        tokio::spawn(async move {
            let mut http = hyper::server::conn::http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
            // A broken connection only affects its client.
            let _ = http.serve_connection(TokioIo::new(stream), answers).await;
            drop(seat);
        });
    }
}

async fn answer(process: &WorkerContext, counted: &Counted, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return text(StatusCode::METHOD_NOT_ALLOWED, "use GET\n");
    }
    match request.uri().path() {
        "/healthz" => text(StatusCode::OK, "ok\n"),
        "/readyz" if process.stopping.is_cancelled() => text(StatusCode::SERVICE_UNAVAILABLE, "stopping\n"),
        "/readyz" if process.database.since_answer().is_none_or(|since| since > READY_WITHIN) => {
            text(StatusCode::SERVICE_UNAVAILABLE, "the database does not answer\n")
        }
        "/readyz" if !process.has_schema.load(Relaxed) => {
            text(StatusCode::SERVICE_UNAVAILABLE, "migrations are pending: run crm-api migrate\n")
        }
        "/readyz" if CLOCK.is_excessive() => {
            let trouble = CLOCK.trouble().unwrap_or_default();
            text(StatusCode::SERVICE_UNAVAILABLE, format!("{trouble}: no jobs are claimed\n"))
        }
        "/readyz" => match process.delivery.as_ref().and_then(|delivery| delivery.trouble()) {
            // No email is sent until an operator acts.
            Some(trouble) if trouble.settings => {
                text(StatusCode::SERVICE_UNAVAILABLE, format!("email is waiting: {}\n", trouble.why))
            }
            trouble => {
                let mut lines = vec!["ok".to_owned()];
                lines.extend(CLOCK.trouble());
                lines.extend(trouble.map(|trouble| format!("email is waiting: {}", trouble.why)));
                lines.extend(process.hold.present().map(|hold| hold.to_string()));
                lines.extend(waiting(process, counted).await);
                text(StatusCode::OK, lines.join("\n") + "\n")
            }
        },
        "/metrics" => {
            let depths = counted.depths(process).await;
            text(StatusCode::OK, metrics::render(process, depths.as_ref()))
        }
        _ => text(StatusCode::NOT_FOUND, "not found; use /healthz, /readyz or /metrics\n"),
    }
}

/// The services and jobs that wait after errors, with the reasons. The worker does other work
/// meanwhile.
async fn waiting(process: &WorkerContext, counted: &Counted) -> Vec<String> {
    let services = process.services.all().into_iter();
    let mut lines: Vec<String> =
        services.filter_map(|service| Some(format!("{} is waiting: {}", service.name, service.trouble()?))).collect();
    if let Ok(Some(waiting)) = timeout(PATIENCE, counted.waiting(process)).await {
        let jobs = waiting.iter().take(MAX_REASONS);
        lines.extend(jobs.map(|Waiting { kind, error, jobs }| format!("{jobs} {kind} waiting for a retry: {error}")));
    }
    lines
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let plain = header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, plain);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, header::HeaderValue::from_static("nosniff"));
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    response
}

/// The last counts, for metrics and for readiness.
#[derive(Default)]
struct Counted {
    depths: Counts<Depths>,
    waiting: Counts<Vec<Waiting>>,
}

/// A count and its time.
type Counts<T> = Mutex<Option<(Instant, T)>>;

/// The depths of the queues and the outbox, and the jobs that wait for a retry.
#[derive(Clone)]
pub(crate) struct Depths {
    pub queues: Vec<Depth>,
    pub waiting: Vec<Waiting>,
    pub outbox: mail::Depth,
    pub webhooks: webhooks::Depth,
}

impl Counted {
    async fn depths(&self, process: &WorkerContext) -> Option<Depths> {
        let count = async |connection: &mut PgConnection| {
            let (queues, waiting) = (queue::depths(connection).await?, queue::waiting(connection).await?);
            let (outbox, webhooks) = (mail::depth(connection).await?, webhooks::depth(connection).await?);
            Ok(Depths { queues, waiting, outbox, webhooks })
        };
        counted(process, &self.depths, count).await
    }

    async fn waiting(&self, process: &WorkerContext) -> Option<Vec<Waiting>> {
        counted(process, &self.waiting, async |connection: &mut PgConnection| queue::waiting(connection).await).await
    }
}

/// Returns `None` while the database is unavailable, since an unknown count is not zero.
async fn counted<T: Clone>(
    process: &WorkerContext,
    counts: &Counts<T>,
    count: impl AsyncFnOnce(&mut PgConnection) -> shared::Result<T>,
) -> Option<T> {
    let mut counts = counts.lock().await;
    if counts.as_ref().is_none_or(|(when, _)| when.elapsed() >= COUNT_EVERY) {
        *counts = process.upkeep(count).await.ok().map(|counted| (Instant::now(), counted));
    }
    counts.as_ref().map(|(_, counted)| counted.clone())
}
