//! A receiver of webhooks that answers as a test says.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

/// How long [`Receiver::until`] waits; generous, since many tests share few cores.
const PATIENCE: Duration = Duration::from_secs(60);

/// A request that arrived.
#[derive(Debug, Clone)]
pub struct Received {
    /// The path and query.
    pub path: String,
    /// The headers, with names in lower case.
    pub headers: HashMap<String, String>,
    /// The body, as text.
    pub body: String,
    /// The body, byte for byte.
    pub bytes: Bytes,
    /// When it arrived.
    pub at: Instant,
}

impl Received {
    /// A header, or nothing.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// If it is not JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("the body is JSON")
    }
}

/// How a request is answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Headers.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Bytes,
    /// How long the answer takes.
    pub after: Duration,
}

impl Answer {
    /// An answer without a body.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Bytes::new(), after: Duration::ZERO }
    }

    /// An answer that never comes.
    #[must_use]
    pub fn never() -> Self {
        Self { after: Duration::from_secs(3_600), ..Self::status(200) }
    }
}

type Script = Box<dyn Fn(&Received) -> Answer + Send + Sync>;

struct State {
    script: Mutex<Script>,
    received: Mutex<Vec<Received>>,
    arrived: Notify,
    connections: AtomicUsize,
    in_flight: AtomicUsize,
    most_in_flight: AtomicUsize,
}

/// A server on this machine that records requests. It answers with 200 unless a script says otherwise.
pub struct Receiver {
    /// Where it listens.
    pub address: SocketAddr,
    state: Arc<State>,
    _served: AbortOnDropHandle<()>,
}

impl Receiver {
    /// Starts one on a free port.
    ///
    /// # Panics
    /// If no port can be bound.
    pub async fn start() -> Self {
        Self::at("127.0.0.1:0").await
    }

    /// Starts one at an address.
    ///
    /// # Panics
    /// If the address cannot be bound.
    pub async fn at(address: &str) -> Self {
        let listener = TcpListener::bind(address).await.expect("a port can be bound");
        let state = Arc::new(State {
            script: Mutex::new(Box::new(|_| Answer::status(200))),
            received: Mutex::default(),
            arrived: Notify::new(),
            connections: AtomicUsize::new(0),
            in_flight: AtomicUsize::new(0),
            most_in_flight: AtomicUsize::new(0),
        });
        let address = listener.local_addr().expect("a bound socket has an address");
        let served = AbortOnDropHandle::new(tokio::spawn(serve(listener, state.clone())));
        Self { address, state, _served: served }
    }

    /// The URL of a path.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Answers from now on as the script says.
    pub fn script(&self, script: impl Fn(&Received) -> Answer + Send + Sync + 'static) {
        *lock(&self.state.script) = Box::new(script);
    }

    /// Answers from now on with a status.
    pub fn answer(&self, status: u16) {
        self.script(move |_| Answer::status(status));
    }

    /// The requests so far.
    #[must_use]
    pub fn received(&self) -> Vec<Received> {
        lock(&self.state.received).clone()
    }

    /// The last request.
    #[must_use]
    pub fn last(&self) -> Option<Received> {
        lock(&self.state.received).last().cloned()
    }

    /// How many requests there were so far.
    #[must_use]
    pub fn count(&self) -> usize {
        lock(&self.state.received).len()
    }

    /// How many connections there were so far.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.state.connections.load(Relaxed)
    }

    /// The most requests that were answered at once.
    #[must_use]
    pub fn most_in_flight(&self) -> usize {
        self.state.most_in_flight.load(Relaxed)
    }

    /// Waits until there were so many requests, and returns them.
    ///
    /// # Panics
    /// If they do not arrive in time.
    pub async fn until(&self, count: usize) -> Vec<Received> {
        let arrive = async {
            loop {
                let arrived = self.state.arrived.notified();
                let received = self.received();
                if received.len() >= count {
                    return received;
                }
                // Also looks again now and then, since a notification may come between the two.
                let _ = tokio::time::timeout(Duration::from_millis(100), arrived).await;
            }
        };
        let arrived = tokio::time::timeout(PATIENCE, arrive).await;
        arrived.unwrap_or_else(|_| panic!("{count} requests did not arrive: {:#?}", self.received()))
    }
}

async fn serve(listener: TcpListener, state: Arc<State>) {
    while let Ok((stream, _)) = listener.accept().await {
        state.connections.fetch_add(1, Relaxed);
        tokio::spawn(connection(stream, state.clone()));
    }
}

async fn connection(stream: TcpStream, state: Arc<State>) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| answer(request, state.clone()));
    // A client that disconnects is not an error.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

/// Counts a request until it is dropped, also by a client that disconnects.
struct InFlight(Arc<State>);

impl InFlight {
    fn begin(state: &Arc<State>) -> Self {
        let now = state.in_flight.fetch_add(1, Relaxed) + 1;
        state.most_in_flight.fetch_max(now, Relaxed);
        Self(state.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}

async fn answer(request: Request<Incoming>, state: Arc<State>) -> Result<Response<Full<Bytes>>, Infallible> {
    let _in_flight = InFlight::begin(&state);
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    let received = Received {
        path: parts.uri.to_string(),
        headers: parts.headers.iter().map(|(name, value)| (name.to_string(), text(value.as_bytes()))).collect(),
        body: text(&body),
        bytes: body,
        at: Instant::now(),
    };
    let answer = lock(&state.script)(&received);
    lock(&state.received).push(received);
    state.arrived.notify_waiters();
    if !answer.after.is_zero() {
        tokio::time::sleep(answer.after).await;
    }
    let mut response = Response::builder().status(answer.status);
    for (name, value) in &answer.headers {
        response = response.header(*name, value);
    }
    Ok(response.body(Full::new(answer.body)).unwrap_or_default())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
