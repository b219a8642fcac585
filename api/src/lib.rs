//! The HTTP API: it reads and writes rows, and turns long work into jobs.
//!
//! A request passes, from the outside in: routing, [`http::observe`] (request id, log, metrics, panics),
//! [`http::auth`] (everything under `/dev/crm`), [`http::rate_limit`] of its key, [`http::conditional`], the limits of
//! its kind of route, and its handler, which takes its input through [`extract`] and answers through
//! [`respond`].

pub mod cli;
pub mod extract;
pub mod http;
pub mod openapi;
pub mod pages;
pub mod respond;
pub mod routes;

use std::ops::Deref;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use shared::platform::config::Settings;
use shared::platform::db::{self, Pool, PoolConnection};
use shared::platform::signed_links::Signer;
use shared::queue::notify::Notifier;
use tokio::sync::{OnceCell, Semaphore};
use tokio_util::sync::CancellationToken;

use http::conditional::Known;
use respond::Result;

/// What handlers share. Cloning it gives another handle on the same things: every layer that a
/// request passes has one.
#[derive(Clone, Debug)]
pub struct AppState(Arc<Shared>);

/// The things themselves.
#[derive(Debug)]
pub struct Shared {
    /// Connections to the database.
    pub pool: Pool,
    /// The turns of streamed lists and exports.
    pub streams: Arc<Semaphore>,
    /// The settings of the process.
    pub settings: Settings,
    /// Wakes workers after a commit.
    pub notifier: Notifier,
    /// The API keys that were seen lately.
    pub keys: http::auth::Keys,
    /// The requests that keys have left.
    pub limits: http::rate_limit::Limits,
    signer: OnceCell<Signer>,
    /// Cancelled when the process is told to stop: answers without an end of their own end then.
    pub stopping: CancellationToken,
    /// Cancelled when the time to stop in is over: everything under way ends then.
    pub cut_off: CancellationToken,
}

impl AppState {
    /// The state of a process with these settings. Must be called within a Tokio runtime; the
    /// database need not be there yet.
    ///
    /// # Errors
    /// [`shared::Error::Internal`] for a database URL that is none.
    pub fn new(settings: Settings) -> shared::Result<Self> {
        let pool = db::pool(&settings.database, "crm-api")?;
        // A quarter of the connections streams, so that there is always one for those who want little.
        let streams = (settings.database.max_connections as usize / 4).max(1);
        Ok(Self(Arc::new(Shared {
            streams: Arc::new(Semaphore::new(streams)),
            notifier: Notifier::new(pool.clone()),
            limits: http::rate_limit::Limits::new(settings.api.rate_limit_per_minute),
            pool,
            settings,
            keys: http::auth::Keys::default(),
            signer: OnceCell::new(),
            stopping: CancellationToken::new(),
            cut_off: CancellationToken::new(),
        })))
    }

    /// A connection, for a request that needs no transaction.
    ///
    /// # Errors
    /// [`shared::Error::Unavailable`] when the database is away.
    pub async fn connection(&self) -> shared::Result<PoolConnection> {
        self.pool.acquire().await
    }
}

impl AppState {
    /// What signs and seals for this database; it is read once.
    ///
    /// # Errors
    /// [`shared::Error::Unavailable`] when the database is unavailable.
    pub async fn signer(&self) -> shared::Result<&Signer> {
        self.signer.get_or_try_init(async || Signer::load(&mut *self.connection().await?).await).await
    }
}

impl Deref for AppState {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

/// Everything under this path needs a key, whether it exists or not.
const CRM: &str = "/dev/crm";

/// Every route, behind everything that holds for all requests.
pub fn router(state: AppState) -> Router {
    Router::new()
        .nest(CRM, routes::crm(&state))
        .merge(openapi::operations::routes(&routes::open()))
        .merge(routes::for_people(&state))
        .merge(openapi::docs())
        .fallback(respond::not_found)
        .layer(from_fn_with_state(state.clone(), pass))
        .with_state(state)
}

/// What holds for every request. It is one layer, since each costs every request a copy of those
/// inside of it.
async fn pass(State(state): State<AppState>, request: Request, next: Next) -> Response {
    http::observe::observe(request, |request| async { admit(state, request, next).await.into_response() }).await
}

/// Lets a request in that has a key, if it needs one, and requests left.
async fn admit(state: AppState, mut request: Request, next: Next) -> Result<Response> {
    let opened = http::auth::require_key(&state, &mut request).await?;
    respond::lists::check_url(request.uri())?;
    let cut = request.extensions().get().cloned();
    let request = request.map(|body| http::arrival::in_time(body, &state.settings.api));
    let known = Known::of(&request);
    let checked = http::headers::check(request.headers());
    let answer = async {
        match checked {
            Ok(()) => known.spare(next.run(request).await),
            Err(problem) => problem.into_response(),
        }
    };
    let Some(opened) = opened else { return Ok(answer.await) };
    let answer = db::on_behalf_of(&state.pool, opened.workspace_id, answer);
    let answer = state.limits.limit(opened.key_id, answer).await;
    let mut answer = state.keys.hold(opened.key_id, cut, answer);
    answer.extensions_mut().insert(opened);
    Ok(answer)
}
