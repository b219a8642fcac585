//! The HTTP API. It reads and writes records, and queues long-running work as jobs.
//!
//! A request passes through these layers, outermost first: routing, compression and headers for
//! other origins, [`http::observe`] (request id, log, metrics, panics), [`http::auth`] (everything
//! under `/dev/crm`), the key's
//! [`http::rate_limit`], [`http::conditional`], the limits of its group of routes, the scopes that its
//! operation needs ([`http::access`]), and its handler, which reads its input through [`extract`] and responds through [`respond`].

pub mod cli;
mod console;
pub mod extract;
pub mod http;
pub mod openapi;
mod operator;
pub mod pages;
pub mod respond;
pub mod routes;

use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use shared::accounts::idempotency;
use shared::error::ErrorClass;
use shared::operations::gauges::Gauges;
use shared::platform::config::Settings;
use shared::platform::db::{self, Pool, PoolConnection};
use shared::platform::signed_links::Signer;
use shared::queue::notify::Notifier;
use shared::webhooks::Sealer;
use tokio::sync::{OnceCell, Semaphore};
use tokio_util::sync::CancellationToken;

use http::compression::Accepted;
use http::conditional::Known;
use http::cors::Cors;
use http::metrics::HttpMetrics;
use http::waits::Preference;
use respond::Result;

/// State shared by all handlers. Clones are cheap: every layer of a request has one.
#[derive(Clone, Debug)]
pub struct AppState(Arc<Shared>);

/// The shared state itself.
#[derive(Debug)]
pub struct Shared {
    /// Database connections.
    pub pool: Pool,
    /// Permits of streamed lists and exports, one for each page being read.
    pub streams: Arc<Semaphore>,
    /// What the process counts.
    pub metrics: Arc<HttpMetrics>,
    /// The gauges of the cluster.
    pub gauges: Gauges,
    /// The process's settings.
    pub settings: Settings,
    /// Wakes workers after a commit.
    pub notifier: Notifier,
    /// Recently verified API keys.
    pub keys: http::auth::Keys,
    /// The feeds that are followed.
    pub(crate) feeds: http::feeds::Feeds,
    /// The rate limits of API keys and addresses.
    pub limits: http::rate_limit::Limits,
    /// The requests that wait for jobs.
    pub waits: http::waits::Waits,
    /// The OpenAPI document, generated on first use.
    pub(crate) document: OnceLock<openapi::Served>,
    signer: OnceCell<Signer>,
    has_earlier_responses: OnceCell<bool>,
    /// Encrypts the secrets of webhooks.
    pub sealer: Sealer,
    /// Cancelled when the process begins to shut down; event streams end then.
    pub stopping: CancellationToken,
    /// Cancelled after the shutdown timeout; all remaining requests are aborted then.
    pub cut_off: CancellationToken,
}

impl AppState {
    /// Creates the state of a process. Must be called within a Tokio runtime; the database may
    /// still be unavailable.
    ///
    /// # Errors
    /// [`shared::Error::Internal`] for an invalid database URL.
    pub fn new(settings: Settings) -> shared::Result<Self> {
        let pool = db::pool(&settings.database, "crm-api")?;
        let metrics = Arc::<HttpMetrics>::default();
        metrics.process.pools.add("requests", &pool);
        // A quarter of the connections, so that streams never block small requests.
        let streams = (settings.database.max_connections as usize / 4).max(1);
        Ok(Self(Arc::new(Shared {
            streams: Arc::new(Semaphore::new(streams)),
            notifier: Notifier::new(pool.clone()),
            limits: http::rate_limit::Limits::new(&settings.api, &metrics),
            gauges: Gauges::new(pool.clone()),
            metrics,
            pool,
            sealer: Sealer::new(&settings.webhooks),
            settings,
            feeds: http::feeds::Feeds::default(),
            keys: http::auth::Keys::default(),
            waits: http::waits::Waits::default(),
            document: OnceLock::new(),
            signer: OnceCell::new(),
            has_earlier_responses: OnceCell::new(),
            stopping: CancellationToken::new(),
            cut_off: CancellationToken::new(),
        })))
    }

    /// Whether the public reaches the API with HTTPS.
    pub(crate) fn is_https(&self) -> bool {
        self.settings.public_url.starts_with("https://")
    }

    /// A connection, for a request that needs no transaction.
    pub async fn connection(&self) -> shared::Result<PoolConnection> {
        self.pool.acquire().await
    }
}

impl AppState {
    /// The signer of links and cursors, whose key is loaded from the database once.
    pub async fn signer(&self) -> shared::Result<&Signer> {
        self.signer.get_or_try_init(async || Signer::load(&mut *self.connection().await?).await).await
    }

    /// Whether 0.1.0 may have stored the response to a request that is repeated now.
    pub(crate) async fn has_earlier_responses(&self) -> shared::Result<bool> {
        let look = async || idempotency::has_earlier(&mut *self.connection().await?).await;
        match self.has_earlier_responses.get_or_try_init(look).await {
            // It is a node without the rows of this request's workspace.
            Err(error) if error.class() == ErrorClass::Node => Ok(false),
            has_earlier => has_earlier.copied(),
        }
    }
}

impl Deref for AppState {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

/// Every path under this prefix needs a key, even unknown ones.
const CRM: &str = "/dev/crm";

/// All routes, within the layers that apply to every request.
pub fn router(state: AppState) -> Router {
    Router::new()
        .nest(CRM, routes::crm(&state))
        .merge(routes::without_key(&state))
        .merge(routes::for_people(&state))
        .merge(console::routes(&state))
        .fallback(respond::not_found)
        .layer(from_fn_with_state(state.clone(), pass))
        .with_state(state)
}

/// The layers of every request, combined into one: each request clones every inner layer.
async fn pass(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let accepted = Accepted::of(&request);
    let cors = Cors::of(&state.settings.api.cors_origins, request.headers());
    let observed = state.clone();
    let answer = http::observe::observe(&observed.metrics, request, |request| async {
        match cors.preflight(&request) {
            Some(answer) => answer,
            None => admit(state, request, next).await.into_response(),
        }
    });
    let answer = answer.await;
    accepted.compress(cors.expose(answer)).await
}

/// Runs a request after checking its key, URL, headers and rate limit.
async fn admit(state: AppState, mut request: Request, next: Next) -> Result<Response> {
    let client = request.extensions().get().copied();
    let opened = http::auth::require_key(&state, &mut request).await.map_err(|error| match error.status() {
        StatusCode::UNAUTHORIZED => state.limits.reject(client, error),
        _ => error,
    })?;
    respond::lists::check_url(request.uri())?;
    let cut = request.extensions().get().cloned();
    let request = request.map(|body| http::arrival::in_time(body, &state.settings.api));
    let known = Known::of(&request);
    let checked = http::headers::check(request.headers()).and_then(|()| Preference::of(&request));
    let answer = async {
        match checked {
            Ok(preference) => known.spare(preference.await_job(&state, opened, next.run(request).await).await),
            Err(problem) => problem.into_response(),
        }
    };
    let Some(opened) = opened else { return Ok(answer.await) };
    let answer = db::on_behalf_of(&state.pool, opened.workspace_id, answer);
    let answer = state.limits.limit(&opened, answer).await;
    let mut answer = state.keys.hold(&opened, cut, answer);
    answer.extensions_mut().insert(opened);
    Ok(answer)
}
