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
use shared::platform::metrics::CONTENT_TYPE;
use shared::queue::{self, Waiting};
use tokio::sync::{Mutex, Semaphore};
use tokio::time::timeout;

use crate::context::WorkerContext;

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
        "/metrics" => text(StatusCode::OK, process.metrics.render(process)),
        "/metrics/cluster" => text(StatusCode::OK, process.gauges.page().await),
        _ => text(StatusCode::NOT_FOUND, "not found; use /healthz, /readyz, /metrics or /metrics/cluster\n"),
    }
}

/// The services and jobs that wait after errors, with the reasons. The worker does other work
/// meanwhile.
async fn waiting(process: &WorkerContext, counted: &Counted) -> Vec<String> {
    let services = process.services.all().into_iter();
    let mut lines: Vec<String> =
        services.filter_map(|service| Some(format!("{} is waiting: {}", service.name, service.trouble()?))).collect();
    if let Ok(Some(waiting)) = timeout(PATIENCE, counted_lately(process, counted)).await {
        let jobs = waiting.iter().take(MAX_REASONS);
        lines.extend(jobs.map(|Waiting { kind, error, jobs }| format!("{jobs} {kind} waiting for a retry: {error}")));
    }
    lines
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let plain = header::HeaderValue::from_static(CONTENT_TYPE);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, plain);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, header::HeaderValue::from_static("nosniff"));
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    response
}

/// The jobs that wait for a retry, as counted last.
type Counted = Mutex<Option<(Instant, Vec<Waiting>)>>;

/// Returns `None` while the database is unavailable, since an unknown count is not zero.
async fn counted_lately(process: &WorkerContext, counted: &Counted) -> Option<Vec<Waiting>> {
    let mut counted = counted.lock().await;
    if counted.as_ref().is_none_or(|(when, _)| when.elapsed() >= COUNT_EVERY) {
        let waiting = process.upkeep(async |connection| queue::waiting(connection).await).await;
        *counted = waiting.ok().map(|waiting| (Instant::now(), waiting));
    }
    counted.as_ref().map(|(_, waiting)| waiting.clone())
}
