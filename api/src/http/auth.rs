//! Authentication with API keys.

mod streams;

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{FromRequestParts, Request};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::response::Response;
use shared::accounts::Key;
use shared::accounts::api_keys::authentication::{self, LastUse, Opened};
use shared::accounts::scopes::Scopes;
use shared::events::{Actor, ActorKind};
use shared::platform::db::{self, Pool};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::http::headers;
use crate::http::observe::RequestId;
use crate::http::peer::Client;
use crate::respond::{Problem, Result};
use crate::{AppState, CRM};
use streams::{OpenStreams, Tracked};

pub(crate) use streams::Cut;

/// How long a verified key is trusted without another look-up. Every process refuses a revoked or
/// expired key after this time at the latest, well below a second.
const TRUSTED: Duration = Duration::from_millis(500);
/// The maximum number of trusted keys in memory. Further keys cost a read with each request.
const MAX_TRUSTED: usize = 10_000;

/// The sender of a request.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The workspace of the key.
    pub workspace_id: Uuid,
    /// The key that the request was sent with.
    pub key_id: Uuid,
    /// What the key may do.
    pub scopes: Scopes,
    /// The session of the console in which the key's holder acts.
    pub session_id: Option<Uuid>,
    /// The request's id, which the jobs it starts carry on.
    pub request_id: String,
}

impl Caller {
    /// The key, or the session of the console, as the actor of a change.
    pub fn actor(&self) -> Actor {
        let (kind, id) = match self.session_id {
            Some(session_id) => (ActorKind::Session, session_id),
            None => (ActorKind::Key, self.key_id),
        };
        Actor { workspace_id: self.workspace_id, kind, id, request_id: Some(self.request_id.clone()) }
    }

    /// Checks that the key may do what needs these scopes.
    ///
    /// # Errors
    /// 403 with the scopes that it lacks.
    pub fn must(&self, needed: Scopes) -> Result<()> {
        Ok(self.scopes.must(needed)?)
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        parts.extensions.get().cloned().ok_or_else(Problem::unauthorized)
    }
}

/// Authenticates a request under `/dev/crm` by its key and adds its [`Caller`]; other requests need
/// no key. Only the path's prefix decides, so unknown paths need a key as well.
///
/// # Errors
/// 400 for two keys, 401, 403 for a suspended workspace, or 503 when the database is unavailable and the key is not trusted from
/// memory.
pub async fn require_key(state: &AppState, request: &mut Request) -> Result<Option<Opened>> {
    let under_crm = request.uri().path().strip_prefix(CRM);
    if !under_crm.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
        return Ok(None);
    }
    headers::check_authorization(request.headers())?;
    let key = bearer(request.headers()).and_then(Key::parse).ok_or_else(Problem::unauthorized)?;
    let client = request.extensions().get().copied();
    let opened = state.keys.open(&state.pool, &key, client).await?.ok_or_else(Problem::unauthorized)?;
    if opened.is_suspended {
        return Err(Problem::suspended());
    }
    let RequestId(request_id) = request.extensions().get().cloned().unwrap_or_default();
    let Opened { workspace_id, key_id, scopes, .. } = opened;
    request.extensions_mut().insert(Caller { workspace_id, key_id, scopes, session_id: None, request_id });
    Ok(Some(opened))
}

/// The key in the `Authorization` header.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, key) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

/// Recently verified keys, and when keys were last used.
#[derive(Debug, Default)]
pub struct Keys {
    /// By hash, so that keys are not kept in memory. Unknown keys are not cached: anyone can send
    /// any number.
    trusted: Mutex<HashMap<[u8; 32], (Opened, Instant)>>,
    /// When and from where keys were last used, until the next flush.
    used: Mutex<HashMap<Uuid, LastUse>>,
    streams: OpenStreams,
}

impl Keys {
    /// Looks a key up in memory, or in the database.
    async fn open(&self, pool: &Pool, key: &Key, client: Option<Client>) -> shared::Result<Option<Opened>> {
        let hash = key.hash();
        // Taken before the read, whose result is not older than this time.
        let now = Instant::now();
        let known = lock(&self.trusted).get(&hash).copied();
        let opened = match known {
            Some((opened, until)) if now < until => Some(opened),
            _ => {
                let opened = authentication::open(&mut *pool.acquire().await?, key).await?;
                self.remember(hash, opened, now);
                opened
            }
        };
        if let Some(opened) = opened {
            let last = LastUse { at: db::now(), from: client.map(|Client(address)| address) };
            lock(&self.used).insert(opened.key_id, last);
        }
        Ok(opened)
    }

    fn remember(&self, hash: [u8; 32], opened: Option<Opened>, now: Instant) {
        let mut trusted = lock(&self.trusted);
        if trusted.len() >= MAX_TRUSTED {
            trusted.retain(|_, (_, until)| now < *until);
        }
        match opened {
            Some(opened) if trusted.len() < MAX_TRUSTED => trusted.insert(hash, (opened, now + TRUSTED)),
            _ => trusted.remove(&hash),
        };
    }

    /// Ends a streamed response when its key becomes invalid, or may do something else than before.
    pub(crate) fn hold(&self, key: &Opened, cut: Option<Cut>, response: Response) -> Response {
        self.streams.hold(key, cut, response)
    }

    /// Cancels a token when the key becomes invalid, until what this returns is dropped.
    pub(crate) fn track(&self, key: &Opened, revoked: CancellationToken) -> Tracked {
        self.streams.track(key, revoked)
    }

    /// Ends the streams of keys that were revoked, have expired or have other scopes.
    pub(crate) async fn cut_revoked(&self, pool: &Pool) {
        self.streams.cut_revoked(pool).await;
    }

    /// Saves when keys were last used, with one statement for all of them.
    pub async fn flush(&self, pool: &Pool) {
        let used: Vec<_> = std::mem::take(&mut *lock(&self.used)).into_iter().collect();
        if used.is_empty() {
            return;
        }
        let written = async { authentication::touch(&mut *pool.acquire().await?, &used).await };
        if let Err(error) = written.await {
            tracing::warn!(%error, "the last use of API keys could not be saved yet");
            let mut later = lock(&self.used);
            for (key_id, last) in used {
                later.entry(key_id).or_insert(last);
            }
        }
    }
}

/// A poisoned lock is used anyway: every change to the maps is a single call.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
