//! What operators ask a worker over HTTP: is it alive, is it ready, what did it do?

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use shared::db::CLOCK;
use shared::jobs::{self, Depth};
use shared::listen::AdminPort;
use shared::mail;
use sqlx::PgConnection;
use tokio::sync::{Mutex, Semaphore};

use crate::metrics;
use crate::process::Process;

/// A worker that had no answer from the database for this long is not ready. It asks every 2 s.
const READY_WITHIN: Duration = Duration::from_secs(10);
/// Connections at once; the others wait.
const MAX_CONNECTIONS: usize = 64;
/// Counting a long queue reads much of it, so not every scrape counts anew.
const COUNT_EVERY: Duration = Duration::from_secs(10);
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// Answers until it is dropped.
pub(crate) async fn serve(process: Arc<Process>, port: AdminPort) {
    let listener = port.listener().await;
    if let Ok(address) = listener.local_addr() {
        tracing::info!(%address, "serving metrics and readiness");
    }
    let counted = Arc::new(Counted::default());
    let seats = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(seat) = seats.clone().acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            // Out of file descriptors, most likely.
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
            // Whatever breaks the connection concerns its client only.
            let _ = http.serve_connection(TokioIo::new(stream), answers).await;
            drop(seat);
        });
    }
}

async fn answer(process: &Process, counted: &Counted, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
    }
    match request.uri().path() {
        "/healthz" => text(StatusCode::OK, "ok\n"),
        "/readyz" if process.stopping.is_cancelled() => text(StatusCode::SERVICE_UNAVAILABLE, "stopping\n"),
        "/readyz" if process.pulse.since_answer().is_none_or(|since| since > READY_WITHIN) => {
            text(StatusCode::SERVICE_UNAVAILABLE, "the database does not answer\n")
        }
        "/readyz" if !process.has_schema.load(Relaxed) => {
            text(StatusCode::SERVICE_UNAVAILABLE, "the database lacks migrations: run crm-api migrate\n")
        }
        "/readyz" if CLOCK.is_excessive() => {
            let trouble = CLOCK.trouble().unwrap_or_default();
            text(StatusCode::SERVICE_UNAVAILABLE, format!("{trouble}: nothing is claimed\n"))
        }
        "/readyz" => match process.delivery.as_ref().and_then(|delivery| delivery.trouble()) {
            None => match CLOCK.trouble() {
                None => text(StatusCode::OK, "ok\n"),
                Some(trouble) => text(StatusCode::OK, format!("ok\n{trouble}\n")),
            },
            // Somebody must act, or nothing is ever sent.
            Some(trouble) if trouble.settings => {
                text(StatusCode::SERVICE_UNAVAILABLE, format!("mail waits: {}\n", trouble.why))
            }
            Some(trouble) => text(StatusCode::OK, format!("ok\nmail waits: {}\n", trouble.why)),
        },
        "/metrics" => {
            let depths = counted.depths(process).await;
            text(StatusCode::OK, metrics::render(process, depths.as_ref()))
        }
        _ => text(StatusCode::NOT_FOUND, "there are /healthz, /readyz and /metrics\n"),
    }
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

/// The last count of what waits.
#[derive(Default)]
struct Counted(Mutex<Option<(Instant, Depths)>>);

/// What waits in the queues, and in the outbox.
pub(crate) type Depths = (Vec<Depth>, mail::Depth);

impl Counted {
    /// None while the database cannot be asked: nothing is known then, which is not that nothing waits.
    async fn depths(&self, process: &Process) -> Option<Depths> {
        let mut counted = self.0.lock().await;
        let is_fresh = |(when, _): &(Instant, Depths)| when.elapsed() < COUNT_EVERY;
        if !counted.as_ref().is_some_and(is_fresh) {
            let count = async |connection: &mut PgConnection| {
                Ok((jobs::depths(connection).await?, mail::depth(connection).await?))
            };
            *counted = process.upkeep(count).await.ok().map(|depths| (Instant::now(), depths));
        }
        counted.as_ref().map(|(_, depths)| depths.clone())
    }
}
